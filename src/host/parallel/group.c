// SPDX-License-Identifier: MIT
#include "parallel/group.h"
#include "base/memory.h"
#include "parallel/module.h"
#include "parallel/mpi_table.h"
#include <assert.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { HOST_BYTES = 1 << 24 }; // of a device's tensor on their way through the host
static const int64_t LIST_END = (int64_t)1 << 40; // beyond every list

// What a handshake is for: everybody's must be the same.
enum {
    FOR_AGREEMENT = 1,
    FOR_MAX,
    FOR_NUMBERS,
    FOR_SUM,
    FOR_BROADCAST,
    FOR_GATHER,
    FOR_SHARE,
    FOR_JOINING,
    FOR_END
};

struct swd_group {
    const mpi_table *mpi;
    mpi_place at;
    int threads;
    char note[160];
    bool broken;       // MPI itself has failed
    bool over;         // so has a process, and all know
    swd_status status; // of it ...
    char message[SWD_ERR_MESSAGE_MAX];
    swd_backend *asked; // whether this one sums by itself is known ...
    bool joined;        // ... and so it does
    void *host;         // [HOST_BYTES], once needed
};

/* ---- the handshake ---- */

static swd_status failed(swd_group *g, int error, const char *what, swd_err *err)
{
    if (!error) return SWD_OK;
    char text[512];
    g->mpi->text(error, text, sizeof text);
    g->broken = g->over = true;
    g->status = SWD_ERR_DEVICE;
    snprintf(g->message, sizeof g->message, "MPI, %s: %s", what, text);
    return SWD_FAIL(err, g->status, "%s", g->message);
}
#define MPI(call, what) SWD_TRY(failed(g, g->mpi->call, what, err), err)

// Others may be minutes late, on the same processors.
static int wait_for_all(const swd_group *g)
{
    struct timespec pause = {.tv_nsec = 20000};
    for (int i = 0;; i++) {
        bool done;
        int error = g->mpi->max_test(&done);
        if (error || done) return error;
        if (i < 50) {
            sched_yield();
            continue;
        }
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 2000000) pause.tv_nsec += pause.tv_nsec / 4;
    }
}

// Process `which` tells all how it failed.
static swd_status hear(swd_group *g, int which, swd_status mine, swd_err *err)
{
    struct {
        int status;
        char message[SWD_ERR_MESSAGE_MAX];
    } word = {.status = mine};
    if (which == g->at.rank)
        snprintf(word.message, sizeof word.message, "%s", err ? err->message : "");
    MPI(broadcast(&word, sizeof word, which), "a failure's message");
    g->over = true;
    g->status = (swd_status)word.status;
    snprintf(g->message, sizeof g->message, "process %d: %.900s", which, word.message);
    if (mine != SWD_OK) return mine; // this process has a message of its own
    return SWD_FAIL(err, g->status, "%s", g->message);
}

// *x, which may be NULL, becomes the greatest.
static swd_status handshake(swd_group *g, int purpose, int64_t *x, swd_status mine, swd_err *err)
{
    if (g->over) return mine != SWD_OK ? mine : SWD_FAIL(err, g->status, "%s", g->message);
    int64_t all[4] = {mine != SWD_OK ? g->at.size - g->at.rank : 0, purpose, -purpose, x ? *x : 0};
    MPI(max_begin(all, 4), "a handshake");
    SWD_TRY(failed(g, wait_for_all(g), "a handshake", err), err);
    if (all[0]) return hear(g, g->at.size - (int)all[0], mine, err);
    if (all[1] != -all[2]) {
        g->over = true;
        g->status = SWD_ERR_ARGUMENT;
        snprintf(g->message, sizeof g->message,
                 "the processes do not do the same; were they called in the same way?");
        return SWD_FAIL(err, g->status, "%s", g->message);
    }
    if (x) *x = all[3];
    return SWD_OK;
}

/* ---- opening and closing ---- */

// mpirun may have bound each process to processors of its own, or none.
static swd_status share_processors(swd_group *g, swd_err *err)
{
    cpu_set_t mine, both, *all;
    int sharing = 0;
    CPU_ZERO(&mine);
    (void)sched_getaffinity(0, sizeof mine, &mine);
    SWD_TRY(swd_calloc(&all, (size_t)g->at.local_size, sizeof *all, "processors", err), err);
    swd_status s = failed(g, g->mpi->gather_local(all, &mine, sizeof mine), "processors", err);
    for (int i = 0; i < g->at.local_size && s == SWD_OK; i++) {
        CPU_AND(&both, &mine, &all[i]);
        sharing += CPU_COUNT(&both) > 0;
    }
    free(all);
    int share = (int)sysconf(_SC_NPROCESSORS_ONLN) / g->at.local_size, own = CPU_COUNT(&mine);
    if (sharing == 1 && g->at.local_size > 1 && own < share)
        snprintf(
            g->note, sizeof g->note,
            "mpirun has bound each process to %d processor%s, its share would be %d: --bind-to "
            "none gives it",
            own, own == 1 ? "" : "s", share);
    g->threads = sharing > 1 ? CPU_COUNT(&mine) / sharing : 0;
    if (sharing > 1 && !g->threads) g->threads = 1;
    return s;
}

