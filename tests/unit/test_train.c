// SPDX-License-Identifier: MIT
// Losses and iterations of training against torch's autograd (tools/reference/make_distill_goldens.py), whole tiny networks.
//
// float32, 1e-5 of a gradient's norm: the forward pass is off by 5e-6 (test_models.c); a gradient passes the same chain of sums again, of
// twice the length, and what it multiplies is off by the forward pass's error, three passes deep where features are compared.
// Three iterations, 3e-4 of how far the parameters moved: Adam divides each gradient by its own size, so that those numbers whose
// gradients nearly cancel move by their rounding errors.
#include "base/memory.h"
#include "base/rng.h"
#include "train_bench.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double TOLERANCE = 1e-5, LOOP_TOLERANCE = 3e-4, BF16_TOLERANCE = 5e-2;

static void compare(bench *b, const char *loss, const char *set, const params *p, double value,
                    double tolerance)
{
    char name[64];
    int64_t n;
    snprintf(name, sizeof name, "%s/loss", loss);
    double want = (double)golden_values(b->io, name, &n)[0];
    cr_expect(fabs(value - want) <= tolerance * fabs(want) + 1e-7, "%s: %.8g, not %.8g", name,
              value, want);
    snprintf(name, sizeof name, "%s/%s", loss, set);
    const float *grad = golden_values(b->io, name, &n);
    cr_assert_eq(n, params_numbers(p), "%s has %lld numbers, the set %lld", name, (long long)n,
                 (long long)params_numbers(p));
    float *got = flattened(p, true);
    double d = distance(got, grad, n);
    printf("# %s: %.2e\n", name, d);
    cr_expect(d <= tolerance, "%s: %g", name, d);
    free(got);
}

static void one_loss(bench *b, const char *name, distill_config c, double tolerance)
{
    distill_losses out;
    distill_batch batch = golden_batch(b->io, b->io, "");
    b->d.c = c;
    bench_zero(b);
    OK(distill_generator(&out, NULL, &b->d, &batch, &b->err));
    compare(b, name, "student", b->student, out.total, tolerance);
}

static void all_losses(bench *b, double tolerance)
{
    distill_config none = b->d.c, c = none;
    distill_batch batch = golden_batch(b->io, b->io, "");
    distill_losses out;
    double loss;
    bench_zero(b);
    OK(distill_flow(&loss, &b->d, batch.target, &batch.mmd, &batch.text, &b->err));
    compare(b, "flow", "student", b->student, loss, tolerance);
    c.mmd = 1;
    one_loss(b, "linear", c, tolerance);
    c.kernel = MMD_RBF;
    if (tolerance == TOLERANCE) one_loss(b, "rbf", c, tolerance);
    c.kernel = MMD_HUBER;
    c.features_of_fake = true;
    one_loss(b, "huber", c, tolerance);
    c.mmd = 1, c.dmd = 0.7, c.gan = 0.3;
    one_loss(b, "total", c, tolerance);
    c = none;
    c.dmd = 1;
    one_loss(b, "dmd", c, tolerance);
    c = none;
    c.gan = 1;
    one_loss(b, "gan", c, tolerance);
    b->d.c = none;
    b->d.c.discriminator = 0.2;
    bench_zero(b);
    OK(distill_fake(&out, &b->d, &batch, &b->err));
    compare(b, "fake", "fake", b->fake, out.total, tolerance);
    compare(b, "fake", "head", head_params(b->head), out.total, tolerance);
}

static void losses_of(const char *name)
{
    bench b;
    bench_open(&b, name, SWD_F32);
    all_losses(&b, TOLERANCE);
    bench_close(&b);
}

Test(train, losses_sd3)
{
    losses_of("sd3");
}

Test(train, losses_sd35m)
{
    losses_of("sd35m");
}

Test(train, losses_bf16)
{
    bench b;
    bench_open(&b, "sd35m", SWD_BF16);
    all_losses(&b, BF16_TOLERANCE);
    bench_close(&b);
}

/* ---- iterations ---- */

