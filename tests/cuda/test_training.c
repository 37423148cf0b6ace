// SPDX-License-Identifier: MIT
// Launchers of training.cu and optimizer.cu: gates and sums over rows, activations, patches, the transposed resize, AdamW, norms.
#include "gradient_support.h"

// ---- rows and their sums ----

typedef struct rows_case {
    int64_t shape[4];
    k_dtype d, y, gate, out, sums;
    layout l_d, l_y, l_gate, l_out;
    bool per_sample, add;
    bool no_d, no_y, no_gate, no_out, no_sums, in_place;
} rows_case;

static void check_rows(const rows_case *k)
{
    const int64_t cols = k->shape[3], vector[4] = {k->per_sample ? k->shape[0] : 1, 1, 1, cols};
    const double before = k->add ? 1 : 0;
    const float out_scale = 0.75f, sums_scale = 1.0f / 3;
    grid d = grid_make(k->d, k->shape, k->l_d, 2), y = grid_make(k->y, k->shape, k->l_y, 2),
         gate = grid_make(k->gate, vector, k->l_gate, 2),
         out = grid_make(k->out, k->shape, k->l_out, before),
         sums = grid_make(k->sums, vector, k->l_gate, before);
    double *want = zeros(d.rows * cols), *error = zeros(d.rows * cols),
           *sum = zeros(sums.rows * cols), *sum_error = zeros(sums.rows * cols);
    for (int64_t r = 0; r < d.rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            const int64_t group = k->per_sample ? r / (k->shape[1] * k->shape[2]) : 0;
            const double v = k->no_d ? 1 : (double)grid_at(&d, r)[c],
                         g = k->no_gate ? 1 : (double)grid_at(&gate, group)[c],
                         t = v * (k->no_y ? 1 : (double)grid_at(&y, r)[c]) * (double)sums_scale;
            want[r * cols + c] = v * g * (double)out_scale;
            error[r * cols + c] = 2 * U * fabs(v * g);
            // a thread's rows of a slab, eight threads; then in double
            sum[group * cols + c] += t;
            sum_error[group * cols + c] += (9 + (double)d.rows / 8) * U * fabs(t);
        }
    k_row_sums_args a = {.out = grad_of(k->in_place ? &d : &out, k->add),
                         .sums = grad_of(&sums, k->add),
                         .d = d.v,
                         .y = y.v,
                         .gate = gate.v,
                         .out_scale = out_scale,
                         .sums_scale = sums_scale,
                         .per_sample = k->per_sample};
    memcpy(a.shape, k->shape, sizeof a.shape);
    if (k->no_d) a.d.data = NULL;
    if (k->no_y) a.y.data = NULL;
    if (k->no_gate) a.gate.data = NULL;
    if (k->no_out) a.out.view.data = NULL;
    if (k->no_sums) a.sums.view.data = NULL;
    array ws = array_make(K_F32, (int64_t)k_row_sums_workspace(k->shape, k->per_sample) / 4, 0);
    CUDA_OK(k_row_sums(&a, k->no_sums ? NULL : array_at(&ws, 0), 0));
    array_fetch(&ws);
    if (!k->no_out) grad_check(k->in_place ? &d : &out, k->add, want, error, "out");
    if (!k->no_sums) grad_check(&sums, k->add, sum, sum_error, "sums");
    free(want), free(error), free(sum), free(sum_error), array_free(&ws);
    grid *all[] = {&d, &y, &gate, &out, &sums};
    for (int i = 0; i < 5; i++) grid_free(all[i]);
}

static void test_rows_and_sums(void)
{
    static const int widths[] = {1, 8, 19, 64, 99, 256, 264, 333, 520};
    for (int i = 0; i < 9 * 8; i++) {
        rows_case k = {.shape = {1 + i % 3, 1 + i % 2, (int[]){1, 5, 37, 70}[i % 4], widths[i % 9]},
                       .d = (k_dtype)(i % 3),
                       .y = (k_dtype)(i / 3 % 3),
                       .gate = (k_dtype)(i / 2 % 3),
                       .out = (k_dtype)(i / 4 % 3),
                       .sums = (k_dtype)(i / 5 % 3),
                       .l_d = (layout)(i % N_LAYOUTS),
                       .l_y = (layout)(i / 2 % ODD),
                       .l_gate = i % 7 == 6 ? ODD : DENSE,
                       .l_out = (layout)(i / 3 % ODD),
                       .per_sample = i / 2 % 2,
                       .add = i / 3 % 2};
        check_rows(&k);
    }
}

