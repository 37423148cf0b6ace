// SPDX-License-Identifier: MIT
// The session around a problem of ten numbers: stopped, killed and taken up it ends with the same bits; what it writes and refuses.
#include "base/memory.h"
#include "base/rng.h"
#include "../files.h"
#include "io/mapping.h"
#include "train/durable.h"
#include "train/session.h"
#include "train/train_config.h"
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 10 };

/* A noisy quadratic with momentum; loss 0.5 |x - 1|^2. */
typedef struct problem {
    float x[N], m[N];
    useconds_t pause_us;
    int64_t fails_at; /* runs out of memory there */
    int64_t full_at;  /* no file can grow from there on */
    int64_t loaded;
    uint64_t identity;
    checkpoint_tensor tensors[2];
    task task;
} problem;

static void limit_files(rlim_t bytes)
{
    struct rlimit l;
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &l), 0);
    l.rlim_cur = bytes < l.rlim_max ? bytes : l.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static swd_status step(void *user, int64_t t, task_report *out, swd_err *err)
{
    problem *p = user;
    float eps[N];
    if (t == p->fails_at) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for 3 GB");
    philox_randn(eps, N, 0, 5, (uint32_t)t);
    out->scale = (int)(t % 2);
    out->rate = 0.1;
    out->value[0] = 0;
    for (int i = 0; i < N; i++) {
        float d = p->x[i] - 1;
        out->value[0] += 0.5 * d * d;
        p->m[i] = 0.9f * p->m[i] + d + 0.01f * eps[i];
        p->x[i] -= 0.1f * p->m[i];
    }
    if (p->pause_us) usleep(p->pause_us);
    if (t == p->full_at) limit_files(0);
    return SWD_OK;
}

static swd_status loaded(void *user, int64_t t, swd_err *err)
{
    (void)err;
    return ((problem *)user)->loaded = t, SWD_OK;
}

static swd_status write_x(const char *path, const problem *p)
{
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f, "%s", path);
    fwrite(p->x, sizeof p->x, 1, f);
    fclose(f);
    return SWD_OK;
}

static swd_status result(void *user, const char *folder, swd_err *err)
{
    char path[512];
    (void)err;
    snprintf(path, sizeof path, "%s/x", folder);
    return write_x(path, user);
}

static swd_status samples(void *user, const char *path, swd_err *err)
{
    (void)err;
    return write_x(path, user);
}

static const int sides[2] = {4, 8};

static const task *task_of(problem *p)
{
    p->tensors[0] = (checkpoint_tensor){"x", tensor1(p->x, SWD_F32, N)};
    p->tensors[1] = (checkpoint_tensor){"m", tensor1(p->m, SWD_F32, N)};
    p->task = (task){.user = p,
                     .n_values = 2,
                     .value_name = {"loss", "never"},
                     .n_scales = 2,
                     .scale_side = sides,
                     .step = step,
                     .identity = p->identity,
                     .tensors = p->tensors,
                     .n_tensors = 2,
                     .loaded = loaded,
                     .result = result,
                     .samples = samples};
    return &p->task;
}

/* ---- a session ---- */

static char dir[64];
static swd_train_params params;
static swd_train_result outcome;
static swd_err err;

typedef struct watcher {
    int64_t stop_at; /* -1: never */
    int calls, checkpoints, sheets;
} watcher;

static int watch(void *user, const swd_train_progress *p)
{
    watcher *w = user;
    w->calls++;
    w->checkpoints += strcmp(p->stage, "checkpoint") == 0;
    w->sheets += strcmp(p->stage, "samples") == 0;
    cr_expect_leq(p->step, p->n_steps);
    return p->step == w->stop_at;
}

static void begin(void)
{
    make_temporary(dir);
    train_config_default(&params);
    snprintf(params.output, sizeof params.output, "%s/run", dir);
    strcpy(params.data[0], "d");
    params.n_data = 1;
    params.steps = 40;
    params.log_every = 5;
    params.checkpoint_every = 10;
    params.batch = 6;
    err = (swd_err){0};
}
static void end(void)
{
    cr_assert_eq(durable_remove(dir, NULL), SWD_OK);
}
TestSuite(session, .init = begin, .fini = end);

static swd_status run(problem *p)
{
    return session_run(&outcome, &(session_args){.params = &params, .task = task_of(p)}, &err);
}