// Two updates of the fake model and the head, then one of the student, three times: parameters after each beside torch's.
Test(train, three_iterations)
{
    bench bench_, *b = &bench_;
    bench_open(b, "sd35m", SWD_F32);
    safetensors *loop;
    char *path = bench_join(b->golden, "loop.safetensors");
    OK(safetensors_open(&loop, path, NULL, &b->err));
    params *set[] = {b->student, b->fake, head_params(b->head)};
    static const char *const names[] = {"student", "fake", "head"};
    optimizer *o[SETS];
    float *start[SETS];
    for (int k = 0; k < SETS; k++) {
        optimizer_config c = golden_optimizer(k);
        OK(optimizer_create(&o[k], set[k], &c, &b->err));
        start[k] = flattened(set[k], false);
    }
    b->d.c = golden_method;
    for (int i = 0; i < ITERATIONS; i++) {
        OK(golden_iteration(&b->d, o, b->io, loop, i, &b->err));
        for (int k = 0; k < SETS; k++) {
            char name[32];
            int64_t n;
            snprintf(name, sizeof name, "%d/%s", i, names[k]);
            const float *want = golden_values(loop, name, &n);
            cr_assert_eq(n, params_numbers(set[k]));
            float *got = flattened(set[k], false);
            double off = 0, moved = 0;
            for (int64_t j = 0; j < n; j++) {
                off += pow((double)got[j] - (double)want[j], 2);
                moved += pow((double)want[j] - (double)start[k][j], 2);
            }
            printf("# after iteration %d %s: %.2e of the way\n", i, names[k], sqrt(off / moved));
            cr_expect(sqrt(off / moved) <= LOOP_TOLERANCE, "iteration %d, %s: %g", i, names[k],
                      sqrt(off / moved));
            free(got);
        }
    }
    for (int k = 0; k < 3; k++) {
        optimizer_destroy(&o[k]);
        free(start[k]);
    }
    safetensors_close(&loop);
    free(path);
    bench_close(b);
}

// Eight latents learnt by heart: with all weights free the flow-matching loss falls below a hundredth. They are the same at every use, and
// noise is never below 0.3: 0 can be reached. A session's are drawn anew from their posteriors, which no network foresees.
Test(train, overfit)
{
    enum { IMAGES = 8, STEPS = 600, SIDE = 4 };
    bench bench_, *b = &bench_;
    bench_open(b, "sd3", SWD_F32);
    weights *w = bench_weights(b);
    OK(params_full(&b->full, b->be, denoiser_holdings(b->net), w, &b->err));
    weights_close(&w);
    b->d.student.learnt = b->full;
    const config_sd3 *s = &b->config.sd3;
    int64_t n = s->in_channels * SIDE * SIDE;
    float *z = malloc((size_t)(IMAGES * n) * 4), *eps = malloc((size_t)(IMAGES * n) * 4),
          *context = malloc((size_t)(IMAGES * 2 * s->joint_attention_dim) * 4),
          *pooled = malloc((size_t)(IMAGES * s->pooled_projection_dim) * 4), sigma[IMAGES];
    philox_randn(z, IMAGES * n, 0, 1, 0);
    philox_randn(context, IMAGES * 2 * s->joint_attention_dim, 0, 2, 0);
    philox_randn(pooled, IMAGES * s->pooled_projection_dim, 0, 3, 0);
    text_input text = {tensor3(context, SWD_F32, IMAGES, 2, s->joint_attention_dim),
                       tensor2(pooled, SWD_F32, IMAGES, s->pooled_projection_dim)};
    swd_tensor latents = tensor4(z, SWD_F32, IMAGES, s->in_channels, SIDE, SIDE);
    optimizer *o;
    optimizer_config c = adamw();
    c.rate = 8e-3, c.kind = RATE_COSINE, c.steps = STEPS, c.weight_decay = 0, c.warmup = 10;
    OK(optimizer_create(&o, b->full, &c, &b->err));
    double first = 0, last = 0, loss;
    for (uint32_t i = 0; i < STEPS; i++) {
        philox_randn(eps, IMAGES * n, 0, 4, i);
        for (int k = 0; k < IMAGES; k++)
            sigma[k] = 0.3f + 0.7f * (float)((i * 5 + (uint32_t)k * 3) % 8) / 8;
        noise_input noise = {sigma, tensor4(eps, SWD_F32, IMAGES, s->in_channels, SIDE, SIDE)};
        OK(distill_flow(&loss, &b->d, latents, &noise, &text, &b->err));
        OK(optimizer_step(o, 1, NULL, &b->err));
        if (i < 10) first += loss / 10;
        if (i >= STEPS - 10) last += loss / 10;
    }
    printf("# loss %.4f, then %.4f\n", first, last);
    cr_expect_lt(last, 0.01 * first, "loss %g, then %g", first, last);
    optimizer_destroy(&o);
    free(z), free(eps), free(context), free(pooled);
    bench_close(b);
}
