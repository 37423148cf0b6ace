// SPDX-License-Identifier: MIT
// Checkpoints: exact, whole or not there, whatever kills the process; batches: the same for the same step, every picture once an epoch.
#include "base/memory.h"
#include "base/rng.h"
#include "../files.h"
#include "train/batches.h"
#include "train/checkpoint.h"
#include "train/durable.h"
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64], said[2048];
static float weight[6], moment[8];
static uint16_t narrow[4];

static void hear(void *ctx, swd_log_level level, const char *text)
{
    (void)ctx, (void)level;
    strncat(said, text, sizeof said - strlen(said) - 1);
}
static const swd_log log_all = {.level = SWD_LOG_DEBUG, .write = hear};

static void make_dir(void)
{
    make_temporary(dir);
}
static void remove_dir(void)
{
    cr_assert_eq(durable_remove(dir, NULL), SWD_OK);
}
TestSuite(checkpoint, .init = make_dir, .fini = remove_dir);

enum { N_TENSORS = 3 };

static const checkpoint_tensor *tensors(void)
{
    static checkpoint_tensor t[N_TENSORS];
    t[0] = (checkpoint_tensor){"a.weight", tensor2(weight, SWD_F32, 2, 3)};
    t[1] = (checkpoint_tensor){"a.moment", tensor1(moment, SWD_F32, 8)};
    t[2] = (checkpoint_tensor){"b", tensor1(narrow, SWD_BF16, 4)};
    return t;
}

/* What a step holds. */
static void set_step(int64_t step)
{
    philox_randn(weight, 6, 0, (uint64_t)step, 0);
    philox_randn(moment, 8, 0, (uint64_t)step, 1);
    for (int i = 0; i < 4; i++) narrow[i] = (uint16_t)(step * 7 + i);
}

static bool holds_step(int64_t step)
{
    float w[6], m[8];
    uint16_t n[4];
    memcpy(w, weight, sizeof w), memcpy(m, moment, sizeof m), memcpy(n, narrow, sizeof n);
    set_step(step);
    return memcmp(w, weight, sizeof w) == 0 && memcmp(m, moment, sizeof m) == 0 &&
           memcmp(n, narrow, sizeof n) == 0;
}

static swd_status put_extra(void *user, const char *path, swd_err *err)
{
    char file[256];
    snprintf(file, sizeof file, "%s/adapter", path);
    cr_assert_eq(mkdir(file, 0777), 0);
    strcat(file, "/note");
    FILE *f = fopen(file, "w");
    fprintf(f, "%s", (const char *)user);
    fclose(f);
    (void)err;
    return SWD_OK;
}

static swd_status save(int64_t step, int keep, swd_backend *be, char **path, swd_err *err)
{
    checkpoint_args a = {.dir = dir,
                         .keep = keep,
                         .tensors = tensors(),
                         .n_tensors = N_TENSORS,
                         .be = be,
                         .extra = put_extra,
                         .user = "here"};
    checkpoint_state s = {.step = step, .config = "{\"a\": 1}"};
    checkpoint_put(&s, "samples", step * 1000);
    checkpoint_put(&s, "largest", INT64_MAX);
    checkpoint_put(&s, "least", INT64_MIN);
    set_step(step);
    return checkpoint_save(path, &a, &s, err);
}

static swd_status load(const char *path, swd_err *err)
{
    checkpoint_args a = {.tensors = tensors(), .n_tensors = N_TENSORS};
    memset(weight, 0xff, sizeof weight);
    return checkpoint_load(path, &a, err);
}

static char *newest(void)
{
    char *path;
    swd_err err = {0};
    said[0] = '\0';
    cr_assert_eq(checkpoint_newest(&path, dir, &log_all, &err), SWD_OK, "%s", err.message);
    return path;
}

Test(checkpoint, saved_and_loaded)
{
    swd_err err = {0};
    char *path, *first = NULL, file[256];
    checkpoint_state s;
    cr_expect_null(newest());
    for (int64_t step = 10; step <= 40; step += 10)
        cr_assert_eq(save(step, 2, NULL, step == 40 ? &first : NULL, &err), SWD_OK, "%s",
                     err.message);
    path = newest();
    cr_assert_str_eq(path, first);
    cr_expect(str_ends(path, "/step-00000040"), "%s", path);
    snprintf(file, sizeof file, "%s/adapter/note", path);
    cr_expect_eq(access(file, R_OK), 0);
    cr_assert_eq(load(path, &err), SWD_OK, "%s", err.message);
    cr_expect(holds_step(40));
    cr_assert_eq(checkpoint_read_state(&s, path, &err), SWD_OK, "%s", err.message);
    int64_t v;
    cr_expect_eq(s.step, 40);
    cr_expect_str_eq(s.config, "{\"a\": 1}");
    cr_expect(checkpoint_get(&v, &s, "samples") && v == 40000);
    cr_expect(checkpoint_get(&v, &s, "largest") && v == INT64_MAX);
    cr_expect(checkpoint_get(&v, &s, "least") && v == INT64_MIN);
    cr_expect_not(checkpoint_get(&v, &s, "other"));
    checkpoint_state_free(&s);
    /* two are left; one of a step that is there already stays */
    snprintf(file, sizeof file, "ls %s | tr '\\n' ' ' | grep -qx 'step-00000030 step-00000040 '",
             dir);
    cr_expect_eq(system(file), 0);
    cr_expect_eq(save(40, 2, NULL, NULL, &err), SWD_OK);
    /* through a backend */
    swd_backend *be;
    cr_assert_eq(backend_cpu_create(&be, 1, &err), SWD_OK);
    cr_assert_eq(save(50, 1, be, NULL, &err), SWD_OK);
    backend_destroy(&be);
    free(path);
    path = newest();
    cr_assert_eq(load(path, &err), SWD_OK);
    cr_expect(holds_step(50));
    free(path);
    free(first);
}

