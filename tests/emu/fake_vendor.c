// SPDX-License-Identifier: MIT
// Stands for cuBLASLt and for cuDNN on the emulated device, so that what gpu_check does with them runs in tests: products are right,
// as NVIDIA's documentation has them (column-major, op(A) op(B), epilogue), convolutions write something. FAKE_VENDOR changes that:
// "wrong" products, "none" proposed.
#include "vendor_abi.h"
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { FAILED = 13, BYTES = 2 }; // of a bf16

typedef struct layout {
    int type;
    int64_t rows, columns, stride;
} layout;

typedef struct library {
    uint16_t
        *result; // of the last product: lives until its copy is done, and the next call comes later
} library;

typedef struct operation {
    int transpose[2], epilogue;
    const void *bias;
} operation;

#define X(name, arguments) EXPORT int cublasLt##name arguments;
LT_FUNCTIONS(X)
#undef X
#define X(name, arguments) EXPORT int cudnn##name arguments;
DNN_FUNCTIONS(X)
#undef X
EXPORT size_t cublasLtGetVersion(void);
EXPORT size_t cudnnGetVersion(void);

static bool mode(const char *name)
{
    const char *m = getenv("FAKE_VENDOR");
    return m && strcmp(m, name) == 0;
}

static int make(void **out, size_t bytes)
{
    *out = calloc(1, bytes);
    return *out ? 0 : FAILED;
}

static int drop(void *p)
{
    free(p);
    return 0;
}

/* ---- cuBLASLt ---- */

size_t cublasLtGetVersion(void)
{
    return 1;
}

int cublasLtCreate(void **handle)
{
    return make(handle, sizeof(library));
}

int cublasLtDestroy(void *handle)
{
    free(((library *)handle)->result);
    return drop(handle);
}

int cublasLtMatmulDescCreate(void **desc, int compute, int scale_type)
{
    if (compute != LT_COMPUTE_32F || scale_type != CUDA_R_32F) return FAILED;
    return make(desc, sizeof(operation));
}

int cublasLtMatmulDescDestroy(void *desc)
{
    return drop(desc);
}

int cublasLtMatmulDescSetAttribute(void *desc, int attribute, const void *value, size_t bytes)
{
    operation *o = desc;
    void *const to[] = {[LT_DESC_TRANSA] = &o->transpose[0],
                        [LT_DESC_TRANSB] = &o->transpose[1],
                        [LT_DESC_EPILOGUE] = &o->epilogue,
                        [LT_DESC_BIAS_POINTER] = &o->bias};
    if (attribute < 0 || attribute > LT_DESC_BIAS_POINTER || !to[attribute] ||
        bytes != (attribute == LT_DESC_BIAS_POINTER ? sizeof o->bias : sizeof(int)))
        return FAILED;
    memcpy(to[attribute], value, bytes);
    return 0;
}

int cublasLtMatrixLayoutCreate(void **out, int type, uint64_t rows, uint64_t columns,
                               int64_t stride)
{
    if (type != CUDA_R_16BF || stride < (int64_t)rows || make(out, sizeof(layout))) return FAILED;
    *(layout *)*out = (layout){type, (int64_t)rows, (int64_t)columns, stride};
    return 0;
}

int cublasLtMatrixLayoutDestroy(void *l)
{
    return drop(l);
}

int cublasLtMatmulPreferenceCreate(void **preference)
{
    return make(preference, 1);
}

int cublasLtMatmulPreferenceDestroy(void *preference)
{
    return drop(preference);
}

int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value,
                                         size_t bytes)
{
    (void)preference, (void)value;
    return attribute == LT_PREF_MAX_WORKSPACE_BYTES && bytes == sizeof(size_t) ? 0 : FAILED;
}

// Three: one that the hardware lacks, one that fails when it runs, one that is good.
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *desc, void *a, void *b, void *c, void *d,
                                   void *preference, int wanted, lt_heuristic *results, int *found)
{
    (void)handle, (void)desc, (void)a, (void)b, (void)c, (void)d, (void)preference;
    *found = mode("none") || wanted < 3 ? 0 : 3;
    for (int i = 0; i < *found; i++)
        results[i] = (lt_heuristic){.algo = {{(uint64_t)i}}, .state = i == 0 ? FAILED : 0};
    return 0;
}

