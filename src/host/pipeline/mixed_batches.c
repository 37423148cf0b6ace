// SPDX-License-Identifier: MIT
#include "pipeline/mixed_batches.h"
#include "backend/trace.h"
#include "base/clock.h"
#include "pipeline/stages.h"
#include <stdio.h>
#include <string.h>

bool mixed_possible(const request *r, char why[128])
{
    const request_plan *plan = &r->plan;
    const char *reason = "";
    why[0] = '\0';
    if (!r->params->mix) return false;
    if (r->p->offloading)
        reason = "networks take turns in the device's memory";
    else if (plan->sampler != SWD_SAMPLER_SCALEWISE || plan->evaluations > 1 || plan->with_init)
        reason = "only a scale-wise schedule that starts from noise";
    else if (r->params->rng == SWD_RNG_TORCH)
        reason = "torch's noise is drawn step by step";
    else if (request_is_watched(r))
        reason = "somebody looks at each step";
    else if (!denoiser_mixes(r->p->transformer))
        reason = "this transformer takes one size a pass";
    else if (plan->n_steps > WAVE_STEPS_MAX || plan->n_steps > MIXED_PARTS_MAX ||
             plan->n_steps * plan->batch > MIXED_SAMPLES_MAX)
        reason = "too many steps or images at once";
    if (reason[0]) snprintf(why, 128, "steps are not mixed: %s", reason);
    return !reason[0];
}

batch *mixed_batch_at(request *r, int tick, int k)
{
    return &r->batch[(tick - k) % r->n_batches];
}

/* Steps of a tick that have a batch. */
typedef struct active {
    int first, last;
} active;

static active active_at(const request *r, int tick, int n)
{
    int last = r->plan.n_steps - 1;
    return (active){.first = tick < n ? 0 : tick - n + 1, .last = tick < last ? tick : last};
}

/* Images of the steps [first, first + n) of something that has them for every step. */
static swd_tensor of_steps(const request *r, swd_tensor t, int first, int n)
{
    int64_t b = r->plan.batch;
    return tensor_slice(t, 0, first * b, n * b);
}

/* ---- what lasts from tick to tick ---- */

static swd_status prepare_mix(mixed_batch *out, const request *r, active a, swd_exec *ex)
{
    mixed_part parts[MIXED_PARTS_MAX];
    const wave *w = &r->mixed.wave;
    for (int k = a.first; k <= a.last; k++)
        parts[k - a.first] = (mixed_part){.velocity = w->v[k], .latents = w->x[k]};
    return mixed_prepare(out, parts, a.last - a.first + 1, r->p->facts.patch,
                         r->batch[0].context.shape[1], ex);
}

static swd_status begin(request *r, swd_exec *ex)
{
    const request_plan *plan = &r->plan;
    mixed_state *m = &r->mixed;
    int64_t images = (int64_t)plan->n_steps * plan->batch;
    swd_tensor context = r->batch[0].context, pooled = r->batch[0].pooled, x0 = r->batch[0].x0;
    RUN(wave_alloc(&m->wave, plan->steps, plan->n_steps, plan->batch, plan->channels, ex));
    m->x0 = exec_alloc(ex, SWD_F32, x0.shape, 4);
    m->context_in = exec_alloc(ex, SWD_F32, context.shape, 3);
    m->pooled_in = exec_alloc(ex, SWD_F32, pooled.shape, 2);
    m->pooled = exec2(ex, SWD_F32, images, pooled.shape[1]);
    m->t = exec1(ex, SWD_F32, images);
    for (int k = 0; k < plan->n_steps; k++)
        RUN(op_fill(of_steps(r, m->t, k, 1),
                    denoiser_timestep(r->p->transformer, plan->steps[k].sigma), ex));
    r->conditions = denoiser_conditions(images, images, context.shape[1], r->p->transformer, ex);
    return prepare_mix(&m->all, r, (active){0, plan->n_steps - 1}, ex);
}

/* ---- a tick ---- */

/* Every batch is at the next step now, and so is what is known of its prompts. */
static swd_status move_prompts(request *r, active a, swd_exec *ex)
{
    const mixed_state *m = &r->mixed;
    for (int k = a.last; k > 0 && k >= a.first; k--) {
        swd_tensor context = r->conditions.context, pooled = m->pooled;
        RUN(op_copy(of_steps(r, context, k, 1), of_steps(r, context, k - 1, 1), ex));
        RUN(op_copy(of_steps(r, pooled, k, 1), of_steps(r, pooled, k - 1, 1), ex));
    }
    if (a.first > 0) return SWD_OK;
    conditions entering = r->conditions;
    entering.context = of_steps(r, r->conditions.context, 0, 1);
    RUN(denoiser_embed_context(&entering, m->context_in, r->p->transformer, ex));
    return op_copy(of_steps(r, m->pooled, 0, 1), m->pooled_in, ex);
}

static swd_status denoise(request *r, active a, const mixed_batch *mix, swd_exec *ex)
{
    const mixed_state *m = &r->mixed;
    int n = a.last - a.first + 1;
    conditions at_work = r->conditions;
    at_work.context = of_steps(r, r->conditions.context, a.first, n);
    RUN(move_prompts(r, a, ex));
    if (a.first == 0) RUN(wave_enter(&m->wave, ex));
    RUN(denoiser_modulate(&at_work, of_steps(r, m->t, a.first, n),
                          of_steps(r, m->pooled, a.first, n), (float)r->plan.guidance,
                          r->p->transformer, ex));
    RUN(denoiser_forward_mixed(mix, &at_work, r->p->transformer, ex));
    return wave_advance(m->x0, &m->wave, a.first, a.last, ex);
}

