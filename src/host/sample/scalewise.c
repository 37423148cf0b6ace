// SPDX-License-Identifier: MIT
#include "sample/scalewise.h"

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

/* The start at step 0: noise, or init noised to its sigma. eps is scratch of x's shape. */
static swd_status start(swd_tensor x, swd_tensor eps, const sample_args *a, swd_exec *ex)
{
    if (!tensor_present(a->init)) return noise_draw(x, a->noise, 0, ex);
    float sigma = a->steps[0].sigma;
    RUN(noise_draw(eps, a->noise, 0, ex));
    return op_axpby(x, 1.0f - sigma, a->init, sigma, eps, ex);
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
    if (k + 1 == a->n_steps) return op_axpby(guess, 1.0f, x, -s->sigma, v, ex);
    swd_tensor noise = at_scale(l->eps, next);
    RUN(noise_draw(noise, a->noise, k + 1, ex));
    resize_renoise_args args = {.y = at_scale(l->x[(k + 1) % 2], next),
                                .x = x,
                                .v = v,
                                .x0 = guess,
                                .sigma = s->sigma,
                                .sigma_next = next->sigma,
                                .eps = noise};
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
    l.eps = exec_alloc(ex, SWD_F32, x0.shape, 4);
    RUN(start(at_scale(l.x[0], &a->steps[0]), at_scale(l.eps, &a->steps[0]), a, ex));
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
