/* SPDX-License-Identifier: MIT */
/* For test_vendor.c: the stand-ins' controls, what the backend says, and single ops on operands full of numbers, for a part of their samples. */
#ifndef SWD_TESTS_EMU_VENDOR_JOB_H
#define SWD_TESTS_EMU_VENDOR_JOB_H
#include "backend/async.h"
#include "backend/backward.h"
#include "backend/devices.h"
#include "backend/ops.h"
#include "backend/slab.h"
#include "base/memory.h"
#include "emu/control.h"
#include "fake_vendor.h"
#include "tiny_folder.h"
#include <dlfcn.h>
#include <math.h>

enum { SAMPLES = 3, ELEMENTS_MAX = 1 << 16 };
static swd_err error;

/* ---- the stand-ins ---- */

static struct {
    int (*calls)(void);
    void (*fail)(int);
    int (*live)(void);
    int (*work)(int);
} fake;

static void find_fake(void)
{
    char path[1024];
    const char *folder = getenv("SWD_VENDOR_LIBS");
    CHECK(folder, "SWD_VENDOR_LIBS is not set: run by vendor_run.sh");
    snprintf(path, sizeof path, "%s/libcudnn.so.9", folder);
    void *module = dlopen(path, RTLD_NOW);
    CHECK(module, "%s", dlerror());
    void *const found[] = {dlsym(module, "fake_vendor_calls"), dlsym(module, "fake_vendor_fail"),
                           dlsym(module, "fake_vendor_live"), dlsym(module, "fake_vendor_work")};
    memcpy(&fake, found, sizeof fake);
    CHECK(fake.calls && fake.fail && fake.live && fake.work, "not the stand-ins");
}

/* ---- what is said ---- */

static char said[1 << 16];

static void hear(void *ctx, swd_log_level level, const char *text)
{
    (void)ctx, (void)level;
    size_t n = strlen(said);
    snprintf(said + n, sizeof said - n, "%s\n", text);
}

static const swd_log ear = {SWD_LOG_DEBUG, hear, NULL};

static swd_backend *open_backend(const char *mode)
{
    char note[DEVICE_NOTE_MAX];
    swd_backend *b;
    OK(device_open(&b, note, "cuda", 1, &error), error);
    OK(b->set_tune(b, mode, &error), error);
    b->log = &ear;
    said[0] = '\0';
    return b;
}

static void close_backend(swd_backend **b)
{
    backend_destroy(b);
    CHECK(fake.live() == 0, "%d descriptors of the libraries are left", fake.live());
    CHECK(emu_live_bytes() == 0, "%zu bytes of the device are left", emu_live_bytes());
}

/* ---- one op: operands full of numbers, dry, then in a slab of what that asked for ---- */

typedef enum family { LINEAR, CONV, ATTENTION, PRODUCT } family;

typedef struct trial {
    family family;
    swd_dtype compute, result;
    int64_t rows, n, k; // linear, product; conv: side, out, in; attention: tokens, heads, head_dim
    swd_act act;
    bool bias, wide_bias, residual, gate, upsample, causal, flat;
    bool a_across, b_across; // of a product, whose residual is its result
    int64_t gap;             // between rows
} trial;

static float number(int64_t i)
{
    return (float)((i * 7919 + 13) % 251 - 125) / 128.0f;
}

// Numbers of any storage on the device, [n] of them.
static void *operand(swd_backend *b, swd_dtype dtype, int64_t n, int64_t from)
{
    static uint16_t narrow[ELEMENTS_MAX];
    static float wide[ELEMENTS_MAX];
    CHECK(n <= ELEMENTS_MAX, "%lld elements", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        wide[i] = number(i + from);
        narrow[i] = dtype == SWD_BF16 ? f32_to_bf16(wide[i]) : f32_to_f16(wide[i]);
    }
    void *p = b->alloc(b, (size_t)n * dtype_size(dtype));
    CHECK(p, "no memory");
    OK(b->upload(b, tensor1(p, dtype, n), dtype == SWD_F32 ? (void *)wide : narrow, NULL, &error),
       error);
    OK(b->synchronize(b, NULL, &error), error);
    return p;
}