swd_status group_open(swd_group **out, const char *module, swd_err *err)
{
    swd_group *g;
    *out = NULL;
    if (!module_wanted()) return SWD_OK;
    SWD_TRY(swd_calloc(&g, 1, sizeof *g, "the group of processes", err), err);
    swd_status s = module_load(&g->mpi, module, err);
    if (s == SWD_OK) s = failed(g, g->mpi->begin(&g->at), "its start", err);
    if (s == SWD_OK) s = share_processors(g, err);
    if (s == SWD_OK)
        *out = g;
    else
        free(g);
    return s;
}

swd_status group_close(swd_group **out, swd_status mine, swd_err *err)
{
    swd_group *g = *out;
    if (!g) return mine;
    swd_status s = handshake(g, FOR_END, NULL, mine, err);
    if (!g->broken) {
        swd_status ended = failed(g, g->mpi->end(), "its end", err);
        if (s == SWD_OK) s = ended;
    }
    free(g->host);
    free(g);
    *out = NULL;
    return s;
}

int group_rank(const swd_group *g)
{
    return g ? g->at.rank : 0;
}

int group_size(const swd_group *g)
{
    return g ? g->at.size : 1;
}

int group_local_rank(const swd_group *g)
{
    return g ? g->at.local_rank : 0;
}

int group_threads(const swd_group *g)
{
    return g ? g->threads : 0;
}

const char *group_note(const swd_group *g)
{
    return g ? g->note : "";
}

/* ---- small things ---- */

swd_status group_agree(swd_group *g, swd_status mine, swd_err *err)
{
    return g ? handshake(g, FOR_AGREEMENT, NULL, mine, err) : mine;
}

swd_status group_max(swd_group *g, int64_t *x, swd_err *err)
{
    return g ? handshake(g, FOR_MAX, x, SWD_OK, err) : SWD_OK;
}

swd_status group_sum_numbers(swd_group *g, double *x, int n, swd_err *err)
{
    if (!g) return SWD_OK;
    SWD_TRY(handshake(g, FOR_NUMBERS, NULL, SWD_OK, err), err);
    MPI(sum_doubles(x, n), "a sum");
    return SWD_OK;
}

swd_status group_broadcast(swd_group *g, void *data, size_t bytes, swd_err *err)
{
    if (!g) return SWD_OK;
    SWD_TRY(handshake(g, FOR_BROADCAST, NULL, SWD_OK, err), err);
    MPI(broadcast(data, bytes, 0), "a broadcast");
    return SWD_OK;
}

swd_status group_gather(void **all, size_t *total, swd_group *g, const void *mine, int n,
                        swd_err *err)
{
    int *bytes = NULL;
    *all = NULL;
    *total = 0;
    double *counts;
    size_t size = (size_t)group_size(g);
    SWD_TRY(swd_calloc(&counts, size, sizeof *counts, "what is gathered", err), err);
    counts[group_rank(g)] = n;
    swd_status s = group_sum_numbers(g, counts, (int)size, err);
    if (s == SWD_OK) s = swd_calloc(&bytes, size, sizeof *bytes, "what is gathered", err);
    for (size_t i = 0; i < size && s == SWD_OK; i++) {
        bytes[i] = (int)counts[i];
        *total += (size_t)counts[i];
    }
    if (s == SWD_OK && group_rank(g) == 0) s = swd_malloc(all, *total, 1, "what is gathered", err);
    if (g) s = handshake(g, FOR_GATHER, NULL, s, err);
    if (s == SWD_OK && g) s = failed(g, g->mpi->gather(*all, bytes, mine), "gathering", err);
    if (s == SWD_OK && !g) memcpy(*all, mine, (size_t)n);
    free(counts);
    free(bytes);
    if (s == SWD_OK) return s;
    free(*all);
    *all = NULL;
    return s;
}

/* ---- tensors ---- */

// Whether be's devices sum by themselves, each process on one of its own: where one cannot, none does.
static swd_status join(swd_group *g, swd_backend *be, swd_err *err)
{
    const swd_collective *c = be->collective;
    char id[COLLECTIVE_ID_BYTES] = {0};
    int device = c && c->present(be) ? c->device(be) : -1, *others;
    swd_err unused = {0};
    g->asked = be;
    g->joined = false;
    SWD_TRY(swd_calloc(&others, (size_t)g->at.local_size, sizeof *others, "devices", err), err);
    swd_status s = handshake(g, FOR_JOINING, NULL, SWD_OK, err);
    if (s == SWD_OK)
        s = failed(g, g->mpi->gather_local(others, &device, sizeof device), "devices", err);
    int same = 0;
    for (int i = 0; i < g->at.local_size; i++) same += others[i] == device;
    free(others);
    SWD_TRY(s, err);
    int64_t cannot = device < 0 || same > 1;
    if (!cannot && g->at.rank == 0) cannot = c->make_id(be, id, &unused) != SWD_OK;
    SWD_TRY(handshake(g, FOR_JOINING, &cannot, SWD_OK, err), err);
    if (cannot) return SWD_OK;
    MPI(broadcast(id, sizeof id, 0), "a broadcast");
    cannot = c->join(be, id, g->at.rank, g->at.size, &unused) != SWD_OK;
    SWD_TRY(handshake(g, FOR_JOINING, &cannot, SWD_OK, err), err);
    g->joined = !cannot;
    return SWD_OK;
}

