// SPDX-License-Identifier: MIT
#include "train/session.h"
#include "base/clock.h"
#include "base/memory.h"
#include "image/image.h"
#include "parallel/group.h"
#include "train/durable.h"
#include "train/session_log.h"
#include "train/train_config.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

typedef struct session {
    const swd_train_params *p;
    const task *task;
    const swd_log *log;
    swd_group *group;
    bool writes;                /* process 0 */
    char *checkpoints, *config; /* folder; text */
    char *newest;               /* checkpoint; NULL: none yet */
    session_log *lines;
    int64_t step; /* done */
    double loss, rate, step_s, started_s;
    int scale;
    bool stopped; /* by the callback */
    swd_err *err;
} session;

/* ---- folders ---- */

static swd_status make_folder(const char *path, swd_err *err)
{
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && path_is_dir(path))) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be made: %s", path, strerror(errno));
}

static swd_status check_checkpoint(const swd_train_params *p, const char *path, swd_err *err)
{
    checkpoint_state state;
    if (!p->resume)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "%s is there: --resume goes on from it; or choose another output folder",
                        path);
    SWD_TRY(checkpoint_read_state(&state, path, err), err);
    swd_status s = train_config_agrees(p, path, state.config, err);
    checkpoint_state_free(&state);
    return s;
}

swd_status session_prepare(const swd_train_params *p, swd_err *err)
{
    char *dir = NULL, *newest = NULL;
    SWD_TRY(make_folder(p->output, err), err);
    SWD_TRY(path_join(&dir, p->output, "checkpoints", err), err);
    swd_status s = checkpoint_newest(&newest, dir, NULL, err);
    if (s == SWD_OK && newest) s = check_checkpoint(p, newest, err);
    free(newest);
    free(dir);
    return s;
}

/* ---- progress ---- */

static void tell(session *s, const char *stage)
{
    const swd_train_params *p = s->p;
    bool training = strcmp(stage, "train") == 0;
    swd_train_progress report = {
        .size = sizeof report,
        .stage = stage,
        .step = s->step,
        .n_steps = p->steps,
        .scale = s->task->scale_side[s->scale],
        .loss = s->loss,
        .rate = s->rate,
        .left_s = training && s->step_s > 0 ? s->step_s * (double)(p->steps - s->step) : -1};
    if (p->progress && p->progress(p->user, &report)) s->stopped = true;
}

/* ---- processes ---- */

/* Everybody goes on from the bits of process 0. */
static swd_status share_state(session *s)
{
    const task *t = s->task;
    if (group_size(s->group) == 1) return SWD_OK;
    SWD_TRY(group_broadcast(s->group, &s->step, sizeof s->step, s->err), s->err);
    for (int i = 0; i < t->n_tensors; i++)
        SWD_TRY(group_broadcast_tensor(s->group, t->tensors[i].t, t->be, s->err), s->err);
    return s->writes ? SWD_OK : t->loaded(t->user, s->step, s->err);
}

static swd_status check_identity(const session *s)
{
    uint64_t first = s->task->identity;
    SWD_TRY(group_broadcast(s->group, &first, sizeof first, s->err), s->err);
    if (first == s->task->identity) return SWD_OK;
    return SWD_FAIL(s->err, SWD_ERR_ARGUMENT,
                    "the data or the model are not those of process 0; every process must find the "
                    "same, and the same cache");
}

/* Whoever is asked to stop, or finds that time is up, stops all. */
static swd_status agree_to_stop(session *s, bool *over)
{
    enum { GO_ON, OVER, STOPPED };
    int64_t what = s->stopped ? STOPPED : *over ? OVER : GO_ON;
    SWD_TRY(group_max(s->group, &what, s->err), s->err);
    s->stopped = what == STOPPED;
    *over = what == OVER;
    return SWD_OK;
}

/* ---- checkpoints ---- */

static swd_status put_result(void *user, const char *path, swd_err *err)
{
    session *s = user;
    char *folder = NULL;
    SWD_TRY(path_join(&folder, path, "result", err), err);
    swd_status st = make_folder(folder, err);
    if (st == SWD_OK) st = s->task->result(s->task->user, folder, err);
    free(folder);
    return st;
}

static checkpoint_args args_of(session *s)
{
    return (checkpoint_args){.dir = s->checkpoints,
                             .keep = s->p->keep,
                             .tensors = s->task->tensors,
                             .n_tensors = s->task->n_tensors,
                             .be = s->task->be,
                             .extra = put_result,
                             .user = s,
                             .log = s->log};
}

