// SPDX-License-Identifier: MIT
// From tensors to launchers: tensors of five dimensions with strides that no two of them share, against the CPU; token ids outside their
// table; more images than one launch takes; a recorded graph over other seeds and sigmas; products and frozen weights of training.
#include "backends.h"
#include "backend/async.h"

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
    renoise_step steps[B];
    for (int i = 0; i < B; i++)
        steps[i] = (renoise_step){.seed = (uint64_t)i * 0x9e3779b97f4a7c15u, .draw = 3};
    for (int k = 0; k < 2; k++) {
        swd_backend *b = backends[k];
        swd_exec ex = {.backend = b, .err = &error};
        swd_tensor t = tensor2(b->alloc(b, sizeof y[k]), SWD_F32, B, N),
                   s = tensor2(b->alloc(b, sizeof steps), SWD_U8, B, sizeof *steps);
        OK(b->upload(b, s, steps, NULL, &error));
        OK(op_noise(t, s, &ex));
        OK(b->download(b, y[k], t, NULL, &error));
        OK(b->synchronize(b, NULL, &error));
        b->release(b, t.data), b->release(b, s.data);
    }
    CHECK(memcmp(y[0], y[1], sizeof y[0]) == 0, "the noise differs");
}

enum { IMAGES = 3, SMALL = 2 * 4 * 6, LARGE = 2 * 6 * 8 };

// x = noise, y = the next scale from it: steps [2][IMAGES].
static void two_scales(swd_tensor y, swd_tensor x, swd_tensor steps, swd_exec *ex)
{
    swd_tensor row[2];
    for (int k = 0; k < 2; k++)
        row[k] = tensor_reshape(tensor_slice(steps, 0, k, 1), steps.shape + 1, 2);
    OK(op_noise(x, row[0], ex));
    OK(op_resize_renoise(&(resize_renoise_args){.y = y, .x = x, .v = x, .steps = row[1]}, ex));
}

// What differs between requests is read when the graph runs: recorded once, replayed over other seeds, draws and sigmas.
static void test_replay(void)
{
    renoise_step steps[2 * IMAGES];
    float want[IMAGES * LARGE], got[IMAGES * LARGE];
    swd_tensor x[2], y[2], s[2];
    swd_exec ex[2];
    for (int k = 0; k < 2; k++) {
        swd_backend *b = backends[k];
        ex[k] = (swd_exec){.backend = b, .err = &error};
        x[k] = tensor4(b->alloc(b, IMAGES * SMALL * 4), SWD_F32, IMAGES, 2, 4, 6);
        y[k] = tensor4(b->alloc(b, sizeof got), SWD_F32, IMAGES, 2, 6, 8);
        s[k] = tensor3(b->alloc(b, sizeof steps), SWD_U8, 2, IMAGES, sizeof *steps);
    }
    swd_backend *cuda = backends[1];
    swd_graph *graph;
    OK(stream_create(&ex[1].stream, cuda, &error));
    OK(graph_capture(ex[1].stream, cuda, &error));
    two_scales(y[1], x[1], s[1], &ex[1]);
    OK(graph_capture_end(&graph, ex[1].stream, cuda, &error));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2 * IMAGES; i++)
            steps[i] = (renoise_step){.seed = (uint64_t)(i + 7 * round) << 40,
                                      .draw = (uint32_t)(i + round),
                                      .sigma = (float)(i + 1) / 8,
                                      .sigma_next = (float)(round * i) / 12};
        for (int k = 0; k < 2; k++)
            OK(backends[k]->upload(backends[k], s[k], steps, ex[k].stream, &error));
        two_scales(y[0], x[0], s[0], &ex[0]);
        OK(graph_launch(graph, ex[1].stream, cuda, &error));
        OK(cuda->download(cuda, got, y[1], ex[1].stream, &error));
        OK(cuda->synchronize(cuda, ex[1].stream, &error));
        OK(backends[0]->download(backends[0], want, y[0], NULL, &error));
        CHECK(memcmp(got, want, sizeof got) == 0, "round %d is another one's", round);
    }
    graph_destroy(&graph, cuda);
    stream_destroy(&ex[1].stream, cuda);
    for (int k = 0; k < 2; k++) {
        swd_backend *b = backends[k];
        b->release(b, x[k].data), b->release(b, y[k].data), b->release(b, s[k].data);
    }
}

/* ---- training ---- */

static swd_tensor on_backend(int k, swd_dtype dtype, int64_t rows, int64_t columns,
                             const void *from)
{
    swd_backend *b = backends[k];
    swd_tensor t =
        tensor2(b->alloc(b, (size_t)(rows * columns) * dtype_size(dtype)), dtype, rows, columns);
    OK(b->upload(b, t, from, NULL, &error));
    return t;
}

static swd_tensor transposed(swd_tensor t)
{
    t = tensor2(t.data, t.dtype, t.shape[1], t.shape[0]);
    t.stride[0] = 1, t.stride[1] = t.shape[0];
    return t;
}

