// SPDX-License-Identifier: MIT
// NHWC maps and weights [O, kh, kw, I], bf16, float32 sums; the functions that cuDNN 9 still has beside its graphs.
#include "peer_cudnn.h"
#include "backend_cuda.h"
#include "base/memory.h"
#include "libraries.h"
#include "vendor_abi.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

enum { ALGORITHMS = 8 };
// Transforms of the maps and of the filter are some times as large as they are.
static const size_t workspace_min = (size_t)4 << 20, workspace_max = (size_t)1 << 30;
enum { WORKSPACE_TIMES = 16 };

struct cudnn {
    void *library, *handle;
#define X(name, arguments) int(*name) arguments;
    DNN_FUNCTIONS(X)
#undef X
};

typedef struct convolution {
    peer peer; // first
    const cudnn *dnn;
    void *x_tensor, *y_tensor, *filter, *conv; // descriptors
    void *x, *w, *workspace;
    size_t workspace_bytes;
    dnn_algo algo;
} convolution;

/* ---- the library ---- */

static const char *take_all(cudnn *dnn)
{
#define X(name, arguments)                                                                         \
    if (!library_take(&dnn->name, dnn->library, "cudnn" #name)) return "cudnn" #name;
    DNN_FUNCTIONS(X)
#undef X
    return NULL;
}

swd_status cudnn_open(cudnn **out, report *r, const char *where, cudaStream_t stream, swd_err *err)
{
    static const char *const names[] = {"libcudnn.so.9", NULL};
    char path[1024], text[1200];
    size_t (*version)(void);
    cudnn *dnn;
    *out = NULL;
    SWD_TRY(swd_calloc(&dnn, 1, sizeof *dnn, "cuDNN", err), err);
    dnn->library = library_open(path, sizeof path, names, where);
    const char *missing = dnn->library ? take_all(dnn) : NULL;
    int status = dnn->library && !missing ? dnn->Create(&dnn->handle) : 0;
    if (dnn->handle && status == 0) status = dnn->SetStream(dnn->handle, stream);
    if (!dnn->library)
        snprintf(text, sizeof text, "not found");
    else if (missing)
        snprintf(text, sizeof text, "%s has no %s", path, missing);
    else if (status)
        snprintf(text, sizeof text, "%s gives no handle (status %d)", path, status);
    else
        snprintf(text, sizeof text, "%s, version %zu", path,
                 library_take(&version, dnn->library, "cudnnGetVersion") ? version() : 0);
    report_fact(r, "cudnn", text);
    if (dnn->handle && status == 0)
        *out = dnn;
    else
        cudnn_close(&dnn);
    return SWD_OK;
}

void cudnn_close(cudnn **dnn)
{
    if (!*dnn) return;
    if ((*dnn)->handle) (*dnn)->Destroy((*dnn)->handle);
    if ((*dnn)->library) dlclose((*dnn)->library);
    free(*dnn);
    *dnn = NULL;
}

/* ---- a convolution ---- */

static swd_status run(void *arg, swd_err *err)
{
    const convolution *c = arg;
    const float one = 1, zero = 0;
    int s = c->dnn->ConvolutionForward(c->dnn->handle, &one, c->x_tensor, c->x, c->filter, c->w,
                                       c->conv, c->algo.algo, c->workspace, c->workspace_bytes,
                                       &zero, c->y_tensor, c->peer.y);
    return s == 0 ? SWD_OK : SWD_FAIL(err, SWD_ERR_DEVICE, "cudnnConvolutionForward: status %d", s);
}

static void close_convolution(peer *base)
{
    convolution *c = (convolution *)base;
    const cudnn *dnn = c->dnn;
    if (c->x_tensor) dnn->DestroyTensorDescriptor(c->x_tensor);
    if (c->y_tensor) dnn->DestroyTensorDescriptor(c->y_tensor);
    if (c->filter) dnn->DestroyFilterDescriptor(c->filter);
    if (c->conv) dnn->DestroyConvolutionDescriptor(c->conv);
    void *const memory[] = {c->x, c->w, c->workspace, c->peer.y};
    for (int i = 0; i < 4; i++) (void)cudaFree(memory[i]);
    free(c);
}

static int describe(convolution *c, const int64_t *d)
{
    const cudnn *dnn = c->dnn;
    const int side = (int)d[0], in = (int)d[1], out = (int)d[2], k = (int)d[3];
    int s = dnn->CreateTensorDescriptor(&c->x_tensor);
    if (!s) s = dnn->CreateTensorDescriptor(&c->y_tensor);
    if (!s) s = dnn->CreateFilterDescriptor(&c->filter);
    if (!s) s = dnn->CreateConvolutionDescriptor(&c->conv);
    if (!s) s = dnn->SetTensor4dDescriptor(c->x_tensor, DNN_NHWC, DNN_BF16, 1, in, side, side);
    if (!s) s = dnn->SetTensor4dDescriptor(c->y_tensor, DNN_NHWC, DNN_BF16, 1, out, side, side);
    if (!s) s = dnn->SetFilter4dDescriptor(c->filter, DNN_BF16, DNN_NHWC, out, in, k, k);
    if (!s)
        s = dnn->SetConvolution2dDescriptor(c->conv, k / 2, k / 2, 1, 1, 1, 1,
                                            DNN_CROSS_CORRELATION, DNN_FLOAT);
    if (!s) s = dnn->SetConvolutionMathType(c->conv, DNN_TENSOR_OP_MATH);
    return s;
}

// [O, I, kh, kw] of the job as [O, kh, kw, I] on the device.
static swd_status upload(convolution *c, const job *j, swd_err *err)
{
    const part *o = &j->plan.part[2];
    const int64_t out = o->shape[0], in = o->shape[1], taps = o->shape[2] * o->shape[3];
    void *from;
    uint16_t *to = NULL;
    size_t bytes = (size_t)(out * in * taps) * sizeof *to;
    SWD_TRY(job_weight(&from, &j->plan, 2, err), err);
    swd_status st = swd_malloc(&to, bytes, 1, "a filter", err);
    for (int64_t k = 0; st == SWD_OK && k < out * in * taps; k++)
        to[(k / in / taps * taps + k % taps) * in + k / taps % in] = ((uint16_t *)from)[k];
    if (st == SWD_OK) st = peer_upload(&c->w, to, bytes, cuda_stream(j->ex.backend, NULL), err);
    free(from), free(to);
    return st;
}

static swd_status take_memory(convolution *c, const int64_t *d, swd_err *err)
{
    const size_t pixels = (size_t)(d[0] * d[0]);
    size_t wanted = (pixels * (size_t)(d[1] + d[2]) + (size_t)(d[1] * d[2] * d[3] * d[3])) * 2 *
                    WORKSPACE_TIMES;
    c->workspace_bytes = wanted < workspace_min   ? workspace_min
                         : wanted > workspace_max ? workspace_max
                                                  : wanted;
    SWD_CUDA(cudaMalloc(&c->x, pixels * (size_t)d[1] * 2), err);
    SWD_CUDA(cudaMalloc(&c->peer.y, pixels * (size_t)d[2] * 2), err);
    SWD_CUDA(cudaMalloc(&c->workspace, c->workspace_bytes), err);
    return SWD_OK;
}

// The job's own map, or where that is to be upsampled one of the size that cuDNN needs.
static swd_status fill_map(convolution *c, const job *j, swd_err *err)
{
    const int64_t *d = j->shape->d;
    const size_t bytes = (size_t)(d[0] * d[0] * d[1]) * 2;
    cudaStream_t stream = cuda_stream(j->ex.backend, NULL);
    if (j->plan.upsample)
        SWD_CUDA(cudaMemsetAsync(c->x, 0x3c, bytes, stream), err); // 0x3c3c is 0.0115
    else
        SWD_CUDA(cudaMemcpyAsync(c->x, j->t[1].data, bytes, cudaMemcpyDeviceToDevice, stream), err);
    SWD_CUDA(cudaStreamSynchronize(stream), err);
    return SWD_OK;
}

swd_status cudnn_make(peer **out, const cudnn *dnn, const job *j, swd_err *err)
{
    const int64_t *d = j->shape->d;
    dnn_algo found[ALGORITHMS];
    int n = 0;
    convolution *c;
    *out = NULL;
    SWD_TRY(swd_calloc(&c, 1, sizeof *c, "a convolution of cuDNN", err), err);
    c->dnn = dnn;
    c->peer = (peer){.name = "cudnn", .run = run, .close = close_convolution};
    swd_status st = take_memory(c, d, err);
    if (st == SWD_OK) st = upload(c, j, err);
    if (st == SWD_OK) st = fill_map(c, j, err);
    if (st == SWD_OK && describe(c, d) == 0 &&
        dnn->FindConvolutionForwardAlgorithmEx(dnn->handle, c->x_tensor, c->x, c->filter, c->w,
                                               c->conv, c->y_tensor, c->peer.y, ALGORITHMS, &n,
                                               found, c->workspace, c->workspace_bytes) != 0)
        n = 0;
    if (st != SWD_OK || n < 1 || found[0].status != 0) {
        close_convolution(&c->peer);
        return st;
    }
    c->algo = found[0]; // they come sorted by time
    *out = &c->peer;
    return SWD_OK;
}
