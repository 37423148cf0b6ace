// SPDX-License-Identifier: MIT
#include "sample/scalewise.h"

static swd_status before(const sample_args *a, int k)
{
    return a->before_step ? a->before_step(a->user, k) : SWD_OK;
}

static swd_status after(const sample_args *a, int k, swd_tensor x0)
{
    return a->after_step ? a->after_step(a->user, k, x0) : SWD_OK;
}

/* The start at step 0: noise, or init noised to its sigma. eps is scratch of x's shape. */
static swd_status start(swd_tensor x, swd_tensor eps, const sample_args *a, swd_exec *ex)
{
    if (!tensor_present(a->init)) return noise_draw(x, a->noise, ex);
    float sigma = a->steps[0].sigma;
    RUN(noise_draw(eps, a->noise, ex));
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

/* The first elements of a buffer of the largest scale, as a tensor of step k's size. */
static swd_tensor at_scale(swd_tensor buffer, const sample_step *s)
{
    return tensor4(buffer.data, SWD_F32, buffer.shape[0], buffer.shape[1], s->height, s->width);
}

swd_status scalewise_sample(swd_tensor x0, const sample_args *a, swd_exec *ex)
{
    RUN(check(x0, a, ex));
    size_t mark = exec_mark(ex);
    swd_tensor here = exec_alloc(ex, SWD_F32, x0.shape, 4),
               there = exec_alloc(ex, SWD_F32, x0.shape, 4);
    swd_tensor velocity = exec_alloc(ex, SWD_F32, x0.shape, 4),
               eps = exec_alloc(ex, SWD_F32, x0.shape, 4);

    RUN(start(at_scale(here, &a->steps[0]), at_scale(eps, &a->steps[0]), a, ex));
    for (int k = 0; k < a->n_steps; k++) {
        const sample_step *s = &a->steps[k], *next = s + 1;
        swd_tensor x = at_scale(here, s), v = at_scale(velocity, s), guess = at_scale(x0, s);
        RUN(before(a, k));
        RUN(a->denoise(a->user, k, v, x));
        if (k + 1 < a->n_steps) {
            swd_tensor noise = at_scale(eps, next);
            RUN(noise_draw(noise, a->noise, ex));
            resize_renoise_args args = {.y = at_scale(there, next),
                                        .x = x,
                                        .v = v,
                                        .x0 = guess,
                                        .sigma = s->sigma,
                                        .sigma_next = next->sigma,
                                        .eps = noise};
            RUN(op_resize_renoise(&args, ex));
            swd_tensor swap = here;
            here = there;
            there = swap;
        } else {
            RUN(op_axpby(guess, 1.0f, x, -s->sigma, v, ex));
        }
        RUN(after(a, k, guess));
    }
    exec_rewind(ex, mark);
    return SWD_OK;
}

swd_status euler_sample(swd_tensor x0, const sample_args *a, swd_exec *ex)
{
    RUN(check(x0, a, ex));
    size_t mark = exec_mark(ex);
    swd_tensor x = exec_alloc(ex, SWD_F32, x0.shape, 4), v = exec_alloc(ex, SWD_F32, x0.shape, 4);

    RUN(start(x, v, a, ex));
    for (int k = 0; k < a->n_steps; k++) {
        float sigma = a->steps[k].sigma, next = k + 1 < a->n_steps ? a->steps[k + 1].sigma : 0.0f;
        RUN(before(a, k));
        RUN(a->denoise(a->user, k, v, x));
        RUN(op_axpby(x0, 1.0f, x, -sigma, v, ex));
        RUN(op_axpby(x, 1.0f, x, next - sigma, v, ex));
        RUN(after(a, k, x0));
    }
    exec_rewind(ex, mark);
    return SWD_OK;
}
