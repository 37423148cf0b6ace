// SPDX-License-Identifier: MIT
// The slots of training that are rows, elements and the optimizer, through op_*(), against the CPU's: tensors of five dimensions with
// strides that no two of them share, which take several launches; heads of a packed projection; the scratch that a dry run measures.
#include "backends.h"

enum { SLOTS = 8, ROOM = 1200 }; // pieces of memory of an op, floats of each

typedef swd_status op_run(swd_exec *ex, void *const *slot, int variant);

// Every other half of the numbers is a bf16 of its own, so that slots can be looked at as both.
static void random_floats(float *x)
{
    for (int i = 0; i < ROOM; i++) {
        uint32_t bits =
            (uint32_t)f32_to_bf16((float)random_unit()) << 16 | f32_to_bf16((float)random_unit());
        memcpy(&x[i], &bits, sizeof bits);
    }
}

// Runs the op on both, dry first, and compares all memory; what the op has written is float32.
static void compare(const char *name, op_run *run, int variant)
{
    static float in[SLOTS][ROOM], out[2][SLOTS][ROOM];
    for (int i = 0; i < SLOTS; i++) random_floats(in[i]);
    for (int k = 0; k < 2; k++) {
        swd_backend *b = backends[k];
        void *slot[SLOTS];
        for (int i = 0; i < SLOTS; i++) {
            slot[i] = b->alloc(b, sizeof in[i]);
            OK(b->upload(b, tensor1(slot[i], SWD_F32, ROOM), in[i], NULL, &error));
        }
        swd_exec dry = {.backend = b, .err = &error, .dry = true},
                 ex = {.backend = b, .err = &error};
        OK(run(&dry, slot, variant));
        ex.slab = dry.peak ? b->alloc(b, dry.peak) : NULL;
        ex.slab_bytes = dry.peak;
        OK(run(&ex, slot, variant));
        for (int i = 0; i < SLOTS; i++) {
            OK(b->download(b, out[k][i], tensor1(slot[i], SWD_F32, ROOM), NULL, &error));
            OK(b->synchronize(b, NULL, &error));
            b->release(b, slot[i]);
        }
        if (ex.slab) b->release(b, ex.slab);
    }
    int written = 0;
    for (int i = 0; i < SLOTS; i++)
        for (int j = 0; j < ROOM; j++) {
            const float a = out[0][i][j], c = out[1][i][j];
            written += memcmp(&c, &in[i][j], sizeof c) != 0;
            // sums of up to 72 numbers of up to 4, or a row's of a norm
            CHECK(fabsf(a - c) <= 2e-5f * (1 + fabsf(a)),
                  "%s %d, slot %d, element %d: cpu %g, cuda %g", name, variant, i, j, (double)a,
                  (double)c);
        }
    CHECK(written > 0, "%s %d wrote nothing", name, variant);
}

// [2, 3, 2, 3, 8], the dimensions in this order (outermost first) with gaps; kinds of views in turn.
static const int64_t shape5[] = {2, 3, 2, 3, 8};

static swd_tensor strided(void *data, swd_dtype dtype, int kind)
{
    static const int orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}};
    const int gap = kind % 3 * 4;
    swd_tensor t = tensor_make(data, dtype, shape5, 5);
    int64_t step = 8 + gap;
    for (int i = 3; i >= 0; i--) {
        const int d = orders[kind % 4][i];
        t.stride[d] = step;
        step = step * shape5[d] + gap;
    }
    CHECK(step <= ROOM, "%lld elements", (long long)step);
    return t;
}

static swd_grad grad(swd_tensor t, int variant)
{
    return (swd_grad){t, variant & 1};
}

static swd_status norm_of_five(swd_exec *ex, void *const *s, int v)
{
    const swd_dtype narrow = v & 2 ? SWD_BF16 : SWD_F32;
    norm_backward_args a = {.dx = grad(strided(s[0], SWD_F32, v), v),
                            .x = strided(s[1], narrow, v / 2),
                            .dy = {strided(s[2], narrow, v + 1)},
                            .factor = {tensor1(s[3], SWD_F32, 8)},
                            .dfactor = {grad(tensor1(s[4], SWD_F32, 8), v)},
                            .dshift = {grad(tensor1(s[5], SWD_F32, 8), v)},
                            .eps = 0.1f,
                            .rms = v & 4};
    if (v % 5 == 4) a.dshift[0].t = tensor_none();
    return op_norm_backward(&a, ex);
}