typedef struct job {
    const trial *t;
    swd_backend *b;
    swd_linear *linear;
    swd_conv *conv;
    int64_t per_sample; // elements of the result, with its gaps
    int64_t shift;      // of a product's a, in elements
    void *memory[4];    // result, operand, residual or b, gate or bias
} job;

static void job_open(job *j, const trial *t, swd_backend *b)
{
    static float weight[ELEMENTS_MAX], bias[1024];
    *j = (job){.t = t, .b = b};
    int64_t taps = t->family == CONV ? 9 : 1;
    for (int64_t i = 0; i < t->n * t->k * taps; i++) weight[i] = number(3 * i) / 8;
    for (int64_t i = 0; i < t->n; i++) bias[i] = t->wide_bias ? 1 / (float)(i + 3) : number(i);
    swd_tensor c = t->bias ? tensor1(bias, SWD_F32, t->n) : tensor_none();
    int64_t x = t->rows * (t->k + t->gap), y = t->rows * (t->n + t->gap);
    if (t->family == LINEAR) {
        OK(b->linear_create(b, &j->linear, tensor2(weight, SWD_F32, t->n, t->k), c, t->compute,
                            &error),
           error);
    } else if (t->family == CONV) {
        OK(b->conv_create(b, &j->conv, tensor4(weight, SWD_F32, t->n, t->k, 3, 3), c, 1, 1, 1,
                          t->upsample, t->compute, &error),
           error);
        x = t->rows * t->rows * t->k;
        y = t->rows * t->rows * t->n * (t->upsample ? 4 : 1);
    } else if (t->family == PRODUCT) {
        x = t->a_across ? t->k * (t->rows + t->gap) : t->rows * (t->k + t->gap);
        j->memory[2] = operand(b, t->compute,
                               t->b_across ? t->k * (t->n + t->gap) : t->n * (t->k + t->gap), 3);
        j->memory[3] = operand(b, SWD_F32, t->n, 7);
    } else {
        x = 3 * t->rows * t->n * t->k, y = x / 3;
    }
    j->per_sample = y;
    j->memory[0] = operand(b, t->result, SAMPLES * y, 5);
    j->memory[1] = operand(b, t->compute, SAMPLES * x + 1, 1);
    if (t->residual && t->family != PRODUCT) j->memory[2] = operand(b, t->result, SAMPLES * y, 5);
    if (t->gate) j->memory[3] = operand(b, SWD_F32, SAMPLES * t->n, 3);
}

static void job_close(job *j)
{
    for (int i = 0; i < 4; i++) j->b->release(j->b, j->memory[i]);
    if (j->linear) j->b->linear_destroy(j->b, &j->linear);
    if (j->conv) j->b->conv_destroy(j->b, &j->conv);
}

// Rows of samples [from, from + n); dry: without place.
static swd_tensor rows_of(const job *j, int which, swd_dtype dtype, int64_t columns, int64_t from,
                          int64_t n, bool dry)
{
    const int64_t stride = columns + j->t->gap;
    char *p = (char *)j->memory[which] + from * j->t->rows * stride * (int64_t)dtype_size(dtype);
    swd_tensor t = tensor3(dry ? NULL : p, dtype, n, j->t->rows, columns);
    t.stride[1] = stride;
    t.stride[0] = j->t->rows * stride;
    if (!j->t->flat) return t;
    t = tensor2(t.data, dtype, n * j->t->rows, columns);
    t.stride[0] = stride;
    return t;
}

// [rows, columns], in memory as it is or, across, as its transpose.
static swd_tensor matrix(void *data, swd_dtype dtype, int64_t rows, int64_t columns,
                         bool transposed, int64_t gap)
{
    swd_tensor t = tensor2(data, dtype, rows, columns);
    t.stride[0] = transposed ? 1 : columns + gap;
    t.stride[1] = transposed ? rows + gap : 1;
    return t;
}

