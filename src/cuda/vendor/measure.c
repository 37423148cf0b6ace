// SPDX-License-Identifier: MIT
#include "vendor/measure.h"
#include <assert.h>
#include <stdlib.h>

enum { ROUNDS = 5, FLUSH_TIMES = 2 }; // of the L2's size

swd_status measure_no_memory(swd_err *err)
{
    return SWD_FAIL(err, SWD_ERR_MEMORY,
                    "no device memory to measure with; SWD_TUNE=ours does without");
}

typedef struct stopwatch {
    cudaStream_t stream;
    cudaEvent_t start, stop;
    void *flush; // written before each run: what lay in the L2 is out of it
    size_t flush_bytes;
} stopwatch;

static void put_down(stopwatch *w, swd_backend *b)
{
    if (w->start) (void)cudaEventDestroy(w->start);
    if (w->stop) (void)cudaEventDestroy(w->stop);
    b->release(b, w->flush);
}

static swd_status take_up(stopwatch *w, swd_backend *b, swd_err *err)
{
    int l2;
    *w = (stopwatch){.stream = cuda_stream(b, NULL)};
    SWD_CUDA(cudaEventCreate(&w->start), err);
    SWD_CUDA(cudaEventCreate(&w->stop), err);
    SWD_CUDA(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, cuda_of(b)->device.index), err);
    w->flush_bytes = (size_t)l2 * FLUSH_TIMES;
    w->flush = b->alloc(b, w->flush_bytes);
    return w->flush ? SWD_OK : measure_no_memory(err);
}

static swd_status time_one(double *us, const stopwatch *w, int contestant, measure_run *run,
                           void *arg, swd_err *err)
{
    float ms;
    SWD_CUDA(cudaMemsetAsync(w->flush, 0, w->flush_bytes, w->stream), err);
    SWD_CUDA(cudaEventRecord(w->start, w->stream), err);
    SWD_TRY(run(arg, contestant, w->stream, err), err);
    SWD_CUDA(cudaEventRecord(w->stop, w->stream), err);
    SWD_CUDA(cudaEventSynchronize(w->stop), err);
    SWD_CUDA(cudaEventElapsedTime(&ms, w->start, w->stop), err);
    *us = (double)ms * 1e3;
    return SWD_OK;
}

swd_status measure_can(bool *can, int contestant, measure_run *run, void *arg, swd_backend *b,
                       swd_err *err)
{
    cudaStream_t stream = cuda_stream(b, NULL);
    swd_err refused = {0};
    *can = false;
    swd_status s = run(arg, contestant, stream, &refused);
    if (s != SWD_OK && s != SWD_ERR_UNSUPPORTED) return SWD_FAIL(err, s, "%s", refused.message);
    SWD_CUDA(cudaStreamSynchronize(stream), err);
    *can = s == SWD_OK;
    return SWD_OK;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static swd_status rounds(double *us, int n, measure_run *run, void *arg, const stopwatch *w,
                         swd_err *err)
{
    double times[MEASURE_MAX][ROUNDS];
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < n; i++)
            if (us[i] >= 0) SWD_TRY(time_one(&times[i][r], w, i, run, arg, err), err);
    for (int i = 0; i < n; i++) {
        if (us[i] < 0) continue;
        qsort(times[i], ROUNDS, sizeof times[i][0], by_size);
        us[i] = times[i][ROUNDS / 2];
    }
    return SWD_OK;
}

swd_status measure_times(double *us, int n, measure_run *run, void *arg, swd_backend *b,
                         swd_err *err)
{
    assert(n <= MEASURE_MAX);
    stopwatch w;
    swd_status s = take_up(&w, b, err);
    for (int i = 0; s == SWD_OK && i < n; i++) { // the first run of each loads its kernels
        bool can = false;
        s = measure_can(&can, i, run, arg, b, err);
        us[i] = can ? 0 : -1;
    }
    if (s == SWD_OK) s = rounds(us, n, run, arg, &w, err);
    (void)cudaStreamSynchronize(w.stream); // what is queued reads the operands, which go
    put_down(&w, b);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

/* ---- operands ---- */

static swd_status noise(float *to, int64_t n, swd_backend *b, swd_err *err)
{
    k_resize_step step = {.seed = 1, .sigma_next = 1};
    swd_tensor on_device = tensor1(b->alloc(b, sizeof step), SWD_U8, (int64_t)sizeof step);
    if (!on_device.data) return measure_no_memory(err);
    const k_resize_job job = {.y = to, .c = 1, .h = 1, .w = (int)n, .out_h = 1, .out_w = (int)n};
    cudaStream_t stream = cuda_stream(b, NULL);
    swd_status s = b->upload(b, on_device, &step, NULL, err);
    if (s == SWD_OK)
        s = cuda_status(k_resize_renoise(&job, on_device.data, 1, stream), "k_resize_renoise", err);
    if (s == SWD_OK) s = cuda_status(cudaStreamSynchronize(stream), "cudaStreamSynchronize", err);
    b->release(b, on_device.data);
    return s;
}

swd_status measure_operand(void **out, k_dtype dtype, int64_t n, swd_backend *b, swd_err *err)
{
    enum { PERIOD = 1 << 18 };
    const size_t size = (size_t)cuda_size_of(dtype);
    int64_t period = n < PERIOD ? n : PERIOD;
    *out = b->alloc(b, (size_t)n * size);
    float *source = *out ? b->alloc(b, (size_t)period * sizeof *source) : NULL;
    if (!source) return measure_no_memory(err);
    swd_status s = noise(source, period, b, err);
    for (int64_t at = 0; s == SWD_OK && at < n; at += period) {
        const k_view to = {(char *)*out + (size_t)at * size, dtype, {0}},
                     from = {source, K_F32, {0}};
        const int64_t shape[4] = {1, 1, 1, n - at < period ? n - at : period};
        s = cuda_status(k_copy(to, from, shape, cuda_stream(b, NULL)), "k_copy", err);
    }
    cudaError_t e = cudaStreamSynchronize(cuda_stream(b, NULL));
    if (s == SWD_OK) s = cuda_status(e, "cudaStreamSynchronize", err);
    b->release(b, source);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}