// One operand absent after the other, two at once; every one in turn off the 16-byte grid.
static void test_rows_in_part(void)
{
    for (int i = 0; i < 32; i++) {
        rows_case k = {.shape = {2, 1, 19, i % 3 ? 40 : 27},
                       .per_sample = i / 3 % 2,
                       .add = i / 2 % 2,
                       .no_d = i % 4 == 3,
                       .no_y = i & 4,
                       .no_gate = i & 8,
                       .no_out = i & 16,
                       .no_sums = !(i & 16) && i % 3 == 1};
        check_rows(&k);
    }
    for (int i = 0; i < 4; i++) {
        rows_case k = {.shape = {2, 1, 9, 64}, .per_sample = true};
        *(layout *[]){&k.l_d, &k.l_y, &k.l_gate, &k.l_out}[i] = ODD;
        check_rows(&k);
        k.l_out = DENSE, k.in_place = true;
        check_rows(&k);
    }
}

// ---- activations ----

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

// act'(x) and how far float32 may be from it. A sigmoid's argument is rounded, by which it changes no more than by its own slope.
static double slope(double *error, double x, k_act act)
{
    double u = x, du = 1, s, bump;
    switch (act) {
    case K_ACT_GELU_TANH:
        u = 2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
        du = 2 * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
        break;
    case K_ACT_QUICK_GELU:
        u = 1.702 * x, du = 1.702;
        break;
    case K_ACT_GELU_ERF:
        s = 0.5 * erfc(-x / sqrt(2)), bump = exp(-x * x / 2) / sqrt(2 * M_PI);
        // both grow by the rounded argument's part: x^2 / 2 is one, erfc's is as steep as the bump
        *error = U * (8 * s + fabs(x) * bump * (8 + x * x));
        return s + x * bump;
    case K_ACT_RELU:
        *error = 0;
        return x > 0;
    case K_ACT_TANH:
        *error = 8 * U * (1 - tanh(x) * tanh(x));
        return 4 * exp(-2 * fabs(x)) / pow(1 + exp(-2 * fabs(x)), 2);
    case K_ACT_SILU:
        break;
    default:
        *error = 0;
        return 1;
    }
    s = sigmoid(u), bump = s * sigmoid(-u);
    *error = U * (8 * s + fabs(x * du) * bump * (12 + 5 * fabs(u)) + 5 * fabs(u) * bump);
    return s + x * du * bump;
}

static void test_activations(void)
{
    static const float places[] = {0,     -0.0f, 1e-20f, -1.2784645f, -0.75f, 3,    -9,
                                   20,    -20,   87,     -87,         110,    -110, 1e5f,
                                   -1e5f, 1e19f, -1e19f, 3e38f,       -3e38f};
    for (int act = K_ACT_NONE; act <= K_ACT_TANH; act++)
        for (int i = 0; i < 9; i++) {
            const int64_t shape[4] = {2, 1 + i % 2, 5, (int[]){1, 8, 19, 40}[(i + act) % 4]};
            const bool add = i % 2, in_place = i % 4 == 2;
            const k_dtype td = (k_dtype)(i / 3);
            grid x = grid_make((k_dtype)(i % 3), shape, (layout)((i + act) % N_LAYOUTS), 6),
                 dy = grid_make(td, shape, (layout)(i % ODD), 2),
                 dx =
                     grid_make((k_dtype)((i + act) % 3), shape, (layout)(i / 2 % ODD), add ? 1 : 0);
            if (i == 0) { // F32
                for (int64_t j = 0; j < x.a.n; j++) x.a.v[j] = places[j % 19];
                array_send(&x.a);
            }
            const int64_t n = x.rows * shape[3];
            double *want = zeros(n), *error = zeros(n);
            for (int64_t j = 0; j < n; j++) {
                const double d = (double)grid_at(&dy, j / shape[3])[j % shape[3]];
                want[j] = d * slope(&error[j], (double)grid_at(&x, j / shape[3])[j % shape[3]],
                                    (k_act)act);
                // what underflows on a device, times a slope of its argument
                error[j] = fabs(d) * error[j] + U * fabs(want[j]) + 1e-30;
            }
            grid *to = in_place ? &dy : &dx;
            CUDA_OK(k_activation_backward(grad_of(to, add), x.v, dy.v, (k_act)act, shape, 0));
            grad_check(to, add, want, error, "activation");
            free(want), free(error);
            grid_free(&x), grid_free(&dy), grid_free(&dx);
        }
}