static problem fresh(void)
{
    return (problem){.fails_at = -1, .full_at = -1, .loaded = -1};
}

static char *in_run(const char *name)
{
    static char path[4][1200];
    static int turn;
    char *p = path[turn++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", params.output, name);
    return p;
}

/* The log as text without the seconds, which differ. */
static char *log_text(void)
{
    swd_mapping m;
    cr_assert_eq(mapping_open(&m, in_run("log.jsonl"), 0, &err), SWD_OK, "%s", err.message);
    char *out = calloc(2 * m.size + 1, 1);
    for (const char *at = (const char *)m.data, *stop = at + m.size; at < stop;) {
        const char *eol = memchr(at, '\n', (size_t)(stop - at));
        cr_assert_not_null(eol, "a line that is cut off");
        json_t *o = json_loadb(at, (size_t)(eol - at), 0, NULL);
        cr_assert_not_null(o);
        cr_expect(json_is_number(json_object_get(o, "seconds")));
        cr_expect_null(json_object_get(o, "never"), "not finite: left out");
        json_object_del(o, "seconds");
        char *line = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(9));
        strcat(strcat(out, line), "\n");
        free(line);
        json_decref(o);
        at = eol + 1;
    }
    mapping_close(&m);
    return out;
}

static int64_t lines_of(const char *text)
{
    int64_t n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

Test(session, ends)
{
    problem p = fresh();
    watcher w = {.stop_at = -1};
    params.progress = watch;
    params.user = &w;
    params.sample_every = 15;
    cr_assert_eq(run(&p), SWD_OK, "%s", err.message);
    cr_expect_eq(outcome.step, 40);
    cr_expect_lt(outcome.loss, 0.1);
    cr_expect_eq(w.checkpoints, 4);
    cr_expect_eq(w.sheets, 3);
    cr_expect_eq(w.calls, 1 + 40 + 4 + 3);
    cr_expect_eq(p.loaded, -1);
    char *text = log_text();
    cr_expect_eq(lines_of(text), 8);
    /* step 0 is of scale 4: x = 0, the loss 5 */
    cr_expect_not_null(strstr(text, "\"step\":5"));
    json_t *first = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL);
    double in_all = json_real_value(json_object_get(first, "loss")),
           four = json_real_value(json_object_get(json_object_get(first, "scales"), "4")),
           eight = json_real_value(json_object_get(json_object_get(first, "scales"), "8"));
    cr_expect_float_eq(in_all, (3 * four + 2 * eight) / 5, 1e-7);
    json_decref(first);
    free(text);
    static const char *const there[] = {"config.json",
                                        "loss.svg",
                                        "result/x",
                                        "samples/step-00000015.png",
                                        "samples/step-00000040.png",
                                        "checkpoints/step-00000040/result/x",
                                        "checkpoints/step-00000030/state.json"};
    for (size_t i = 0; i < sizeof there / sizeof there[0]; i++)
        cr_expect_eq(access(in_run(there[i]), R_OK), 0, "%s", there[i]);
    cr_expect_neq(access(in_run("checkpoints/step-00000020"), F_OK), 0, "two are kept");
    cr_expect(str_ends(outcome.adapter, "/run/result"));
    cr_expect(str_ends(outcome.checkpoint, "/step-00000040"));

    /* once more: refused; with resume: nothing is left to do; longer: it goes on */
    problem again = fresh();
    cr_expect_eq(run(&again), SWD_ERR_ARGUMENT);
    cr_expect_not_null(strstr(err.message, "--resume goes on"), "%s", err.message);
    params.resume = 1;
    cr_assert_eq(run(&again), SWD_OK, "%s", err.message);
    cr_expect_eq(again.loaded, 40);
    cr_expect(str_ends(outcome.checkpoint, "/step-00000040"), "%s", outcome.checkpoint);
    cr_expect_arr_eq(again.x, p.x, sizeof p.x);
    params.learning_rate = 1;
    cr_expect_eq(run(&again), SWD_ERR_ARGUMENT);
    cr_expect_not_null(strstr(err.message, "was trained with learning_rate"), "%s", err.message);
    params.learning_rate = 5e-6;
    again.identity = UINT64_MAX;
    cr_expect_eq(run(&again), SWD_ERR_ARGUMENT);
    cr_expect_not_null(strstr(err.message, "was trained on other data"), "%s", err.message);
    params.steps = 50;
    again = fresh();
    cr_assert_eq(run(&again), SWD_OK);
    cr_expect_eq(outcome.step, 50);
    problem longer = fresh();
    snprintf(params.output, sizeof params.output, "%s/other", dir);
    cr_assert_eq(run(&longer), SWD_OK);
    cr_expect_arr_eq(longer.x, again.x, sizeof again.x);
    cr_expect_arr_eq(longer.m, again.m, sizeof again.m);
}