static swd_status save(session *s)
{
    char *path;
    SWD_TRY(share_state(s), s->err);
    if (!s->writes) return SWD_OK;
    checkpoint_args a = args_of(s);
    checkpoint_state state = {.step = s->step, .config = s->config};
    checkpoint_put(&state, "identity", (int64_t)s->task->identity);
    tell(s, "checkpoint");
    SWD_TRY(session_log_line(s->lines, s->step, s->err), s->err);
    SWD_TRY(checkpoint_save(&path, &a, &state, s->err), s->err);
    free(s->newest);
    s->newest = path;
    return SWD_OK;
}

/* Tensors and step of the newest checkpoint, if there is one. */
static swd_status load(session *s)
{
    char *path = NULL;
    checkpoint_state state = {0};
    SWD_TRY(checkpoint_newest(&path, s->checkpoints, s->log, s->err), s->err);
    if (!path) return SWD_OK;
    checkpoint_args a = args_of(s);
    int64_t identity;
    swd_status st = checkpoint_read_state(&state, path, s->err);
    if (st == SWD_OK &&
        (!checkpoint_get(&identity, &state, "identity") || (uint64_t)identity != s->task->identity))
        st =
            SWD_FAIL(s->err, SWD_ERR_ARGUMENT,
                     "%s was trained on other data or another model, which may have changed since; "
                     "start in another output folder",
                     path);
    if (st == SWD_OK) st = checkpoint_load(path, &a, s->err);
    if (st == SWD_OK) {
        s->step = state.step;
        s->newest = path;
        path = NULL;
        log_print(s->log, SWD_LOG_INFO, "going on from %s", s->newest);
        st = s->task->loaded(s->task->user, s->step, s->err);
    }
    checkpoint_state_free(&state);
    free(path);
    return st;
}

/* ---- steps ---- */

/* What to lower, by what is not low yet. */
swd_status session_tell_memory(const swd_train_params *p, swd_err *err)
{
    int share = p->batch / group_size(p->group), at_once = p->micro_batch ? p->micro_batch : share;
    char why[SWD_ERR_MESSAGE_MAX], what[128];
    if (at_once > 1)
        snprintf(what, sizeof what, "lower micro_batch (now %d at once; any divisor of %s %d)",
                 at_once, share == p->batch ? "batch" : "its share of a batch,", share);
    else if (!p->gradient_checkpointing)
        snprintf(what, sizeof what, "set gradient_checkpointing to true");
    else if (p->mode == SWD_TRAIN_FULL)
        snprintf(what, sizeof what, "set mode to mmd, which needs no fake model");
    else
        snprintf(what, sizeof what, "lower max_tokens or lora_rank, or use smaller scales");
    snprintf(why, sizeof why, "%s", err ? err->message : "");
    return SWD_FAIL(err, SWD_ERR_MEMORY, "%.700s; %s", why, what);
}

static swd_status one_step(session *s)
{
    task_report r = {0};
    for (int i = 0; i < TASK_VALUES_MAX; i++) r.value[i] = NAN;
    double begin = clock_now_s();
    swd_status st = s->task->step(s->task->user, s->step, &r, s->err);
    if (st == SWD_ERR_MEMORY) return session_tell_memory(s->p, s->err);
    SWD_TRY(st, s->err);
    double took = clock_now_s() - begin;
    s->step++;
    s->loss = r.value[0];
    s->rate = r.rate;
    s->scale = r.scale;
    s->step_s = s->step_s > 0 ? 0.95 * s->step_s + 0.05 * took : took;
    if (s->writes) session_log_add(s->lines, &r, took);
    return SWD_OK;
}

static swd_status sheet(session *s)
{
    char *folder = NULL, *path = NULL;
    tell(s, "samples");
    SWD_TRY(path_join(&folder, s->p->output, "samples", s->err), s->err);
    swd_status st = make_folder(folder, s->err);
    if (st == SWD_OK)
        st = swd_asprintf(&path, s->err, "%s/step-%08lld.png", folder, (long long)s->step);
    if (st == SWD_OK) st = s->task->samples(s->task->user, path, s->err);
    free(folder);
    free(path);
    return st;
}

static bool due(int64_t step, int64_t every)
{
    return every > 0 && step % every == 0;
}