// Each sample has c and a of its own, b and the bias are shared.
static swd_status call_products(const job *j, int64_t from, int64_t n, swd_exec *ex)
{
    const trial *t = j->t;
    const int64_t x = t->a_across ? t->k * (t->rows + t->gap) : t->rows * (t->k + t->gap);
    for (int64_t i = from; i < from + n; i++) {
        char *c = (char *)j->memory[0] + i * j->per_sample * (int64_t)dtype_size(t->result),
             *a = (char *)j->memory[1] + (i * x + j->shift) * (int64_t)dtype_size(t->compute);
        gemm_args g = {
            .c = matrix(ex->dry ? NULL : c, t->result, t->rows, t->n, false, t->gap),
            .a = matrix(ex->dry ? NULL : a, t->compute, t->rows, t->k, t->a_across, t->gap),
            .b =
                matrix(ex->dry ? NULL : j->memory[2], t->compute, t->k, t->n, !t->b_across, t->gap),
            .add = t->residual};
        if (t->bias) g.bias = tensor1(ex->dry ? NULL : j->memory[3], SWD_F32, t->n);
        SWD_TRY(op_gemm(&g, ex), ex->err);
    }
    return SWD_OK;
}

static swd_status call(const job *j, int64_t from, int64_t n, swd_exec *ex)
{
    const trial *t = j->t;
    const bool dry = ex->dry;
    if (t->family == PRODUCT) return call_products(j, from, n, ex);
    if (t->family == LINEAR) {
        swd_tensor y = rows_of(j, 0, t->result, t->n, from, n, dry),
                   x = rows_of(j, 1, t->compute, t->k, from, n, dry),
                   gate =
                       tensor2(dry ? NULL : (float *)j->memory[3] + from * t->n, SWD_F32, n, t->n);
        if (!t->residual) return op_linear(y, x, j->linear, t->act, ex);
        return op_linear_residual(y, y, t->gate ? gate : tensor_none(), x, j->linear, ex);
    }
    const size_t size = dtype_size(t->result);
    char *out = (char *)j->memory[0] + (size_t)(from * j->per_sample) * size,
         *more = t->residual ? (char *)j->memory[2] + (size_t)(from * j->per_sample) * size : NULL;
    if (t->family == CONV) {
        int64_t side = t->rows * (t->upsample ? 2 : 1);
        char *in = (char *)j->memory[1] +
                   (size_t)(from * t->rows * t->rows * t->k) * dtype_size(t->compute);
        swd_tensor y = tensor4(dry ? NULL : out, t->result, n, side, side, t->n),
                   x = tensor4(dry ? NULL : in, t->compute, n, t->rows, t->rows, t->k),
                   r = tensor4(dry ? NULL : more, t->result, n, side, side, t->n);
        return t->upsample ? op_upsample_conv(y, x, j->conv, ex)
                           : op_conv(y, x, j->conv, t->act, t->residual ? r : tensor_none(), ex);
    }
    char *in =
        (char *)j->memory[1] + (size_t)(from * 3 * t->rows * t->n * t->k) * dtype_size(t->compute);
    attention_args a = {.n_streams = 1, .scale = 0.125f, .causal = t->causal};
    swd_tensor qkv = tensor3(dry ? NULL : in, t->compute, n, t->rows, 3 * t->n * t->k), part[3];
    for (int i = 0; i < 3; i++)
        part[i] = tensor_split_last(tensor_slice(qkv, 2, i * t->n * t->k, t->n * t->k), t->k);
    a.q[0] = part[0], a.k[0] = part[1], a.v[0] = part[2];
    a.o[0] = tensor4(dry ? NULL : out, t->result, n, t->rows, t->n, t->k);
    return op_attention(&a, ex);
}

static swd_status run(const job *j, int64_t from, int64_t n, swd_err *err)
{
    swd_exec dry = {.backend = j->b, .err = err, .dry = true};
    SWD_TRY(call(j, from, n, &dry), err);
    swd_exec ex = {.backend = j->b, .err = err, .slab_bytes = dry.peak};
    ex.slab = j->b->alloc(j->b, dry.peak);
    if (!ex.slab) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a slab");
    swd_status s = call(j, from, n, &ex);
    if (s == SWD_OK) s = j->b->synchronize(j->b, NULL, err);
    j->b->release(j->b, ex.slab);
    return s;
}

static void fetch(uint8_t *out, const job *j)
{
    swd_backend *b = j->b;
    int64_t n = SAMPLES * j->per_sample;
    OK(b->download(b, out, tensor1(j->memory[0], j->t->result, n), NULL, &error), error);
    OK(b->synchronize(b, NULL, &error), error);
}

static int all_work(void)
{
    return fake.work(FAKE_PRODUCT) + fake.work(FAKE_CONVOLUTION) + fake.work(FAKE_ATTENTION);
}
#endif