// op_gemm on both backends, scratch of a slab included: every pair of layouts, a bias or a sum, k long enough to be cut.
static void test_products(void)
{
    enum { M = 24, N = 16, K = 520, ALL = K * M };
    static float x[2][ALL], y[2][M * N], bias[N];
    static uint16_t half[2][ALL];
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < ALL; j++) {
            half[i][j] = f32_to_bf16((float)random_unit());
            x[i][j] = bf16_to_f32(half[i][j]);
        }
    for (int i = 0; i < N; i++) bias[i] = (float)random_unit();
    for (int way = 0; way < 16; way++) {
        bool narrow = way & 4, add = way & 8;
        swd_dtype dtype = narrow ? SWD_BF16 : SWD_F32;
        for (int k = 0; k < 2; k++) {
            swd_backend *b = backends[k];
            const void *from[] = {narrow ? (void *)half[0] : x[0], narrow ? (void *)half[1] : x[1]};
            swd_tensor a = way & 1 ? on_backend(k, dtype, K, M, from[0])
                                   : on_backend(k, dtype, M, K, from[0]),
                       w = way & 2 ? on_backend(k, dtype, N, K, from[1])
                                   : on_backend(k, dtype, K, N, from[1]),
                       c = on_backend(k, SWD_F32, M, N, x[1]),
                       v = on_backend(k, SWD_F32, 1, N, bias);
            v = tensor1(v.data, SWD_F32, N);
            gemm_args g = {.c = c,
                           .a = way & 1 ? transposed(a) : a,
                           .b = way & 2 ? transposed(w) : w,
                           .bias = add ? tensor_none() : v,
                           .add = add};
            swd_exec dry = {.backend = b, .err = &error, .dry = true};
            OK(op_gemm(&g, &dry));
            CHECK((dry.peak > 0) == (k == 1), "%zu bytes of workspace", dry.peak);
            swd_exec ex = {.backend = b, .err = &error};
            ex.slab = dry.peak ? b->alloc(b, dry.peak) : NULL;
            ex.slab_bytes = dry.peak;
            OK(op_gemm(&g, &ex));
            OK(b->download(b, y[k], c, NULL, &error));
            OK(b->synchronize(b, NULL, &error));
            if (ex.slab) b->release(b, ex.slab);
            b->release(b, a.data), b->release(b, w.data);
            b->release(b, c.data), b->release(b, v.data);
        }
        // Each errs by less than (4 + 2 sqrt(520)) 2^-24 of its products' sizes, which come to 130.
        for (int i = 0; i < M * N; i++)
            CHECK(fabsf(y[0][i] - y[1][i]) <= 8e-4f, "way %d, element %d: cpu %g, cuda %g", way, i,
                  (double)y[0][i], (double)y[1][i]);
    }
}

// A frozen weight is looked at where it lies as it is multiplied, and widened into a copy where it does not.
static void test_frozen_weights(void)
{
    enum { N = 5, K = 12 };
    static const struct {
        swd_dtype file, compute;
        int64_t stride; // of the view, 0: none
    } cases[] = {{SWD_BF16, SWD_BF16, 16},
                 {SWD_F32, SWD_BF16, 16},
                 {SWD_F32, SWD_F32, 12},
                 {SWD_BF16, SWD_F32, 0},
                 {SWD_F16, SWD_F16, 16}};
    swd_backend *b = backends[1];
    swd_exec ex = {.backend = b, .err = &error};
    float want[N * K], got[N * K];
    uint16_t half[N * K];
    for (int i = 0; i < N * K; i++) {
        half[i] = (uint16_t)(0x3c00 + i); // a number in both narrow types
        want[i] = bf16_to_f32(half[i]);
    }
    for (int i = 0; i < 5; i++) {
        swd_linear *w;
        swd_tensor view, wide = tensor2(b->alloc(b, sizeof got), SWD_F32, N, K),
                         copy = tensor2(b->alloc(b, sizeof got), cases[i].compute, N, K);
        void *from = cases[i].file == SWD_F32 ? (void *)want : (void *)half;
        OK(b->linear_create(b, &w, tensor2(from, cases[i].file, N, K), tensor_none(),
                            cases[i].compute, &error));
        bool seen = b->linear_view(b, &view, w);
        CHECK(seen == (cases[i].stride > 0), "case %d: a view is%s there", i, seen ? "" : " not");
        CHECK(!seen || (view.dtype == cases[i].compute && view.stride[0] == cases[i].stride &&
                        view.stride[1] == 1 && view.shape[0] == N && view.shape[1] == K),
              "case %d: another view", i);
        OK(b->linear_plain(b, copy, w, &error));
        for (int k = 0; k < 1 + seen; k++) {
            OK(op_copy(wide, k ? view : copy, &ex));
            OK(b->download(b, got, wide, NULL, &error));
            OK(b->synchronize(b, NULL, &error));
            for (int j = 0; j < N * K; j++)
                CHECK(got[j] == (cases[i].compute == SWD_F16 ? f16_to_f32(half[j]) : want[j]),
                      "case %d, element %d: %g", i, j, (double)got[j]);
        }
        CHECK(b->linear_plain(b, tensor2(copy.data, copy.dtype, K, N), w, &error) ==
                  SWD_ERR_ARGUMENT,
              "a copy of another shape");
        swd_err_clear(&error);
        b->linear_destroy(b, &w);
        b->release(b, wide.data), b->release(b, copy.data);
    }
}

int main(int argc, char **argv)
{
    static const launch_test tests[] = {
        {"five_dimensions", test_five_dimensions},
        {"token_ids", test_token_ids},
        {"many_images", test_many_images},
        {"replay", test_replay},
        {"products", test_products},
        {"frozen_weights", test_frozen_weights},
    };
    return run_beside_cpu(tests, sizeof tests / sizeof *tests, argc, argv);
}