/* What people look at. */
static swd_status show(session *s, bool last)
{
    const swd_train_params *p = s->p;
    if (due(s->step, p->log_every) || last) {
        SWD_TRY(session_log_line(s->lines, s->step, s->err), s->err);
        SWD_TRY(session_log_plot(s->lines, s->err), s->err);
    }
    if (s->task->samples && (due(s->step, p->sample_every) || (last && p->sample_every)))
        return sheet(s);
    return SWD_OK;
}

static swd_status loop(session *s)
{
    const swd_train_params *p = s->p;
    bool over = false;
    tell(s, "train");
    SWD_TRY(agree_to_stop(s, &over), s->err);
    while (s->step < p->steps && !s->stopped && !over) {
        SWD_TRY(one_step(s), s->err);
        bool last = s->step == p->steps;
        over = p->minutes > 0 && clock_now_s() - s->started_s > p->minutes * 60;
        if (s->writes) SWD_TRY(show(s, last), s->err);
        tell(s, "train");
        SWD_TRY(agree_to_stop(s, &over), s->err);
        if ((due(s->step, p->checkpoint_every) || last) && !s->stopped && !over)
            SWD_TRY(save(s), s->err);
    }
    if ((!s->stopped && !over) || s->step == 0) return SWD_OK;
    SWD_TRY(save(s), s->err);
    return s->writes ? session_log_plot(s->lines, s->err) : SWD_OK;
}

/* ---- the whole ---- */

static swd_status write_result(const session *s, char *adapter)
{
    char *folder = NULL;
    SWD_TRY(path_join(&folder, s->p->output, "result", s->err), s->err);
    swd_status st = make_folder(folder, s->err);
    if (st == SWD_OK) st = s->task->result(s->task->user, folder, s->err);
    if (st == SWD_OK) snprintf(adapter, SWD_TRAIN_PATH_MAX, "%s", folder);
    free(folder);
    return st;
}

static swd_status begin(session *s)
{
    char *config = NULL, *lines = NULL, *curves = NULL;
    const char *dir = s->p->output;
    SWD_TRY(check_identity(s), s->err);
    SWD_TRY(path_join(&s->checkpoints, dir, "checkpoints", s->err), s->err);
    SWD_TRY(train_config_write(&s->config, s->p, s->err), s->err);
    if (s->writes) SWD_TRY(load(s), s->err);
    SWD_TRY(share_state(s), s->err);
    if (!s->writes) return SWD_OK;
    swd_status st = path_join(&config, dir, "config.json", s->err);
    if (st == SWD_OK) st = image_write_bytes(config, s->config, strlen(s->config), s->err);
    if (st == SWD_OK) st = path_join(&lines, dir, "log.jsonl", s->err);
    if (st == SWD_OK) st = path_join(&curves, dir, "loss.svg", s->err);
    if (st == SWD_OK) st = session_log_open(&s->lines, lines, curves, s->task, s->step, s->err);
    free(config);
    free(lines);
    free(curves);
    return st;
}

static swd_status ended(const session *s, swd_err *err)
{
    if (s->stopped && s->step < s->p->steps)
        return SWD_FAIL(err, SWD_ERR_CANCELLED, "stopped at step %lld%s%s%s", (long long)s->step,
                        s->newest ? "; " : "", s->newest ? s->newest : "",
                        s->newest ? " has it all, --resume goes on" : "");
    return SWD_OK;
}

swd_status session_run(swd_train_result *out, const session_args *args, swd_err *err)
{
    swd_train_result r = {.size = sizeof r};
    session s = {.p = args->params,
                 .task = args->task,
                 .log = args->log,
                 .group = args->params->group,
                 .writes = group_rank(args->params->group) == 0,
                 .loss = NAN,
                 .started_s = clock_now_s(),
                 .err = err};
    swd_status st = s.writes ? session_prepare(s.p, err) : SWD_OK;
    if (st == SWD_OK) st = begin(&s);
    if (st == SWD_OK) st = loop(&s);
    if (st == SWD_OK && s.writes && s.step == s.p->steps) st = write_result(&s, r.adapter);
    if (st == SWD_OK) st = ended(&s, err);
    r.step = s.step;
    r.loss = s.loss;
    snprintf(r.checkpoint, sizeof r.checkpoint, "%s", s.newest ? s.newest : "");
    if (out) *out = r;
    session_log_close(&s.lines);
    free(s.newest);
    free(s.checkpoints);
    free(s.config);
    return st;
}
