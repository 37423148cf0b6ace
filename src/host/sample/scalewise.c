// SPDX-License-Identifier: MIT
#include "sample/scalewise.h"
#include "base/memory.h"
#include <stdlib.h>

/* The first elements of a buffer of the largest scale, as a tensor of step k's size. */
static swd_tensor at_scale(swd_tensor buffer, const sample_step *s)
{
    return tensor4(buffer.data, SWD_F32, buffer.shape[0], buffer.shape[1], s->height, s->width);
}

typedef struct loop {
    const sample_args *a;
    swd_exec *ex;
    swd_tensor x
        [2]; /* scale-wise step k reads x[k % 2] and writes the other one; else all is in the first */
    swd_tensor velocity, eps, x0;
} loop;

static swd_status run_steps(loop *l, sample_body *body)
{
    const sample_args *a = l->a;
    swd_exec *ex = l->ex;
    for (int k = 0; k < a->n_steps; k++) {
        RUN(a->run_step ? a->run_step(a->user, k, body, l) : body(l, k));
        if (a->after_step) RUN(a->after_step(a->user, k, at_scale(l->x0, &a->steps[k])));
    }
    return SWD_OK;
}

/* Draw k of every image: the start's noise, then that on the way from step k - 1 to step k; the last one draws nothing. */
swd_status sample_prepare(sample_args *a, int64_t batch, swd_exec *ex)
{
    int n = a->n_steps;
    renoise_step *host = NULL;
    a->draws = exec3(ex, SWD_U8, n + 1, batch, sizeof(renoise_step));
    if (ex->dry) return SWD_OK;
    RUN(swd_calloc(&host, (size_t)(n + 1) * (size_t)batch, sizeof(*host), "steps", ex->err));
    for (int k = 0; k <= n; k++)
        for (int64_t b = 0; b < batch; b++)
            host[k * batch + b] = (renoise_step){.seed = noise_seed(a->noise, (int)b),
                                                 .draw = (uint32_t)k,
                                                 .sigma = k > 0 ? a->steps[k - 1].sigma : 0,
                                                 .sigma_next = k < n ? a->steps[k].sigma : 0};
    swd_status s = ex->backend->upload(ex->backend, a->draws, host, ex->stream, ex->err);
    free(host);
    return s;
}

static swd_tensor draw(const sample_args *a, int k)
{
    return tensor_reshape(tensor_slice(a->draws, 0, k, 1), a->draws.shape + 1, 2);
}

/* The start at step 0: noise, or init noised to its sigma. scratch has x's shape. */
static swd_status start(swd_tensor x, swd_tensor scratch, const sample_args *a, swd_exec *ex)
{
    bool given = noise_from_host(a->noise), alone = !tensor_present(a->init);
    swd_tensor eps = given ? alone ? x : scratch : tensor_none();
    if (given) RUN(noise_draw(eps, a->noise, ex));
    if (alone) return given ? SWD_OK : op_noise(x, draw(a, 0), ex);
    return op_resize_renoise(
        &(resize_renoise_args){.y = x, .x = a->init, .eps = eps, .steps = draw(a, 0)}, ex);
}

static swd_status check(swd_tensor x0, const sample_args *a, swd_exec *ex)
{
    if (a->n_steps < 1)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "a schedule needs at least one step");
    const sample_step *last = &a->steps[a->n_steps - 1];
    if (x0.ndim != 4 || x0.shape[2] != last->height || x0.shape[3] != last->width)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "the last scale is %dx%d, the latents are not",
                        last->width, last->height);
    for (int k = 1; k < a->n_steps; k++)
        if (a->steps[k].height < a->steps[k - 1].height ||
            a->steps[k].width < a->steps[k - 1].width)
            return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "scale %d is smaller than the one before",
                            k + 1);
    return SWD_OK;
}

static swd_status scale_step(void *of, int k)
{
    loop *l = of;
    const sample_args *a = l->a;
    swd_exec *ex = l->ex;
    const sample_step *s = &a->steps[k], *next = s + 1;
    swd_tensor x = at_scale(l->x[k % 2], s), v = at_scale(l->velocity, s),
               guess = at_scale(l->x0, s);
    RUN(a->denoise(a->user, k, v, x));
    resize_renoise_args args = {.x = x, .v = v, .steps = draw(a, k + 1)};
    if (k + 1 == a->n_steps) {
        args.y = guess;
        return op_resize_renoise(&args, ex);
    }
    args.y = at_scale(l->x[(k + 1) % 2], next);
    args.x0 = guess;
    if (tensor_present(l->eps)) {
        args.eps = at_scale(l->eps, next);
        RUN(noise_draw(args.eps, a->noise, ex));
    }
    return op_resize_renoise(&args, ex);
}

swd_status scalewise_sample(swd_tensor x0, const sample_args *a, swd_exec *ex)
{
    RUN(check(x0, a, ex));
    size_t mark = exec_mark(ex);
    loop l = {.a = a, .ex = ex, .x0 = x0};
    l.x[0] = exec_alloc(ex, SWD_F32, x0.shape, 4);
    l.x[1] = exec_alloc(ex, SWD_F32, x0.shape, 4);
    l.velocity = exec_alloc(ex, SWD_F32, x0.shape, 4);
    if (noise_from_host(a->noise)) l.eps = exec_alloc(ex, SWD_F32, x0.shape, 4);
    RUN(start(at_scale(l.x[0], &a->steps[0]), at_scale(l.velocity, &a->steps[0]), a, ex));
    RUN(run_steps(&l, scale_step));
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_status euler_step(void *of, int k)
{
    loop *l = of;
    const sample_args *a = l->a;
    swd_exec *ex = l->ex;
    float sigma = a->steps[k].sigma, next = k + 1 < a->n_steps ? a->steps[k + 1].sigma : 0.0f;
    RUN(a->denoise(a->user, k, l->velocity, l->x[0]));
    RUN(op_axpby(l->x0, 1.0f, l->x[0], -sigma, l->velocity, ex));
    return op_axpby(l->x[0], 1.0f, l->x[0], next - sigma, l->velocity, ex);
}

swd_status euler_sample(swd_tensor x0, const sample_args *a, swd_exec *ex)
{
    RUN(check(x0, a, ex));
    size_t mark = exec_mark(ex);
    loop l = {.a = a, .ex = ex, .x0 = x0};
    l.x[0] = exec_alloc(ex, SWD_F32, x0.shape, 4);
    l.velocity = exec_alloc(ex, SWD_F32, x0.shape, 4);
    RUN(start(l.x[0], l.velocity, a, ex));
    RUN(run_steps(&l, euler_step));
    exec_rewind(ex, mark);
    return SWD_OK;
}
