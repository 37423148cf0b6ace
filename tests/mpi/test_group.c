// SPDX-License-Identifier: MIT
// The group of processes, in each of them: usage: mpirun -n N test_group MODULE WORK, where WORK is sums, list, or a way to fail. Process 0
// tells. Each check is made by every process; who finds a fault ends with status 1, and so does mpirun.
#include "backend/devices.h"
#include "base/memory.h"
#include "parallel/group.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SMALL = 1000, LARGE = 4200000 }; // more than one piece on its way through the host
static swd_group *group;
static int rank, size;

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (x) break;                                                                              \
        fprintf(stderr, "process %d: %s:%d: %s; %s\n", rank, __FILE__, __LINE__, #x, err.message); \
        return 1;                                                                                  \
    } while (0)
#define OK(call) CHECK((call) == SWD_OK)

/* ---- a device that is host memory, with and without sums of its own ---- */

static swd_err err;
static int joined, sums, broadcasts, left; // calls of the pretended library
static bool here, makes_id, joins;

static swd_status memory(swd_backend *b, swd_memory *out, swd_err *e)
{
    (void)b, (void)e;
    *out = (swd_memory){0};
    return SWD_OK;
}
static bool present(swd_backend *b)
{
    (void)b;
    return here;
}
static int device(swd_backend *b)
{
    (void)b;
    return rank;
}
static int device_shared(swd_backend *b)
{
    (void)b;
    return 0;
}
static swd_status make_id(swd_backend *b, void *id, swd_err *e)
{
    (void)b;
    memset(id, 7, COLLECTIVE_ID_BYTES);
    return makes_id ? SWD_OK : SWD_FAIL(e, SWD_ERR_DEVICE, "no id");
}
static swd_status join(swd_backend *b, const void *id, int r, int n, swd_err *e)
{
    (void)b;
    joined += ((const char *)id)[COLLECTIVE_ID_BYTES - 1] == 7 && r == rank && n == size;
    return joins ? SWD_OK : SWD_FAIL(e, SWD_ERR_DEVICE, "not joined");
}
static void leave(swd_backend *b)
{
    (void)b;
    left++;
}
static swd_status sum(swd_backend *b, swd_tensor t, swd_err *e)
{
    (void)b, (void)e;
    sums += t.ndim == 1;
    return SWD_OK;
}
static swd_status broadcast(swd_backend *b, swd_tensor t, swd_err *e)
{
    (void)b, (void)e;
    broadcasts += t.ndim == 1;
    return SWD_OK;
}
static swd_collective library = {.present = present,
                                 .device = device,
                                 .make_id = make_id,
                                 .join = join,
                                 .leave = leave,
                                 .sum = sum,
                                 .broadcast = broadcast};

// Whole numbers: their sums are exact in any order.
static float mine(int64_t i, int who)
{
    return (float)((i * 7 + who * 13) % 1000);
}
static float of_all(int64_t i)
{
    float s = 0;
    for (int r = 0; r < size; r++) s += mine(i, r);
    return s;
}

// be NULL: the host's memory.
static int check_tensor(swd_backend *be, int64_t n)
{
    float *x;
    OK(swd_malloc(&x, (size_t)n, sizeof *x, "numbers", &err));
    swd_tensor t = tensor2(x, SWD_F32, n / 1000, 1000);
    if (be) t.data = be->alloc(be, tensor_bytes(t));
    for (int summed = 1; summed >= 0; summed--) {
        for (int64_t i = 0; i < n; i++) x[i] = mine(i, rank);
        if (be) OK(be->upload(be, t, x, NULL, &err));
        OK(summed ? group_sum(group, t, be, &err) : group_broadcast_tensor(group, t, be, &err));
        if (be) OK(be->download(be, x, t, NULL, &err));
        if (be) OK(be->synchronize(be, NULL, &err));
        for (int64_t i = 0; i < n; i++) CHECK(x[i] == (summed ? of_all(i) : mine(i, 0)));
    }
    if (be) be->release(be, t.data);
    free(x);
    return 0;
}

// Through the pretended library where all can, else through the host.
static int check_joining(swd_backend *be)
{
    float x[3] = {1, 2, 3};
    const struct {
        bool here, makes_id, joins, own_device;
    } cases[] = {{false, true, true, true},
                 {true, false, true, true},
                 {true, true, false, true},
                 {true, true, true, false},
                 {true, true, true, true}};
    for (int i = 0; i < 5; i++) {
        // one process alone lacks something
        here = cases[i].here || rank;
        makes_id = cases[i].makes_id;
        joins = cases[i].joins || rank != size - 1;
        library.device = cases[i].own_device || size == 1 ? device : device_shared;
        bool all = i == 4 || (i == 3 && size == 1);
        sums = joined = left = 0;
        x[2] = 3;
        OK(group_sum(group, tensor1(x, SWD_F32, 3), be, &err));
        CHECK(x[2] == (all ? 3.0f : 3.0f * (float)size));
        CHECK(sums == all && joined == (i == 2 || all));
        group_leave(group, be);
        CHECK(left == all);
    }
    return 0;
}