static float widen(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint16_t narrow(double x)
{
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static uint16_t *fetch(const void *device, int64_t n)
{
    uint16_t *host = malloc((size_t)n * BYTES);
    if (!host || cudaMemcpy(host, device, (size_t)n * BYTES, cudaMemcpyDeviceToHost)) abort();
    return host;
}

static double element(const uint16_t *m, const layout *l, int transpose, int64_t row,
                      int64_t column)
{
    return (double)widen(transpose ? m[column + row * l->stride] : m[row + column * l->stride]);
}

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

int cublasLtMatmul(void *handle, void *desc, const void *alpha, const void *a, void *a_layout,
                   const void *b, void *b_layout, const void *beta, const void *c, void *c_layout,
                   void *d, void *d_layout, const lt_algo *algo, void *workspace,
                   size_t workspace_bytes, cudaStream_t stream)
{
    library *lt = handle;
    const operation *o = desc;
    const layout *la = a_layout, *lb = b_layout, *ld = d_layout;
    int64_t inner = o->transpose[0] ? la->rows : la->columns;
    (void)c, (void)c_layout, (void)workspace, (void)workspace_bytes;
    if (algo->data[0] != 2 || *(const float *)alpha != 1 || *(const float *)beta != 0 ||
        inner != (o->transpose[1] ? lb->columns : lb->rows) ||
        ld->rows != (o->transpose[0] ? la->columns : la->rows) ||
        ld->columns != (o->transpose[1] ? lb->rows : lb->columns))
        return FAILED;
    uint16_t *ha = fetch(a, la->stride * la->columns), *hb = fetch(b, lb->stride * lb->columns),
             *bias = fetch(o->bias, ld->rows);
    size_t bytes = (size_t)(ld->stride * ld->columns) * BYTES;
    free(lt->result);
    uint16_t *result = lt->result = calloc(1, bytes);
    if (!result) abort();
    for (int64_t k = 0; k < ld->columns; k++)
        for (int64_t i = 0; i < ld->rows; i++) {
            double sum = (double)widen(bias[i]) + (mode("wrong") && i == 3);
            for (int64_t j = 0; j < inner; j++)
                sum +=
                    element(ha, la, o->transpose[0], i, j) * element(hb, lb, o->transpose[1], j, k);
            result[i + k * ld->stride] =
                narrow(o->epilogue == LT_EPILOGUE_GELU_BIAS ? gelu(sum) : sum);
        }
    free(ha), free(hb), free(bias);
    return cudaMemcpyAsync(d, result, bytes, cudaMemcpyHostToDevice, stream) ? FAILED : 0;
}

/* ---- cuDNN ---- */

static cudaStream_t dnn_stream;

typedef struct map {
    int dims[4], format, type;
} map;

size_t cudnnGetVersion(void)
{
    return 2;
}

int cudnnCreate(void **handle)
{
    return make(handle, 1);
}

int cudnnDestroy(void *handle)
{
    return drop(handle);
}

int cudnnSetStream(void *handle, cudaStream_t stream)
{
    (void)handle;
    dnn_stream = stream;
    return 0;
}

int cudnnCreateTensorDescriptor(void **tensor)
{
    return make(tensor, sizeof(map));
}

int cudnnDestroyTensorDescriptor(void *tensor)
{
    return drop(tensor);
}

int cudnnSetTensor4dDescriptor(void *tensor, int format, int type, int n, int c, int h, int w)
{
    *(map *)tensor = (map){{n, c, h, w}, format, type};
    return format == DNN_NHWC && type == DNN_BF16 ? 0 : FAILED;
}

int cudnnCreateFilterDescriptor(void **filter)
{
    return make(filter, sizeof(map));
}

int cudnnDestroyFilterDescriptor(void *filter)
{
    return drop(filter);
}

int cudnnSetFilter4dDescriptor(void *filter, int type, int format, int k, int c, int h, int w)
{
    return cudnnSetTensor4dDescriptor(filter, format, type, k, c, h, w);
}

int cudnnCreateConvolutionDescriptor(void **conv)
{
    return make(conv, sizeof(map));
}

int cudnnDestroyConvolutionDescriptor(void *conv)
{
    return drop(conv);
}

int cudnnSetConvolution2dDescriptor(void *conv, int pad_h, int pad_w, int stride_h, int stride_w,
                                    int dilation_h, int dilation_w, int kind, int compute)
{
    *(map *)conv = (map){{pad_h, pad_w, stride_h, stride_w}, kind, compute};
    return dilation_h == 1 && dilation_w == 1 && kind == DNN_CROSS_CORRELATION &&
                   compute == DNN_FLOAT
               ? 0
               : FAILED;
}

int cudnnSetConvolutionMathType(void *conv, int math)
{
    (void)conv;
    return math == DNN_TENSOR_OP_MATH ? 0 : FAILED;
}

static size_t map_bytes(const map *m)
{
    return (size_t)m->dims[0] * (size_t)m->dims[1] * (size_t)m->dims[2] * (size_t)m->dims[3] *
           BYTES;
}

static int write_map(const map *x, const map *filter, const map *conv, const map *y, void *to)
{
    const int *p = conv->dims, *k = filter->dims;
    for (int i = 0; i < 2; i++)
        if (y->dims[2 + i] != (x->dims[2 + i] + 2 * p[i] - k[2 + i]) / p[2 + i] + 1) return FAILED;
    if (x->dims[1] != k[1] || y->dims[1] != k[0]) return FAILED;
    return cudaMemsetAsync(to, 0x3c, map_bytes(y), dnn_stream) ? FAILED : 0;
}

int cudnnFindConvolutionForwardAlgorithmEx(void *handle, void *x_tensor, const void *x,
                                           void *filter, const void *w, void *conv, void *y_tensor,
                                           void *y, int wanted, int *found, dnn_algo *results,
                                           void *workspace, size_t workspace_bytes)
{
    (void)handle, (void)workspace, (void)workspace_bytes;
    free(fetch(x, (int64_t)map_bytes(x_tensor) / BYTES)); // both are there, whole
    free(fetch(w, (int64_t)map_bytes(filter) / BYTES));
    *found = mode("none") || wanted < 1 ? 0 : 1;
    results[0] = (dnn_algo){.algo = 5};
    return write_map(x_tensor, filter, conv, y_tensor, y);
}

int cudnnConvolutionForward(void *handle, const void *alpha, void *x_tensor, const void *x,
                            void *filter, const void *w, void *conv, int algo, void *workspace,
                            size_t workspace_bytes, const void *beta, void *y_tensor, void *y)
{
    (void)handle, (void)x, (void)w, (void)workspace, (void)workspace_bytes;
    if (algo != 5 || *(const float *)alpha != 1 || *(const float *)beta != 0) return FAILED;
    return write_map(x_tensor, filter, conv, y_tensor, y);
}