static void patch(const char *path, const char *name, long at)
{
    char file[256];
    snprintf(file, sizeof file, "%s/%s", path, name);
    FILE *f = fopen(file, "r+b");
    cr_assert_not_null(f, "%s", file);
    fseek(f, at, at < 0 ? SEEK_END : SEEK_SET);
    int b = fgetc(f);
    fseek(f, -1, SEEK_CUR);
    fputc(b ^ 1, f);
    fclose(f);
}

Test(checkpoint, damaged)
{
    swd_err err = {0};
    cr_assert_eq(save(1, 9, NULL, NULL, &err), SWD_OK);
    cr_assert_eq(save(2, 9, NULL, NULL, &err), SWD_OK);
    cr_assert_eq(save(3, 9, NULL, NULL, &err), SWD_OK);
    char *path = newest(), other[256];
    patch(path, "state.safetensors", -3);
    cr_expect_eq(load(path, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "is damaged"), "%s", err.message);
    free(path);
    path = newest();
    cr_expect(str_ends(path, "step-00000002"));
    cr_expect_not_null(strstr(said, "step-00000003 is passed over"), "%s", said);
    patch(path, "state.json", 0);
    free(path);
    path = newest();
    cr_expect(str_ends(path, "step-00000001"));
    free(path);
    snprintf(other, sizeof other, "%s/step-00000001/state.safetensors", dir);
    cr_assert_eq(unlink(other), 0);
    cr_expect_null(newest());
    /* a damaged one is replaced; a later one that is damaged, too, takes no place from those that stay */
    cr_assert_eq(save(2, 1, NULL, NULL, &err), SWD_OK);
    path = newest();
    cr_assert_not_null(path);
    cr_assert_eq(load(path, &err), SWD_OK);
    cr_expect(holds_step(2));

    /* other tensors than these */
    checkpoint_tensor t[N_TENSORS + 1];
    checkpoint_args a = {.tensors = t, .n_tensors = N_TENSORS};
    memcpy(t, tensors(), N_TENSORS * sizeof *t);
    t[1].t = tensor2(moment, SWD_F32, 2, 4);
    cr_expect_eq(checkpoint_load(path, &a, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "a.moment is F32[8]; this run has f32[2,4]"), "%s",
                       err.message);
    t[1] = tensors()[1];
    t[2].name = "c";
    cr_expect_eq(checkpoint_load(path, &a, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "no tensor c"), "%s", err.message);
    a.n_tensors = 2;
    cr_expect_eq(checkpoint_load(path, &a, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "has 3 tensors; this run has 2"));
    free(path);
}