swd_status group_join(swd_group *g, swd_backend *be, swd_err *err)
{
    return !g || !be->memory || g->asked == be ? SWD_OK : join(g, be, err);
}

const char *group_way(const swd_group *g)
{
    return g && g->joined  ? g->asked->collective->name
           : g && g->asked ? "MPI, through the host's memory"
                           : "MPI";
}

typedef struct passage {
    swd_group *g;
    swd_backend *be; // NULL: the host's memory
    bool sum;
} passage;

static swd_status pass_host(const passage *p, swd_tensor t, swd_err *err)
{
    swd_group *g = p->g;
    if (p->sum)
        MPI(sum_floats(t.data, (size_t)tensor_numel(t)), "a sum");
    else
        MPI(broadcast(t.data, tensor_bytes(t), 0), "a broadcast");
    return SWD_OK;
}

// Piece by piece through the host's memory. If the device fails here the others are not left alone: it is said at the end.
static swd_status pass_device(const passage *p, swd_tensor flat, swd_err *err)
{
    swd_group *g = p->g;
    swd_backend *be = p->be;
    swd_status s = SWD_OK;
    int64_t most = HOST_BYTES / (int64_t)dtype_size(flat.dtype);
    for (int64_t i = 0; i < flat.shape[0]; i += most) {
        int64_t n = flat.shape[0] - i < most ? flat.shape[0] - i : most;
        swd_tensor piece = tensor_slice(flat, 0, i, n), host = tensor1(g->host, flat.dtype, n);
        if (s == SWD_OK) s = be->download(be, g->host, piece, NULL, err);
        if (s == SWD_OK) s = be->synchronize(be, NULL, err);
        SWD_TRY(pass_host(p, host, err), err);
        if (s == SWD_OK) s = be->upload(be, piece, g->host, NULL, err);
    }
    if (s == SWD_OK) s = be->synchronize(be, NULL, err);
    return group_agree(g, s, err);
}

static swd_status pass(swd_group *g, swd_tensor t, swd_backend *be, bool sum, swd_err *err)
{
    bool device = be && be->memory; // it has some of its own
    swd_status s = SWD_OK;
    if (device) SWD_TRY(group_join(g, be, err), err);
    if (device && !g->joined && !g->host) s = swd_malloc(&g->host, HOST_BYTES, 1, "sums", err);
    SWD_TRY(handshake(g, sum ? FOR_SUM : FOR_BROADCAST, NULL, s, err), err);
    swd_tensor flat = tensor1(t.data, t.dtype, tensor_numel(t));
    passage p = {g, be, sum};
    if (!device) return pass_host(&p, flat, err);
    if (!g->joined) return pass_device(&p, flat, err);
    return sum ? be->collective->sum(be, flat, err) : be->collective->broadcast(be, flat, err);
}

swd_status group_sum(swd_group *g, swd_tensor t, swd_backend *be, swd_err *err)
{
    assert(t.dtype == SWD_F32 && tensor_contiguous(t));
    return g ? pass(g, t, be, true, err) : SWD_OK;
}

swd_status group_broadcast_tensor(swd_group *g, swd_tensor t, swd_backend *be, swd_err *err)
{
    assert(tensor_contiguous(t));
    return g ? pass(g, t, be, false, err) : SWD_OK;
}

void group_leave(swd_group *g, swd_backend *be)
{
    if (!g || g->asked != be) return;
    if (g->joined) be->collective->leave(be);
    g->asked = NULL;
    g->joined = false;
}

/* ---- a list that is shared out ---- */

swd_status group_share(swd_group *g, swd_err *err)
{
    int64_t was;
    if (!g) return SWD_OK;
    SWD_TRY(handshake(g, FOR_SHARE, NULL, SWD_OK, err), err);
    if (g->at.rank == 0) {
        MPI(counter_add(&was, 0), "the list");
        MPI(counter_add(&was, -was), "the list");
    }
    return handshake(g, FOR_SHARE, NULL, SWD_OK, err);
}

swd_status group_next(int64_t *out, swd_group *g, swd_err *err)
{
    MPI(counter_add(out, 1), "the list");
    return SWD_OK;
}

void group_stop(swd_group *g)
{
    int64_t was;
    if (g && !g->broken) (void)g->mpi->counter_add(&was, LIST_END);
}

swd_status group_stopped(bool *out, swd_group *g, swd_err *err)
{
    int64_t at = 0;
    if (g) MPI(counter_add(&at, 0), "the list");
    *out = at >= LIST_END;
    return SWD_OK;
}

void group_poke(swd_group *g)
{
    if (g && !g->broken) (void)g->mpi->poke();
}