static swd_status norm_by_sample(swd_exec *ex, void *const *s, int v)
{
    const int64_t d = v & 2 ? 16 : 13;
    norm_backward_args a = {
        .dx = grad(tensor3(s[0], SWD_F32, 3, 9, d), v),
        .x = tensor3(s[1], SWD_BF16, 3, 9, d),
        .dy = {tensor3(s[2], SWD_F32, 3, 9, d), tensor3(s[3], SWD_BF16, 3, 9, d)},
        .factor = {tensor2(s[4], SWD_F32, 3, d), tensor2(s[5], SWD_BF16, 3, d)},
        .dfactor = {grad(tensor2(s[6], SWD_F32, 3, d), v)},
        .dshift = {{{0}, 0}, grad(tensor2(s[7], SWD_F32, 3, d), v)},
        .eps = 0.1f,
        .per_sample = true};
    if (v & 4) a.dy[1] = a.dshift[1].t = tensor_none();
    return op_norm_backward(&a, ex);
}

// q of [2, 5, 3, 3, 8]; in the place of its gradient where the weight is frozen.
static swd_status norm_of_heads(swd_exec *ex, void *const *s, int v)
{
    const int64_t packed[] = {2, 5, 3, 3, 8}, heads[] = {2, 5, 3, 8};
    swd_tensor dy = tensor_make(s[0], SWD_F32, heads, 4);
    for (int i = 0; i < 2; i++) dy.stride[i] = tensor_make(s[0], SWD_F32, packed, 5).stride[i];
    norm_backward_args a = {.dx = {dy, false},
                            .x = tensor_make(s[1], SWD_BF16, heads, 4),
                            .dy = {dy},
                            .factor = {tensor1(s[2], SWD_F32, 8)},
                            .eps = 0.1f,
                            .rms = true};
    if (v & 1) {
        a.dx.t.data = s[3];
        a.dfactor[0] = grad(tensor1(s[4], SWD_F32, 8), v / 2);
    }
    return op_norm_backward(&a, ex);
}

static swd_status activation(swd_exec *ex, void *const *s, int v)
{
    return op_activation_backward(grad(strided(s[0], SWD_F32, v), v),
                                  strided(s[1], v & 2 ? SWD_BF16 : SWD_F32, v + 2),
                                  strided(s[2], SWD_F32, v / 2), (swd_act)(v % 7), ex);
}

static swd_status gate(swd_exec *ex, void *const *s, int v)
{
    const int64_t d = v & 8 ? 24 : 19;
    const swd_dtype narrow = v & 2 ? SWD_BF16 : SWD_F32;
    swd_tensor x = tensor3(s[1], narrow, 2, 7, d);
    swd_grad dy = grad(tensor3(s[0], SWD_F32, 2, 7, d), v),
             dgate = grad(tensor2(s[3], SWD_F32, 2, d), v / 2);
    if (v % 5 == 1) dy.t = tensor_none();
    if (v % 5 == 2) dgate.t = tensor_none();
    return op_gate_backward(dy, dgate, x, tensor3(s[2], SWD_F32, 2, 7, d),
                            v & 4 ? tensor2(s[4], SWD_F32, 2, d) : tensor_none(), ex);
}

// Without a gate and its gradient d has any number of dimensions.
static swd_status gate_of_one(swd_exec *ex, void *const *s, int v)
{
    return op_gate_backward(grad(strided(s[0], SWD_F32, v), v), (swd_grad){{0}, false},
                            strided(s[1], SWD_F32, v / 2), tensor_none(), tensor_none(), ex);
}

static swd_status column_sums(swd_exec *ex, void *const *s, int v)
{
    return op_column_sums(grad(tensor1(s[0], SWD_F32, 8), v),
                          strided(s[1], v & 2 ? SWD_BF16 : SWD_F32, v / 2), ex);
}