Test(checkpoint, hostile_state)
{
    static const char *const wrong[][2] = {
        {"", "empty"},
        {"{", "malformed"},
        {"{\"version\": 2}", "version 2"},
        {"{\"version\": 1, \"sum\": \"0000000000000000\"}", "step is missing"},
        {"{\"version\": 1, \"step\": -5}", "outside"},
        {"{\"version\": 1, \"step\": 5, \"sum\": \"xyz\"}", "16 hexadecimal"},
        {"{\"version\": 1, \"step\": 5, \"sum\": \"0000000000000000\", \"counters\": {\"a\": 1.5}}",
         "counters"},
        {"{\"version\": 1, \"step\": 5, \"sum\": \"0000000000000000\", \"counters\": "
         "{\"a name that is far too long for a counter\": 1}}",
         "counters"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        swd_err err = {0};
        checkpoint_state s;
        uint64_t sum;
        cr_expect_eq(checkpoint_parse_state(&s, &sum, "x", wrong[i][0], strlen(wrong[i][0]), &err),
                     SWD_ERR_FILE);
        cr_expect_not_null(strstr(err.message, wrong[i][1]), "%s: %s", wrong[i][1], err.message);
        cr_expect_null(s.config);
    }
    swd_err err = {0};
    char *path;
    cr_expect_eq(checkpoint_newest(&path, "/dev/null", NULL, &err), SWD_ERR_FILE);
    strcpy(said, dir);
    strcpy(dir, "/nowhere/at/all");
    cr_expect_eq(save(1, 1, NULL, NULL, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "cannot be made"), "%s", err.message);
    strcpy(dir, said);
}

/* A child saves one checkpoint after the other and is killed somewhere in between; the newest is whole and of a step that was begun,
 * and no older than one that the child has reported. */
Test(checkpoint, killed)
{
    int64_t reported = 0;
    for (int round = 0; round < 25; round++) {
        int ends[2];
        cr_assert_eq(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            swd_err err = {0};
            close(ends[0]);
            for (int64_t step = reported + 1;; step++) {
                if (save(step, 2, NULL, NULL, &err) != SWD_OK) _exit(1);
                if (write(ends[1], &step, sizeof step) != sizeof step) _exit(1);
            }
        }
        close(ends[1]);
        usleep((useconds_t)(8000 + 37777 * round % 90001)); /* a save takes 10 to 40 ms */
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        cr_assert(WIFSIGNALED(status));
        int64_t step;
        while (read(ends[0], &step, sizeof step) == sizeof step) reported = step;
        close(ends[0]);
        char *path = newest();
        swd_err err = {0};
        if (!reported && !path) continue;
        cr_assert_not_null(path);
        cr_assert_eq(load(path, &err), SWD_OK, "%s", err.message);
        checkpoint_state s;
        cr_assert_eq(checkpoint_read_state(&s, path, &err), SWD_OK);
        cr_expect_geq(s.step, reported);
        cr_expect_leq(s.step, reported + 1);
        cr_expect(holds_step(s.step));
        reported = s.step;
        checkpoint_state_free(&s);
        free(path);
    }
    cr_expect_gt(reported, 5, "the child got somewhere: %lld", (long long)reported);
    /* nothing is left over after the next one */
    swd_err err = {0};
    char command[128];
    cr_assert_eq(save(reported + 9, 2, NULL, NULL, &err), SWD_OK);
    snprintf(command, sizeof command, "test $(ls %s | wc -l) = 2", dir);
    cr_expect_eq(system(command), 0);
}

/* ---- batches ---- */

Test(batches, each_once_an_epoch)
{
    enum { N = 7, BATCH = 4, PER_STEP = 3, SCALES = 5, STEPS = 70 };
    batches b, c;
    int64_t taken[STEPS][PER_STEP][BATCH];
    int count[N] = {0}, moved = 0, dropped = 0;
    cr_assert_eq(batches_create(&b, N, BATCH, PER_STEP, SCALES, 11, NULL), SWD_OK);
    for (int t = 0, at = 0; t < STEPS; t++) {
        cr_expect_eq(batches_scale(&b, t), t % SCALES);
        for (int j = 0; j < PER_STEP; j++)
            for (int i = 0; i < BATCH; i++, at++) {
                int64_t x = taken[t][j][i] = batches_at(&b, t, j, i);
                cr_assert(x >= 0 && x < N);
                count[x]++;
                moved += x != at % N;
                double u = batches_uniform(&b, t, j, i, 1);
                cr_expect(u >= 0 && u < 1);
                dropped += u < 0.25;
                cr_expect_neq(batches_bits(&b, t, j, i, 1), batches_bits(&b, t, j, i, 2));
                cr_expect_eq(batches_draw(&b, t, j, i), (uint32_t)at);
                if (at % N == N - 1)
                    for (int k = 0; k < N; k++) cr_expect_eq(count[k], at / N + 1);
            }
    }
    cr_expect_gt(moved, STEPS * PER_STEP * BATCH / 2);
    /* 840 draws of probability 1/4: 210, standard deviation 12.5 */
    cr_expect(dropped > 147 && dropped < 273, "%d", dropped);
    /* from the middle, backwards, the same */
    cr_assert_eq(batches_create(&c, N, BATCH, PER_STEP, SCALES, 11, NULL), SWD_OK);
    for (int t = STEPS - 1; t >= 0; t -= 9)
        for (int j = 0; j < PER_STEP; j++)
            for (int i = 0; i < BATCH; i++) cr_expect_eq(batches_at(&c, t, j, i), taken[t][j][i]);
    batches_destroy(&c);
    cr_assert_eq(batches_create(&c, N, BATCH, PER_STEP, SCALES, 12, NULL), SWD_OK);
    int same = 0;
    for (int t = 0; t < STEPS; t++)
        for (int i = 0; i < BATCH; i++) same += batches_at(&c, t, 0, i) == taken[t][0][i];
    cr_expect_lt(same, STEPS * BATCH / 2, "another seed, another order: %d", same);
    batches_destroy(&b);
    batches_destroy(&c);
}
