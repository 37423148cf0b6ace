// SPDX-License-Identifier: MIT
// From tensors to launchers: tensors of five dimensions with strides that no two of them share, against the CPU; token ids outside their
// table; more images than one launch takes.
#include "launch_support.h"
#include "backend_cuda.h"
#include "backend/ops.h"

static swd_err error;
static swd_backend *backends[2]; // cpu, cuda

#define OK(call) CHECK((call) == SWD_OK, "%s", error.message)

static const int64_t shape5[] = {2, 3, 2, 2, 8};

// [2, 3, 2, 2, 8] in memory of 1000 elements, the dimensions in this order (outermost first) with gaps; NaN between.
static swd_tensor strided(void *data, const int *order, int gap)
{
    swd_tensor t = tensor_make(data, SWD_F32, shape5, 5);
    int64_t step = 8 + gap;
    for (int i = 3; i >= 0; i--) {
        t.stride[order[i]] = step;
        step = step * shape5[order[i]] + gap;
    }
    CHECK(step <= 1000, "%lld elements", (long long)step);
    return t;
}

typedef enum kind { COPY, ACTIVATION, AXPBY, GATED, GUIDANCE, FILL, LAYERNORM, RMS, N_KINDS } kind;

static swd_status run(kind k, swd_tensor y, swd_tensor x, swd_tensor z, swd_exec *ex)
{
    switch (k) {
    case COPY:
        return op_copy(y, x, ex);
    case ACTIVATION:
        return op_activation(y, x, SWD_ACT_SILU, ex);
    case AXPBY:
        return op_axpby(y, 2, x, 3, z, ex);
    case GATED:
        return op_gated_gelu(y, x, z, ex);
    case GUIDANCE:
        return op_guidance_combine(y, x, z, 2, ex);
    case FILL:
        return op_fill(y, 2.5f, ex);
    case LAYERNORM:
        return op_layernorm(y, x, tensor_none(), tensor_none(), 1e-3f, ex);
    default:
        return op_rms_norm(y, x, tensor_none(), 1e-3f, ex);
    }
}

static void check_five_dimensions(kind k, const int *oy, const int *ox, const int *oz, int gap)
{
    enum { N = 1000 };
    static const size_t bytes = N * sizeof(float);
    float x[N], z[N], y[2][N];
    for (int i = 0; i < N; i++) x[i] = (float)random_unit(), z[i] = (float)random_unit();
    for (int b = 0; b < 2; b++) {
        swd_exec ex = {.backend = backends[b], .err = &error};
        void *memory[3];
        for (int i = 0; i < 3; i++) memory[i] = backends[b]->alloc(backends[b], bytes);
        memset(y[b], 0xff, bytes);
        const float *from[] = {y[b], x, z};
        for (int i = 0; i < 3; i++)
            OK(backends[b]->upload(backends[b], tensor1(memory[i], SWD_F32, N), from[i], NULL,
                                   &error));
        OK(run(k, strided(memory[0], oy, gap), strided(memory[1], ox, gap),
               strided(memory[2], oz, gap), &ex));
        OK(backends[b]->download(backends[b], y[b], tensor1(memory[0], SWD_F32, N), NULL, &error));
        OK(backends[b]->synchronize(backends[b], NULL, &error));
        for (int i = 0; i < 3; i++) backends[b]->release(backends[b], memory[i]);
    }
    for (int i = 0; i < N; i++) {
        float a = y[0][i], c = y[1][i];
        CHECK(isnan(a) ? isnan(c) : fabsf(a - c) <= 4e-6f, "kind %d, element %d: cpu %g, cuda %g",
              k, i, (double)a, (double)c);
    }
}

static void test_five_dimensions(void)
{
    static const int orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}};
    for (int k = 0; k < N_KINDS; k++)
        for (int i = 0; i < 4; i++)
            for (int gap = 0; gap < 9; gap += 4)
                check_five_dimensions((kind)k, orders[i], orders[(i * 3 + gap) % 4],
                                      orders[(i + 2) % 4], gap);
}

// Between the ids that are good, one that is not: an error at the next synchronize, and only there.
static void test_token_ids(void)
{
    swd_backend *b = backends[1];
    swd_exec ex = {.backend = b, .err = &error};
    int32_t ids[6] = {0, 4, 2, 1, 5, 3};
    float table[5 * 8] = {0};
    swd_tensor t = tensor2(b->alloc(b, sizeof table), SWD_F32, 5, 8),
               i = tensor2(b->alloc(b, sizeof ids), SWD_I32, 2, 3),
               y = tensor3(b->alloc(b, 6 * 8 * 4), SWD_F32, 2, 3, 8);
    OK(b->upload(b, t, table, NULL, &error));
    for (int round = 0; round < 2; round++) {
        ids[4] = 5;
        OK(b->upload(b, i, ids, NULL, &error));
        OK(op_embed(y, t, i, &ex));
        CHECK(b->synchronize(b, NULL, &error) == SWD_ERR_ARGUMENT &&
                  strstr(error.message, "position 4"),
              "\"%s\"", error.message);
        ids[4] = 0;
        OK(b->upload(b, i, ids, NULL, &error));
        OK(op_embed(y, t, i, &ex));
        OK(b->synchronize(b, NULL, &error));
    }
    b->release(b, t.data), b->release(b, i.data), b->release(b, y.data);
}

// 70 images of noise take three launches.
static void test_many_images(void)
{
    enum { B = 70, N = 37 };
    float y[2][B * N];
    uint64_t seeds[B];
    for (int i = 0; i < B; i++) seeds[i] = (uint64_t)i * 0x9e3779b97f4a7c15u;
    for (int k = 0; k < 2; k++) {
        swd_exec ex = {.backend = backends[k], .err = &error};
        swd_tensor t = tensor2(backends[k]->alloc(backends[k], sizeof y[k]), SWD_F32, B, N);
        OK(op_noise(t, seeds, 3, &ex));
        OK(backends[k]->download(backends[k], y[k], t, NULL, &error));
        OK(backends[k]->synchronize(backends[k], NULL, &error));
        backends[k]->release(backends[k], t.data);
    }
    CHECK(memcmp(y[0], y[1], sizeof y[0]) == 0, "the noise differs");
}

int main(int argc, char **argv)
{
    CHECK(backend_cpu_create(&backends[0], 1, &error) == SWD_OK, "%s", error.message);
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0)
        CHECK(backend_cuda_create(&backends[1], 0, &error) == SWD_OK, "%s", error.message);
    static const launch_test tests[] = {
        {"five_dimensions", test_five_dimensions},
        {"token_ids", test_token_ids},
        {"many_images", test_many_images},
    };
    int result = run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
    for (int i = 0; i < 2; i++) backend_destroy(&backends[i]);
    return result;
}