// ---- patches ----

static void test_patches(void)
{
    for (int i = 0; i < 24; i++) {
        const int p = 1 + i % 3, c = (int[]){1, 3, 16}[i / 3 % 3], h = p * (1 + i % 4), w = p * 5;
        const int64_t tokens[4] = {2, 1, h / p * (w / p), p * p * c},
                      latents[4] = {2, c, h, w}; // the last dimension is a row of the image
        const bool add = i % 2, back = i / 2 % 2;
        grid t = grid_make((k_dtype)(i % 3), tokens, (layout[]){DENSE, GAPS, ODD}[i / 2 % 3],
                           back && !add ? 0 : 2),
             x = grid_make(K_F32, latents, DENSE, !back && !add ? 0 : 2);
        k_view view = t.v; // sample, token
        view.stride[1] = view.stride[2];
        double *want = zeros(2 * c * h * w), *none = zeros(2 * c * h * w);
        for (int64_t b = 0; b < 2; b++)
            for (int64_t ch = 0; ch < c; ch++)
                for (int64_t y = 0; y < h; y++)
                    for (int64_t z = 0; z < w; z++) {
                        const int64_t token = b * tokens[2] + y / p * (w / p) + z / p, py = y % p,
                                      px = z % p,
                                      e = back ? (py * p + px) * c + ch : (ch * p + py) * p + px,
                                      line = (b * c + ch) * h + y;
                        if (back)
                            want[token * tokens[3] + e] = (double)grid_at(&x, line)[z];
                        else
                            want[line * w + z] = (double)grid_at(&t, token)[e];
                    }
        if (back)
            CUDA_OK(
                k_unpatchify_backward((k_grad){view, add}, array_at(&x.a, 0), p, 2, c, h, w, 0));
        else
            CUDA_OK(k_patchify_backward(array_at(&x.a, 0), add, view, p, 2, c, h, w, 0));
        grad_check(back ? &t : &x, add, want, none, back ? "unpatchify" : "patchify");
        free(want), free(none), grid_free(&t), grid_free(&x);
    }
}

// ---- resize ----

// Keys' kernel, a = -0.75, at distance x.
static double keys(double x)
{
    const double a = -0.75;
    x = fabs(x);
    return x <= 1  ? ((a + 2) * x - (a + 3)) * x * x + 1
           : x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
                   : 0;
}

// How much element i of `in` weighs in output dst of `out`, borders clamped; near: whether another rounding of the place could matter.
static double resize_weight(bool *near, int i, int dst, int in, int out)
{
    const double at = (dst + 0.5) * in / out - 0.5;
    double w = 0;
    *near = fabs(at - i) < 2.01;
    for (int p = (int)floor(at) - 1; p <= (int)floor(at) + 2; p++)
        if (i == (p < 0 ? 0 : p >= in ? in - 1 : p)) w += keys(at - p);
    return w;
}

typedef struct resize_case {
    int c, h, w, out_h, out_w;
    bool add_x, add_v, no_x, no_v;
} resize_case;

enum { IMAGES = 3 };

static void resize_reference(double *g, double *error, const grid *dy, const resize_case *k)
{
    const bool same = k->h == k->out_h && k->w == k->out_w;
    // a rounded place moves a weight by the kernel's slope, under 2; up to four taps of 8 roundings each
    const double rounded = 4 * U * (2 * (3 * (k->h > k->w ? k->h : k->w) + 4) + 8);
    for (int64_t i = 0; i < (int64_t)IMAGES * k->c * k->h * k->w; i++) {
        const int x = (int)(i % k->w), y = (int)(i / k->w % k->h);
        const float *plane = dy->a.v + i / k->w / k->h * k->out_h * k->out_w;
        for (int r = 0; r < k->out_h; r++)
            for (int c = 0; c < k->out_w; c++) {
                bool near_y, near_x;
                const double d = (double)plane[r * k->out_w + c],
                             wy = resize_weight(&near_y, y, r, k->h, k->out_h),
                             wx = resize_weight(&near_x, x, c, k->w, k->out_w);
                g[i] += wy * wx * d;
                if (near_y && near_x && !same)
                    error[i] += fabs(d) * rounded * (fabs(wy) + fabs(wx) + rounded);
            }
    }
}

