// SPDX-License-Identifier: MIT
#include "pipeline/share.h"
#include "base/memory.h"
#include "parallel/group.h"
#include "pipeline/networks.h"
#include "pipeline/result.h"
#include <stdio.h>
#include <string.h>

static bool alone(const request *r)
{
    return group_size(r->p->group) == 1;
}

/* ---- the list ---- */

// Which pictures were there already is process 0's to say; who sees something else would make other ones.
static swd_status same_list(request *r, swd_err *err)
{
    swd_group *g = r->p->group;
    int *first, n = r->n_todo;
    size_t bytes = (size_t)r->plan.n_images * sizeof *first;
    SWD_TRY(swd_calloc(&first, (size_t)r->plan.n_images, sizeof *first, "the list of images", err),
            err);
    memcpy(first, r->todo, (size_t)r->n_todo * sizeof *first);
    swd_status s = group_broadcast(g, &n, sizeof n, err);
    if (s == SWD_OK) s = group_broadcast(g, first, bytes, err);
    if (s == SWD_OK && (n != r->n_todo || memcmp(first, r->todo, (size_t)n * sizeof *first) != 0))
        s = SWD_FAIL(
            err, SWD_ERR_FILE,
            "process 0 finds %d pictures to be made, this one %d: all need the same folder", n,
            r->n_todo);
    free(first);
    return s;
}

swd_status share_begin(request *r, swd_status s, swd_err *err)
{
    swd_group *g = r->p->group;
    if (alone(r)) return s;
    if (s == SWD_OK && r->params->save_latents)
        s = SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "save_latents needs one process alone");
    SWD_TRY(group_agree(g, s, err), err);
    SWD_TRY(group_broadcast(g, &r->seed, sizeof r->seed, err), err);
    r->result->pub.seed = r->seed;
    r->n_listed = r->n_todo;
    return same_list(r, err);
}

swd_status share_out(request *r, swd_err *err)
{
    swd_group *g = r->p->group;
    int64_t turns = r->p->offloading;
    int size = group_size(g), rank = group_rank(g), n = 0;
    if (alone(r)) return SWD_OK;
    SWD_TRY(group_max(g, &turns, err), err);
    r->shared = !turns;
    SWD_TRY(group_share(g, err), err);
    if (r->shared) return SWD_OK;
    for (int i = 0; i < r->n_todo; i++)
        if (i / r->plan.batch % size == rank) r->todo[n++] = r->todo[i];
    r->n_todo = n;
    return SWD_OK;
}

swd_status share_whole(request *r, swd_err *err)
{
    if (!r->shared || r->end == r->n_todo) return SWD_OK;
    r->known = false;
    r->end = r->n_todo;
    return pipeline_load_text(r->p, err);
}

swd_status share_next(int *first, request *r, swd_err *err)
{
    int64_t at = r->next;
    int size = r->plan.batch;
    bool stopped = false;
    r->next += size;
    if (!r->shared) SWD_TRY(group_stopped(&stopped, r->p->group, err), err);
    if (r->shared) {
        SWD_TRY(group_next(&at, r->p->group, err), err);
        at = at < r->n_todo ? at * size : r->n_todo; // no product of numbers beyond the list
    }
    *first = at < r->end && !stopped ? (int)at : -1;
    return SWD_OK;
}

void share_stop(request *r)
{
    group_stop(r->p->group);
}

/* ---- the result ---- */

// What a process sends of its work, then an image and its latency for each of its pictures.
typedef struct share_times {
    int64_t n_done;
    double text_ms, denoise_ms, decode_ms, write_ms, step_ms[SWD_STEPS_MAX];
    uint64_t peak;
} share_times;
typedef struct share_picture {
    int64_t image;
    double latency_ms;
} share_picture;