// Where this is linked with the emulated GPU.
static int check_gpu(void)
{
    swd_backend *be;
    char note[DEVICE_NOTE_MAX];
    if (!backend_cuda_create) return 0;
    OK(device_open_for(&be, note, "cuda", 1, group_local_rank(group), &err));
    if (check_tensor(be, LARGE)) return 1;
    group_leave(group, be);
    backend_destroy(&be);
    return 0;
}

static int run_sums(void)
{
    swd_backend *be;
    double numbers[2] = {rank, 0.5};
    int64_t x = 100 + rank;
    char word[8] = "";
    void *all;
    size_t total;
    OK(backend_cpu_create(&be, 1, &err));
    OK(group_max(group, &x, &err));
    CHECK(x == 99 + size);
    OK(group_sum_numbers(group, numbers, 2, &err));
    CHECK(numbers[0] == size * (size - 1) / 2.0 && numbers[1] == size / 2.0);
    if (rank == 0) strcpy(word, "hello");
    OK(group_broadcast(group, word, sizeof word, &err));
    CHECK(strcmp(word, "hello") == 0);
    OK(group_gather(&all, &total, group, "abcdefgh", rank * 2, &err)); // process 0 has nothing
    CHECK((int)total == size * (size - 1) && (all != NULL) == (rank == 0));
    char *at = all;
    for (int r = 0; at && r < size; at += 2 * r++)
        CHECK(memcmp(at, "abcdefgh", (size_t)r * 2) == 0);
    free(all);
    CHECK(size == 1 || group_threads(group) >= 1);
    if (check_tensor(NULL, SMALL) || check_tensor(be, SMALL)) return 1;
    be->memory = memory;
    if (check_tensor(be, size > 2 ? SMALL : LARGE)) return 1;
    group_leave(group, be);
    be->collective = &library;
    if (group && check_joining(be)) return 1;
    be->memory = NULL;
    backend_destroy(&be);
    return check_gpu();
}

/* ---- a list ---- */

static int run_list(void)
{
    enum { ITEMS = 200 };
    for (int round = 0; round < 2; round++) {
        double taken[ITEMS] = {0};
        int64_t i;
        OK(group_share(group, &err));
        for (;;) {
            OK(group_next(&i, group, &err));
            CHECK(i >= 0);
            if (i >= ITEMS) break;
            taken[i]++;
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
            group_poke(group);
        }
        OK(group_sum_numbers(group, taken, ITEMS, &err));
        for (int k = 0; k < ITEMS; k++) CHECK(taken[k] == 1);
    }
    // one stops; the others find nothing more, though there are a million
    int64_t i = 0;
    OK(group_share(group, &err));
    if (rank == size - 1) group_stop(group);
    while (i < 1000000) {
        OK(group_next(&i, group, &err));
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return 0;
}

/* ---- failures ---- */

static int run_failure(bool differ)
{
    int64_t x = 0;
    swd_status s = SWD_OK;
    int last = size - 1;
    // the last process fails without a word where the others wait for a sum
    if (rank == last && !differ)
        s = SWD_FAIL(&err, SWD_ERR_FILE, "the disk is full");
    else
        s = rank == last ? group_max(group, &x, &err)
                         : group_sum(group, tensor1(&(float){1}, SWD_F32, 1), NULL, &err);
    CHECK(s == (differ ? SWD_ERR_ARGUMENT : SWD_ERR_FILE));
    if (rank != last)
        CHECK(strstr(err.message, differ ? "do not do the same" : ": the disk is full"));
    if (rank != last) CHECK(group_agree(group, SWD_OK, &err) == s); // nothing is sent any more
    CHECK(group_close(&group, s, &err) == s);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    const char *work = argv[2];
    OK(group_open(&group, argv[1], &err));
    rank = group_rank(group);
    size = group_size(group);
    bool fails = strcmp(work, "fails") == 0, differ = strcmp(work, "differ") == 0;
    if (fails || differ) return run_failure(differ);
    if (strcmp(work, "list") == 0 ? run_list() : run_sums()) return 1;
    OK(group_close(&group, SWD_OK, &err));
    return 0;
}