static void check_resize(const resize_case *k)
{
    const int64_t small[4] = {IMAGES, k->c, k->h, k->w},
                  large[4] = {IMAGES, k->c, k->out_h, k->out_w};
    grid dy = grid_make(K_F32, large, DENSE, 2), dx = grid_make(K_F32, small, DENSE, k->add_x),
         dv = grid_make(K_F32, small, DENSE, k->add_v);
    const int64_t n = dx.a.n;
    double *g = zeros(n), *g_error = zeros(n), *want = zeros(n), *error = zeros(n);
    k_resize_step steps[IMAGES] = {{0}}, *device;
    for (int b = 0; b < IMAGES; b++)
        steps[b].sigma = (float)(1 + b) / 3, steps[b].sigma_next = (float)b / 3;
    CUDA_OK(cudaMalloc((void **)&device, sizeof steps));
    CUDA_OK(cudaMemcpy(device, steps, sizeof steps, cudaMemcpyHostToDevice));
    k_resize_backward_args a = {.dx = k->no_x ? NULL : array_at(&dx.a, 0),
                                .dv = k->no_v ? NULL : array_at(&dv.a, 0),
                                .add_x = k->add_x,
                                .add_v = k->add_v,
                                .dy = array_at(&dy.a, 0),
                                .steps = device,
                                .batch = IMAGES,
                                .c = k->c,
                                .h = k->h,
                                .w = k->w,
                                .out_h = k->out_h,
                                .out_w = k->out_w};
    CUDA_OK(k_resize_backward(&a, 0));
    resize_reference(g, g_error, &dy, k);
    for (int v = 0; v < 2; v++) {
        for (int64_t i = 0; i < n; i++) {
            const k_resize_step *s = &steps[i / (n / IMAGES)];
            const double f = (1 - (double)s->sigma_next) * (v ? -(double)s->sigma : 1);
            want[i] = f * g[i], error[i] = fabs(f) * (g_error[i] + 3 * U * fabs(g[i]));
        }
        if (!(v ? k->no_v : k->no_x))
            grad_check(v ? &dv : &dx, v ? k->add_v : k->add_x, want, error, v ? "dv" : "dx");
    }
    CUDA_OK(cudaFree(device));
    free(g), free(g_error), free(want), free(error);
    grid_free(&dy), grid_free(&dx), grid_free(&dv);
}

static void test_resize(void)
{
    static const resize_case cases[] = {
        {2, 4, 6, 6, 8, .add_x = true},  {1, 5, 5, 5, 5, .add_v = true},
        {3, 7, 4, 13, 12, .no_x = true}, {1, 1, 1, 4, 3, .no_v = true},
        {1, 9, 8, 5, 3, .add_x = true},  {2, 3, 8, 3, 20, .add_v = true},
        {1, 2, 3, 17, 23, .no_v = true}, {1, 12, 12, 16, 16, .no_x = true},
    };
    for (int i = 0; i < 8; i++) check_resize(&cases[i]);
}

// ---- the optimizer ----

