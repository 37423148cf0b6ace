// SPDX-License-Identifier: MIT
// The CUDA backend: one stream of its own, copies, and the ends of a device's use; the slots are filled by the ops_*.c of this folder.
#include "backend_cuda.h"
#include "async.h"
#include "nvtx.h"
#include "vendor/nccl.h"
#include "vendor/vendor.h"
#include <assert.h>
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
    return cuda_account_alloc(&cuda_of(b)->account, bytes);
}

static void cuda_release(swd_backend *b, void *p)
{
    cuda_account_release(&cuda_of(b)->account, p);
}

static size_t cuda_held(swd_backend *b)
{
    const cuda_account *a = &cuda_of(b)->account;
    return a->held + a->planned;
}

static swd_status cuda_memory(swd_backend *b, swd_memory *out, swd_err *err)
{
    *out = (swd_memory){.held = cuda_held(b), .peak = cuda_of(b)->account.peak};
    SWD_CUDA(cudaMemGetInfo(&out->free, &out->total), err);
    return SWD_OK;
}

static swd_status slab_create_cuda(swd_backend *b, swd_slab **out, size_t bytes, swd_err *err)
{
    *out = (swd_slab *)cuda_slab_create(&cuda_of(b)->account, bytes);
    if (*out) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_MEMORY, "no device memory for a block of %zu bytes", bytes);
}

static void slab_destroy_cuda(swd_backend *b, swd_slab **s)
{
    cuda_slab_destroy(&cuda_of(b)->account, (cuda_slab *)*s);
}

static void slab_use_cuda(swd_backend *b, swd_slab *s)
{
    cuda_account *a = &cuda_of(b)->account;
    a->at = (cuda_slab *)s;
    if (a->at) a->at->used = 0;
}

static void plan_cuda(swd_backend *b, bool on)
{
    cuda_of(b)->account.planning += on ? 1 : -1;
}

static const swd_slabs cuda_slabs = {slab_create_cuda, slab_destroy_cuda, slab_use_cuda, plan_cuda};

static swd_status cuda_bind(swd_backend *b, swd_err *err)
{
    SWD_CUDA(cudaSetDevice(cuda_of(b)->device.index), err);
    return SWD_OK;
}

static swd_status cuda_upload(swd_backend *b, swd_tensor dst, const void *src, swd_stream *s,
                              swd_err *err)
{
    if (!tensor_contiguous(dst))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "an upload goes to a contiguous tensor");
    if (cuda_planning(b)) return SWD_OK;
    return cuda_staging_copy(&cuda_of(b)->staging, dst.data, src, tensor_bytes(dst),
                             cuda_stream(b, s), err);
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

// Also where a kernel's complaint about a token id is heard: nothing that came after it is worth keeping. Whatever fails, the stream is
// empty afterwards: the caller frees what a download writes to.
static swd_status cuda_synchronize(swd_backend *b, swd_stream *s, swd_err *err)
{
    cuda_state *state = cuda_of(b);
    cudaStream_t stream = cuda_stream(b, s);
    cudaError_t asked = cudaMemcpyAsync(state->bad_id_seen, state->bad_id, sizeof *state->bad_id,
                                        cudaMemcpyDeviceToHost, stream);
    SWD_CUDA(cudaStreamSynchronize(stream), err);
    SWD_TRY(cuda_status(asked, "cudaMemcpyAsync", err), err);
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
        if (s->stream) (void)cudaStreamSynchronize(s->stream);
        nccl_close(b);
        vendor_close(b);
        cuda_staging_close(&s->staging);
        cuda_nvtx_close(b);
        if (s->stream) (void)cudaStreamDestroy(s->stream);
        (void)cudaFree(s->squares);
        (void)cudaFree(s->bad_id);
        (void)cudaFree(s->raw);
        (void)cudaFreeHost(s->bad_id_seen);
        cuda_account_close(&s->account);
    }
    free(s);
    free(b);
}

static swd_status open_device(swd_backend *b, int device, swd_err *err)
{
    cuda_state *s = cuda_of(b);
    SWD_TRY(cuda_device_open(&s->device, device, err), err);
    cuda_device_describe(&s->device, b->device, sizeof b->device);
    SWD_CUDA(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking), err);
    SWD_CUDA(cudaMalloc((void **)&s->bad_id, sizeof *s->bad_id), err);
    SWD_CUDA(cudaHostAlloc((void **)&s->bad_id_seen, sizeof *s->bad_id_seen, cudaHostAllocDefault),
             err);
    SWD_CUDA(cudaMemsetAsync(s->bad_id, 0, sizeof *s->bad_id, s->stream), err);
    SWD_CUDA(cudaMalloc(&s->raw, CUDA_STAGE_BYTES), err);
    SWD_CUDA(cudaMalloc((void **)&s->squares, K_SUM_SQUARES * sizeof *s->squares), err);
    SWD_TRY(cuda_staging_open(&s->staging, err), err);
    SWD_TRY(vendor_open(b, err), err);
    cuda_nvtx_open(b);
    SWD_CUDA(cudaStreamSynchronize(s->stream), err);
    return SWD_OK;
}

swd_status backend_cuda_create(swd_backend **out, int device, swd_err *err)
{
    *out = NULL;
    swd_backend *b = calloc(1, sizeof *b);
    cuda_state *state = calloc(1, sizeof *state);
    if (!b || !state) {
        free(b);
        free(state);
        return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for the CUDA backend");
    }
    b->state = state;
    b->name = "cuda";
    b->has_bf16 = b->native_bf16 = b->packs_f16 = true;
    b->destroy = cuda_destroy;
    b->alloc = cuda_alloc;
    b->release = cuda_release;
    b->upload = cuda_upload;
    b->download = cuda_download;
    b->synchronize = cuda_synchronize;
    b->weight_bytes = cuda_weight_bytes;
    b->bind = cuda_bind;
    b->memory = cuda_memory;
    b->held = cuda_held;
    b->slabs = &cuda_slabs;
    b->set_tune = vendor_set_mode;
    b->async = &cuda_async;
    b->collective = &cuda_collective;
    cuda_conv_slots(b);
    cuda_elementwise_slots(&b->ops);
    cuda_group_norm_slots(&b->ops);
    cuda_layout_slots(&b->ops);
    cuda_linear_slots(b);
    cuda_norm_slots(&b->ops);
    cuda_resize_slots(&b->ops);
    cuda_text_slots(&b->ops);
    cuda_attention_slots(&b->ops);
    cuda_gemm_slots(b);
    cuda_attention_backward_slots(b);
    cuda_norm_backward_slots(b);
    cuda_training_slots(b);
    b->backward = &state->backward;
    swd_status st = open_device(b, device, err);
    if (st != SWD_OK) {
        backend_destroy(&b);
        return st;
    }
    *out = b;
    return SWD_OK;
}