Test(session, stopped)
{
    problem whole = fresh(), p;
    cr_assert_eq(run(&whole), SWD_OK, "%s", err.message);
    snprintf(params.output, sizeof params.output, "%s/stopped", dir);
    params.resume = 1; /* of nothing: begins */
    params.progress = watch;
    for (int64_t at = 0; at < 40; at += 7) { /* by the callback, as Ctrl-C does */
        watcher w = {.stop_at = at};
        params.user = &w;
        p = fresh();
        cr_expect_eq(run(&p), SWD_ERR_CANCELLED);
        cr_expect_eq(outcome.step, at);
        cr_expect_eq(p.loaded, at >= 14 ? at - 7 : -1, "%lld", (long long)p.loaded);
    }
    params.progress = NULL;
    params.minutes = 1e-9; /* one step each */
    p = fresh();
    cr_assert_eq(run(&p), SWD_OK);
    cr_expect_eq(outcome.step, 36);
    cr_expect_str_eq(outcome.adapter, "");
    params.minutes = 0;
    p = fresh();
    cr_assert_eq(run(&p), SWD_OK);
    cr_expect_eq(outcome.step, 40);
    cr_expect_arr_eq(p.x, whole.x, sizeof p.x);
    cr_expect_arr_eq(p.m, whole.m, sizeof p.m);
}

Test(session, killed)
{
    problem whole = fresh(), p;
    cr_assert_eq(run(&whole), SWD_OK, "%s", err.message);
    char *text = log_text();
    snprintf(params.output, sizeof params.output, "%s/killed", dir);
    params.resume = 1;
    int killed = 0;
    for (int round = 0; round < 40; round++) {
        pid_t child = fork();
        if (child == 0) {
            p = fresh();
            p.pause_us = 700;
            _exit(run(&p) == SWD_OK ? 0 : 1);
        }
        int status;
        usleep((useconds_t)(15000 + 7919 * round % 40000));
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        if (WIFEXITED(status)) {
            cr_assert_eq(WEXITSTATUS(status), 0);
            break;
        }
        killed++;
    }
    cr_expect_geq(killed, 2);
    p = fresh();
    cr_assert_eq(run(&p), SWD_OK, "%s", err.message);
    cr_expect_arr_eq(p.x, whole.x, sizeof p.x);
    cr_expect_arr_eq(p.m, whole.m, sizeof p.m);
    char *after = log_text();
    cr_expect_str_eq(after, text, "each line once, the same numbers");
    free(text);
    free(after);
}

Test(session, disk_full)
{
    problem p = fresh();
    p.full_at = 3;
    params.log_every = 100;
    params.checkpoint_every = 2;
    cr_expect_eq(run(&p), SWD_ERR_FILE);
    limit_files(RLIM_INFINITY);
    cr_expect_not_null(strstr(err.message, "log.jsonl cannot be written"), "%s", err.message);
    cr_expect_eq(outcome.step, 4);
    cr_expect(str_ends(outcome.checkpoint, "/step-00000002"), "%s", outcome.checkpoint);
}

Test(session, memory)
{
    problem p = fresh();
    p.fails_at = 3;
    cr_expect_eq(run(&p), SWD_ERR_MEMORY);
    cr_expect_not_null(strstr(err.message, "no memory for 3 GB; lower micro_batch (now 6"), "%s",
                       err.message);
    params.micro_batch = 1;
    params.gradient_checkpointing = 0;
    cr_expect_eq(run(&p), SWD_ERR_MEMORY);
    cr_expect_not_null(strstr(err.message, "set gradient_checkpointing"), "%s", err.message);
    params.gradient_checkpointing = 1;
    params.mode = SWD_TRAIN_FULL;
    cr_expect_eq(run(&p), SWD_ERR_MEMORY);
    cr_expect_not_null(strstr(err.message, "set mode to mmd"), "%s", err.message);
    strcpy(params.output, "/nowhere/at/all");
    cr_expect_eq(run(&p), SWD_ERR_FILE);
}