static swd_status means(swd_exec *ex, void *const *s, int v)
{
    swd_status st = op_mean_tokens(tensor2(s[0], SWD_F32, 3, 21),
                                   tensor3(s[1], v & 2 ? SWD_BF16 : SWD_F32, 3, 6, 21), ex);
    if (st != SWD_OK) return st;
    return op_mean_tokens_backward(grad(tensor3(s[2], SWD_F32, 3, 6, 21), v),
                                   tensor2(s[3], SWD_F32, 3, 21), ex);
}

static swd_status patches(swd_exec *ex, void *const *s, int v)
{
    swd_status st = op_patchify_backward(grad(tensor4(s[0], SWD_F32, 2, 3, 4, 6), v),
                                         tensor3(s[1], SWD_BF16, 2, 6, 12), 2, ex);
    if (st != SWD_OK) return st;
    return op_unpatchify_backward(grad(tensor3(s[2], SWD_F32, 2, 6, 12), v),
                                  tensor4(s[3], SWD_F32, 2, 3, 4, 6), 2, ex);
}

static swd_status resize(swd_exec *ex, void *const *s, int v)
{
    renoise_step steps[2] = {{.sigma = 0.75f, .sigma_next = 0.5f}, {.sigma = 0.5f}};
    swd_tensor step = tensor2(s[3], SWD_U8, 2, sizeof *steps),
               x = tensor4(s[0], SWD_F32, 2, 3, 4, 6);
    if (!ex->dry) OK(ex->backend->upload(ex->backend, step, steps, NULL, &error));
    resize_renoise_args a = {.x = x, .v = x, .steps = step};
    swd_tensor dy =
                   v & 1 ? tensor4(s[1], SWD_F32, 2, 3, 8, 10) : tensor4(s[1], SWD_F32, 2, 3, 4, 6),
               dv = tensor4(s[2], SWD_F32, 2, 3, 4, 6);
    return op_resize_renoise_backward((swd_grad){x, v & 2},
                                      (swd_grad){v & 4 ? tensor_none() : dv, !(v & 2)}, &a, dy, ex);
}

static swd_status adamw(swd_exec *ex, void *const *s, int v)
{
    adamw_args a = {.p = tensor1(s[0], SWD_F32, 301),
                    .m = tensor1(s[1], SWD_F32, 301),
                    .v = tensor1(s[2], SWD_F32, 301),
                    .g = tensor1(s[3], SWD_F32, 301),
                    .lr = 1e-2,
                    .beta1 = 0.9,
                    .beta2 = 0.95,
                    .eps = 1e-3,
                    .weight_decay = 0.1,
                    .g_scale = 0.5,
                    .step = 1 + v};
    swd_status st = op_fill(a.v, 0.25f, ex); // random numbers are no second moments
    return st == SWD_OK ? op_adamw(&a, ex) : st;
}

static void test_against_the_cpu(void)
{
    static const struct {
        const char *name;
        op_run *run;
        int variants;
    } ops[] = {
        {"norm of five dimensions", norm_of_five, 16},
        {"norm by sample", norm_by_sample, 8},
        {"norm of heads", norm_of_heads, 4},
        {"activation", activation, 28},
        {"gate", gate, 16},
        {"gate of one", gate_of_one, 8},
        {"column sums", column_sums, 16},
        {"means", means, 4},
        {"patches", patches, 2},
        {"resize", resize, 8},
        {"adamw", adamw, 4},
    };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (int v = 0; v < ops[i].variants; v++) compare(ops[i].name, ops[i].run, v);
}

// The number is there when the call returns, call after call.
static void test_sum_squares(void)
{
    swd_backend *b = backends[1];
    swd_exec ex = {.backend = b, .err = &error};
    swd_tensor x = tensor1(b->alloc(b, 1000 * sizeof(float)), SWD_F32, 1000);
    for (int i = 1; i < 4; i++) {
        double sum;
        OK(op_fill(x, (float)i / 4, &ex));
        OK(op_sum_squares(&sum, x, &ex));
        CHECK(sum == 1000.0 * i * i / 16, "%g", sum);
    }
    b->release(b, x.data);
}

int main(int argc, char **argv)
{
    static const launch_test tests[] = {
        {"against_the_cpu", test_against_the_cpu},
        {"sum_squares", test_sum_squares},
    };
    return run_beside_cpu(tests, sizeof tests / sizeof *tests, argc, argv);
}