/* With a batch at every step: the same work in the same memory each time. */
static swd_status full_tick(void *of, int unused)
{
    request *r = of;
    (void)unused;
    return denoise(r, (active){0, r->plan.n_steps - 1}, &r->mixed.all, &r->ex[REQUEST_DENOISE]);
}

static swd_status run_full(request *r, swd_exec *ex)
{
    const mixed_state *m = &r->mixed;
    if (r->live || ex->dry || r->p->no_graphs) return full_tick(r, 0);
    graph_key key;
    memset(&key, 0, sizeof key);
    key.work = GRAPH_MIXED;
    graph_key_steps(&key, r->plan.steps, r->plan.n_steps);
    key.guidance = (float)r->plan.guidance;
    key.n = r->plan.batch;
    key.text_tokens = m->context_in.shape[1];
    key.memory[0] = ex->slab;
    key.used = ex->used;
    return graph_cache_run(&r->p->graphs, &key, full_tick, r, ex);
}

static swd_status run_some(request *r, active a, swd_exec *ex)
{
    mixed_batch mix;
    size_t mark = exec_mark(ex);
    RUN(prepare_mix(&mix, r, a, ex));
    RUN(denoise(r, a, &mix, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

/* The prompts of the batch that enters, where the tick looks for them; images that a last batch lacks are its first one again. */
static swd_status hand_over(request *r, const batch *b, swd_exec *ex)
{
    const mixed_state *m = &r->mixed;
    RUN(stream_wait(ex->stream, b->encoded, ex->backend, ex->err));
    RUN(event_record(b->denoising, ex->stream, ex->backend, ex->err));
    for (int i = 0; i < r->plan.batch; i++) {
        int from = i < b->n ? i : 0;
        RUN(op_copy(tensor_slice(m->context_in, 0, i, 1), tensor_slice(b->context, 0, from, 1),
                    ex));
        RUN(op_copy(tensor_slice(m->pooled_in, 0, i, 1), tensor_slice(b->pooled, 0, from, 1), ex));
    }
    return SWD_OK;
}

static swd_status give_seeds(request *r, active a, swd_exec *ex)
{
    uint64_t seeds[MIXED_SAMPLES_MAX] = {0};
    if (ex->dry) return SWD_OK;
    for (int k = a.first; k <= a.last; k++) {
        const batch *b = mixed_batch_at(r, r->mixed.tick, k);
        for (int i = 0; i < b->n; i++)
            seeds[k * r->plan.batch + i] = r->seed + (uint64_t)request_image(r, b, i);
    }
    return wave_seeds(&r->mixed.wave, seeds, ex);
}

/* A tick's time is shared by the tokens of its steps. */
static void share_time(request *r, active a)
{
    int tick = r->mixed.tick;
    double all = 0;
    for (int k = a.first; k <= a.last; k++)
        all += (double)r->plan.steps[k].height * r->plan.steps[k].width;
    for (int k = a.first; k <= a.last; k++)
        mixed_batch_at(r, tick, k)->share[k] =
            (double)r->plan.steps[k].height * r->plan.steps[k].width / all;
}

static swd_status account(request *r, active a, double started_s, swd_exec *ex)
{
    int tick = r->mixed.tick;
    for (int k = a.first; k <= a.last; k++) {
        const batch *b = mixed_batch_at(r, tick, k);
        if (b->stepped) RUN(event_record(b->stepped[k], ex->stream, ex->backend, ex->err));
    }
    if (!r->live) return SWD_OK;
    RUN(ex->backend->synchronize(ex->backend, ex->stream, ex->err));
    double ms = (clock_now_s() - started_s) * 1e3;
    r->result->pub.denoise_ms += ms;
    for (int k = a.first; k <= a.last; k++)
        r->result->steps[k].ms += ms * mixed_batch_at(r, tick, k)->share[k];
    const batch *oldest = mixed_batch_at(r, tick, a.last);
    return request_progress(r, SWD_STAGE_DENOISE, a.last + 1, r->plan.n_steps,
                            request_image(r, oldest, 0), ex->err);
}

swd_status mixed_tick(request *r, swd_exec *ex)
{
    int last = r->plan.n_steps - 1, tick = r->mixed.tick;
    active a = ex->dry ? (active){0, last} : active_at(r, tick, r->mixed.n_batches);
    double started_s = clock_now_s();
    size_t mark = exec_mark(ex);
    if (tick == 0 || ex->dry) RUN(begin(r, ex));
    if (a.first == 0) RUN(hand_over(r, ex->dry ? r->at : mixed_batch_at(r, tick, 0), ex));
    RUN(give_seeds(r, a, ex));
    if (ex->dry) {
        RUN(run_full(r, ex));
        RUN(run_some(r, a, ex));
        exec_rewind(ex, mark);
        return SWD_OK;
    }
    share_time(r, a);
    RUN(a.first == 0 && a.last == last ? run_full(r, ex) : run_some(r, a, ex));
    if (a.last == last) RUN(op_copy(mixed_batch_at(r, tick, last)->x0, r->mixed.x0, ex));
    return account(r, a, started_s, ex);
}