static swd_status pack(void **out, size_t *bytes, const request *r, swd_err *err)
{
    const swd_result *pub = &r->result->pub;
    *bytes = sizeof(share_times) + (size_t)r->n_done * sizeof(share_picture);
    SWD_TRY(swd_calloc(out, *bytes, 1, "the result", err), err);
    share_times *t = *out;
    *t = (share_times){r->n_done,     pub->text_ms, pub->denoise_ms,     pub->decode_ms,
                       pub->write_ms, {0},          result_peak_memory()};
    for (int k = 0; k < r->plan.n_steps; k++) t->step_ms[k] = r->result->steps[k].ms;
    share_picture *p = (share_picture *)(t + 1);
    for (int i = 0, n = 0; i < r->n_listed && n < r->n_done; i++)
        if (r->latency_ms[i] > 0) p[n++].latency_ms = r->latency_ms[i];
    for (int i = 0; i < r->n_done; i++) {
        p[i].image = (int64_t)(r->result->images[i].seed - r->seed);
        r->latency_ms[i] = p[i].latency_ms;
    }
    return SWD_OK;
}

static swd_status add_picture(request *r, const share_picture *p, swd_err *err)
{
    const swd_generate_params *a = r->params;
    char *path = NULL;
    if (a->output)
        SWD_TRY(output_name(&path, a->output, (int)p->image, r->plan.n_images, err), err);
    r->result->images[r->n_done] = (swd_image){.width = r->plan.width,
                                               .height = r->plan.height,
                                               .file = path,
                                               .prompt = (int)p->image / a->count,
                                               .seed = r->seed + (uint64_t)p->image};
    r->result->pub.n_images = ++r->n_done;
    return SWD_OK;
}

static swd_status add(request *r, const share_times *t, bool own, swd_err *err)
{
    swd_result *pub = &r->result->pub;
    const share_picture *p = (const share_picture *)(t + 1);
    if (t->peak > pub->peak_memory_bytes) pub->peak_memory_bytes = t->peak;
    if (own) return SWD_OK;
    pub->text_ms += t->text_ms;
    pub->denoise_ms += t->denoise_ms;
    pub->decode_ms += t->decode_ms;
    pub->write_ms += t->write_ms;
    for (int k = 0; k < r->plan.n_steps; k++) r->result->steps[k].ms += t->step_ms[k];
    for (int64_t i = 0; i < t->n_done; i++) SWD_TRY(add_picture(r, &p[i], err), err);
    return SWD_OK;
}

static int by_seed(const void *a, const void *b)
{
    uint64_t x = ((const swd_image *)a)->seed, y = ((const swd_image *)b)->seed;
    return (x > y) - (x < y);
}

// at, n bytes: of all processes, by rank.
static swd_status unpack(request *r, const char *at, size_t n, swd_err *err)
{
    int seen = 0;
    for (const char *end = at + n; at < end;) {
        const share_times *t = (const share_times *)(const void *)at;
        const share_picture *p = (const share_picture *)(t + 1);
        for (int64_t i = 0; i < t->n_done; i++) r->latency_ms[seen++] = p[i].latency_ms;
        SWD_TRY(add(r, t, t == (const void *)(end - n), err), err);
        at += sizeof *t + (size_t)t->n_done * sizeof *p;
    }
    qsort(r->result->images, (size_t)r->n_done, sizeof *r->result->images, by_seed);
    return SWD_OK;
}

swd_status share_end(request *r, swd_status s, swd_err *err)
{
    swd_group *g = r->p->group;
    void *mine = NULL, *all = NULL;
    size_t bytes = 0, total;
    if (alone(r)) return s;
    if (s == SWD_OK) s = pack(&mine, &bytes, r, err);
    s = group_agree(g, s, err);
    if (s == SWD_OK) s = group_gather(&all, &total, g, mine, (int)bytes, err);
    if (s == SWD_OK) r->n_todo = r->n_listed;
    if (s == SWD_OK && all) s = unpack(r, all, total, err);
    free(mine);
    free(all);
    return s;
}
