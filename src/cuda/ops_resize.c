// SPDX-License-Identifier: MIT
// Slots of the step between two scales and of noise: a job for each image.
#include "backend_cuda.h"
#include <limits.h>
#include <stddef.h>

enum { JOBS = 32 }; // on the stack at a time

#define SAME_PLACE(field)                                                                          \
    _Static_assert(offsetof(renoise_step, field) == offsetof(k_resize_step, field), #field)
SAME_PLACE(seed);
SAME_PLACE(draw);
SAME_PLACE(sigma);
SAME_PLACE(sigma_next);
_Static_assert(sizeof(renoise_step) == sizeof(k_resize_step),
               "an array of one is one of the other");

static float *image(swd_tensor t, int64_t i)
{
    return tensor_present(t) ? (float *)t.data + i * t.stride[0] : NULL;
}

static swd_status resize_renoise(swd_backend *b, const resize_renoise_args *a, swd_stream *s,
                                 swd_err *err)
{
    k_resize_job jobs[JOBS];
    const k_resize_step *steps = a->steps.data;
    for (int64_t done = 0; done < a->x.shape[0]; done += JOBS) {
        int n = 0;
        for (int64_t i = done; i < a->x.shape[0] && n < JOBS; i++)
            jobs[n++] = (k_resize_job){.y = image(a->y, i),
                                       .x0 = image(a->x0, i),
                                       .x = image(a->x, i),
                                       .v = image(a->v, i),
                                       .eps = image(a->eps, i),
                                       .c = (int)a->x.shape[1],
                                       .h = (int)a->x.shape[2],
                                       .w = (int)a->x.shape[3],
                                       .out_h = (int)a->y.shape[2],
                                       .out_w = (int)a->y.shape[3]};
        SWD_CUDA(k_resize_renoise(jobs, steps + done, n, cuda_stream(b, s)), err);
    }
    return SWD_OK;
}

static swd_status noise(swd_backend *b, swd_tensor y, swd_tensor of, swd_stream *s, swd_err *err)
{
    k_resize_job jobs[JOBS];
    const k_resize_step *steps = of.data;
    int64_t size = tensor_numel(y) / y.shape[0];
    if (size > INT_MAX)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "noise of %lld elements an image; CUDA makes %d",
                        (long long)size, INT_MAX);
    for (int64_t done = 0; done < y.shape[0]; done += JOBS) {
        int n = 0;
        for (int64_t i = done; i < y.shape[0] && n < JOBS; i++)
            jobs[n++] = (k_resize_job){
                .y = (float *)y.data + i * size, .c = 1, .out_h = 1, .out_w = (int)size};
        SWD_CUDA(k_resize_renoise(jobs, steps + done, n, cuda_stream(b, s)), err);
    }
    return SWD_OK;
}

void cuda_resize_slots(swd_ops *ops)
{
    ops->resize_renoise = resize_renoise;
    ops->noise = noise;
}
