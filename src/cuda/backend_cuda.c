// SPDX-License-Identifier: MIT
// The CUDA backend: device memory, one stream of its own, copies; the slots are filled by the ops_*.c of this folder.
#include "backend_cuda.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

swd_status cuda_status(cudaError_t e, const char *what, swd_err *err)
{
    if (e == cudaSuccess) return SWD_OK;
    (void)cudaGetLastError(); // an error that does not stay must not meet the next call
    return SWD_FAIL(err, e == cudaErrorMemoryAllocation ? SWD_ERR_MEMORY : SWD_ERR_DEVICE,
                    "CUDA: %s (%s) in %s", cudaGetErrorName(e), cudaGetErrorString(e), what);
}

k_dtype cuda_dtype(swd_dtype dtype)
{
    assert(dtype == SWD_F32 || dtype == SWD_BF16 || dtype == SWD_F16);
    return dtype == SWD_F32 ? K_F32 : dtype == SWD_BF16 ? K_BF16 : K_F16;
}

k_view cuda_view(swd_tensor t)
{
    k_view v = {0};
    if (!tensor_present(t)) return v;
    assert(t.ndim <= 4 && (t.stride[t.ndim - 1] == 1 || t.shape[t.ndim - 1] == 1));
    v.data = t.data;
    v.dtype = cuda_dtype(t.dtype);
    for (int i = 0; i + 1 < t.ndim; i++) v.stride[i] = t.stride[i];
    return v;
}

static void *cuda_alloc(swd_backend *b, size_t bytes)
{
    (void)b;
    void *p = NULL;
    if (cudaMalloc(&p, bytes ? bytes : 1) != cudaSuccess) {
        (void)cudaGetLastError();
        return NULL;
    }
    return p;
}

static void cuda_release(swd_backend *b, void *p)
{
    (void)b;
    (void)cudaFree(p);
}

static swd_status cuda_upload(swd_backend *b, swd_tensor dst, const void *src, swd_stream *s,
                              swd_err *err)
{
    if (!tensor_contiguous(dst))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "an upload goes to a contiguous tensor");
    SWD_CUDA(cudaMemcpyAsync(dst.data, src, tensor_bytes(dst), cudaMemcpyHostToDevice,
                             cuda_stream(b, s)),
             err);
    return SWD_OK;
}

static swd_status cuda_download(swd_backend *b, void *dst, swd_tensor src, swd_stream *s,
                                swd_err *err)
{
    if (!tensor_contiguous(src))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a download comes from a contiguous tensor");
    SWD_CUDA(cudaMemcpyAsync(dst, src.data, tensor_bytes(src), cudaMemcpyDeviceToHost,
                             cuda_stream(b, s)),
             err);
    return SWD_OK;
}

// Also where a kernel's complaint about a token id is heard: nothing that came after it is worth keeping.
static swd_status cuda_synchronize(swd_backend *b, swd_stream *s, swd_err *err)
{
    cuda_state *state = cuda_of(b);
    cudaStream_t stream = cuda_stream(b, s);
    SWD_CUDA(cudaMemcpyAsync(state->bad_id_seen, state->bad_id, sizeof *state->bad_id,
                             cudaMemcpyDeviceToHost, stream),
             err);
    SWD_CUDA(cudaStreamSynchronize(stream), err);
    int seen = *state->bad_id_seen;
    if (seen == 0) return SWD_OK;
    SWD_CUDA(cudaMemsetAsync(state->bad_id, 0, sizeof *state->bad_id, stream), err);
    return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the token id at position %d is outside the vocabulary",
                    seen - 1);
}

static size_t cuda_weight_bytes(swd_backend *b)
{
    return cuda_of(b)->weight_bytes;
}

static void cuda_destroy(swd_backend *b)
{
    cuda_state *s = b->state;
    if (s) {
        if (s->stream) (void)cudaStreamDestroy(s->stream);
        (void)cudaFree(s->bad_id);
        (void)cudaFreeHost(s->bad_id_seen);
    }
    free(s);
    free(b);
}

static swd_status device_open(swd_backend *b, int device, swd_err *err)
{
    int n = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaErrorInsufficientDriver || e == cudaErrorNoDevice ||
        (e == cudaSuccess && n == 0)) {
        (void)cudaGetLastError();
        return SWD_FAIL(err, SWD_ERR_DEVICE, "no CUDA device: no NVIDIA GPU, or no driver for it");
    }
    SWD_CUDA(e, err);
    if (device < 0 || device >= n)
        return SWD_FAIL(err, SWD_ERR_DEVICE, "CUDA device %d: there %s %d", device,
                        n == 1 ? "is" : "are", n);
    SWD_CUDA(cudaSetDevice(device), err);
    struct cudaDeviceProp prop;
    SWD_CUDA(cudaGetDeviceProperties(&prop, device), err);
    if (prop.major < 8)
        return SWD_FAIL(err, SWD_ERR_DEVICE,
                        "CUDA device %d, %s: compute capability %d.%d, 8.0 is needed", device,
                        prop.name, prop.major, prop.minor);
    snprintf(b->device, sizeof b->device, "%.80s, sm_%d%d, %d SMs, %zu MiB", prop.name, prop.major,
             prop.minor, prop.multiProcessorCount, prop.totalGlobalMem >> 20);
    cuda_state *s = cuda_of(b);
    s->device = device;
    s->sm_count = prop.multiProcessorCount;
    SWD_CUDA(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking), err);
    SWD_CUDA(cudaMalloc((void **)&s->bad_id, sizeof *s->bad_id), err);
    SWD_CUDA(cudaHostAlloc((void **)&s->bad_id_seen, sizeof *s->bad_id_seen, cudaHostAllocDefault),
             err);
    SWD_CUDA(cudaMemsetAsync(s->bad_id, 0, sizeof *s->bad_id, s->stream), err);
    SWD_CUDA(cudaStreamSynchronize(s->stream), err);
    return SWD_OK;
}

swd_status backend_cuda_create(swd_backend **out, int device, swd_err *err)
{
    *out = NULL;
    swd_backend *b = calloc(1, sizeof *b);
    if (!b) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for the CUDA backend");
    b->name = "cuda";
    b->native_bf16 = true;
    b->destroy = cuda_destroy;
    b->alloc = cuda_alloc;
    b->release = cuda_release;
    b->upload = cuda_upload;
    b->download = cuda_download;
    b->synchronize = cuda_synchronize;
    b->weight_bytes = cuda_weight_bytes;
    cuda_conv_slots(b);
    cuda_elementwise_slots(&b->ops);
    cuda_group_norm_slots(&b->ops);
    cuda_layout_slots(&b->ops);
    cuda_linear_slots(b);
    cuda_norm_slots(&b->ops);
    cuda_resize_slots(&b->ops);
    cuda_text_slots(&b->ops);
    cuda_attention_slots(&b->ops);
    b->state = calloc(1, sizeof(cuda_state));
    swd_status st = b->state ? device_open(b, device, err)
                             : SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for the CUDA backend");
    if (st != SWD_OK) {
        backend_destroy(&b);
        return st;
    }
    *out = b;
    return SWD_OK;
}