// Four steps from torch's formulas in double, from what float32 left of the step before.
static void check_adamw(int n, int shift, bool one_unaligned)
{
    const double lr = 1e-2, beta1 = 0.9, beta2 = 0.99, eps = 1e-6, weight_decay = 0.05,
                 scale = 0.37;
    array p = array_make(K_F32, n, shift), m = array_make(K_F32, n, shift),
          v = array_make(K_F32, n, shift), g = array_make(K_F32, n, shift + one_unaligned);
    array_fill(&p, random_unit, 1), array_fill(&m, random_unit, 0), array_fill(&v, random_unit, 0);
    double *old = zeros(3 * (int64_t)n);
    for (int step = 1; step <= 4; step++) {
        array_fill(&g, random_unit, step == 3 ? 1e-6 : 1);
        for (int i = 0; i < n; i++)
            old[3 * i] = (double)p.v[i], old[3 * i + 1] = (double)m.v[i],
                    old[3 * i + 2] = (double)v.v[i];
        const double c1 = 1 - pow(beta1, step), c2 = 1 - pow(beta2, step);
        k_adamw_args a = {.p = array_at(&p, 0),
                          .m = array_at(&m, 0),
                          .v = array_at(&v, 0),
                          .g = array_at(&g, 0),
                          .n = n,
                          .g_scale = (float)scale,
                          .b1 = (float)beta1,
                          .c1 = (float)(1 - beta1),
                          .b2 = (float)beta2,
                          .c2 = (float)(1 - beta2),
                          .decay = (float)(1 - lr * weight_decay),
                          .size = (float)(lr / c1),
                          .root = (float)(1 / sqrt(c2)),
                          .eps = (float)eps};
        CUDA_OK(k_adamw(&a, 0));
        array_fetch(&p), array_fetch(&m), array_fetch(&v), array_fetch(&g);
        for (int i = 0; i < n; i++) {
            const double *o = old + 3 * i, d = scale * (double)g.v[i],
                         wm = beta1 * o[1] + (1 - beta1) * d,
                         wv = beta2 * o[2] + (1 - beta2) * d * d,
                         em = 4 * U * (fabs(beta1 * o[1]) + fabs((1 - beta1) * d)), ev = 6 * U * wv;
            CHECK(fabs((double)m.v[i] - wm) <= em && fabs((double)v.v[i] - wv) <= ev,
                  "moments of %d of %d: %.9g %.9g, not %.9g %.9g", i, n, (double)m.v[i],
                  (double)v.v[i], wm, wv);
            const double root = sqrt(wv / c2) + eps, by = lr / c1 * wm / root,
                         want = o[0] * (1 - lr * weight_decay) - by,
                         e = lr / c1 * em / root + fabs(by) * 10 * U + 3 * U * fabs(o[0]);
            CHECK(fabs((double)p.v[i] - want) <= e, "parameter %d of %d: %.9g, not %.9g", i, n,
                  (double)p.v[i], want);
        }
    }
    free(old);
    array_free(&p), array_free(&m), array_free(&v), array_free(&g);
}

static void test_adamw(void)
{
    static const int sizes[] = {1, 2, 3, 4, 7, 1023, 1024, 1030};
    for (int i = 0; i < 8; i++) check_adamw(sizes[i], 0, false);
    check_adamw(101, 1, false);
    check_adamw(101, 0, true);
}

static void test_sum_squares(void)
{
    static const int sizes[] = {1, 3, 4, 5, 255, 1024, 4096, 4097, 12291, 70001};
    double *out;
    CUDA_OK(cudaMalloc((void **)&out, K_SUM_SQUARES * sizeof *out));
    for (int i = 0; i < 20; i++) {
        const int n = sizes[i / 2];
        array x = array_make(K_F32, n, i % 2);
        array_fill(&x, random_unit, i % 3 ? 1 : 1e25); // squares that float32 does not have
        double want = 0, got, again;
        for (int j = 0; j < n; j++) want += (double)x.v[j] * (double)x.v[j];
        CUDA_OK(k_sum_squares(out, array_at(&x, 0), n, 0));
        CUDA_OK(cudaMemcpy(&got, out, sizeof got, cudaMemcpyDeviceToHost));
        CHECK(fabs(got - want) <= n * 0x1p-52 * want, "of %d: %.17g, not %.17g", n, got, want);
        CUDA_OK(k_sum_squares(out, array_at(&x, 0), n, 0));
        CUDA_OK(cudaMemcpy(&again, out, sizeof again, cudaMemcpyDeviceToHost));
        CHECK(memcmp(&got, &again, sizeof got) == 0, "of %d: another order", n);
        array_free(&x);
    }
    CUDA_OK(cudaFree(out));
}

int main(int argc, char **argv)
{
    static const launch_test tests[] = {
        {"rows_and_sums", test_rows_and_sums},
        {"rows_in_part", test_rows_in_part},
        {"activations", test_activations},
        {"patches", test_patches},
        {"resize", test_resize},
        {"adamw", test_adamw},
        {"sum_squares", test_sum_squares},
    };
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
