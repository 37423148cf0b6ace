// SPDX-License-Identifier: MIT
// The steps as forward code: what is recorded, what is constant, where each loss puts its gradient.
#include "train/distill.h"
#include "train/passes.h"

static const double HUBER_C = 1e-3, RBF_WIDTH = 100; // of the kernels, as in SwD's code

/* ---- the generator ---- */

typedef struct generator {
    const distill *d;
    const distill_batch *b;
    distill_losses *out;
    float *x0;
} generator;

// x0 of the student; recorded if it learns in this step.
static swd_status student_x0(swd_tensor *x0, const distill *d, const distill_batch *b, bool learns,
                             tape *t, swd_exec *ex)
{
    swd_tensor low, x, v;
    passes_use(t, &d->student, learns);
    RUN(passes_put(&low, b->low, ex));
    x = exec_alloc(ex, SWD_F32, b->target.shape, 4);
    RUN(passes_noise(x, low, &b->start, ex));
    v = exec_alloc(ex, SWD_F32, b->target.shape, 4);
    *x0 = exec_alloc(ex, SWD_F32, b->target.shape, 4);
    RUN(passes_run(v, tensor_none(), 0, x, b->start.sigma, &b->text, d->c.network_guidance,
                   d->student.net, ex));
    return passes_x0(*x0, x, v, b->start.sigma, ex);
}

// What a noised latent looks like after the block.
static swd_status features(swd_tensor *f, const distill *d, const model *m, swd_tensor x,
                           const noise_input *noise, const text_input *text, tape *t, swd_exec *ex)
{
    passes_use(t, m, false);
    swd_tensor noisy = exec_alloc(ex, SWD_F32, x.shape, 4);
    RUN(passes_noise(noisy, x, noise, ex));
    *f = passes_features(x, m->net, ex);
    return passes_run(tensor_none(), *f, d->c.block, noisy, noise->sigma, text,
                      d->c.network_guidance, m->net, ex);
}

// The loss of host copies of x and y, its gradient seeded into x.
static swd_status mmd_loss(double *loss, tape *t, const distill_config *c, swd_tensor x,
                           swd_tensor y, swd_exec *ex)
{
    host_copy hx, hy;
    int64_t n = x.shape[0], d = x.shape[x.ndim - 1];
    if (ex->dry) return passes_seed(t, x, NULL, ex);
    RUN(host_copy_get(&hx, x, true, ex));
    swd_status s = host_copy_get(&hy, y, false, ex);
    if (s == SWD_OK) {
        switch (c->kernel) {
        case MMD_LINEAR:
            *loss = loss_mmd_linear(hx.grad, hx.value, hy.value, n, d, c->mmd);
            break;
        case MMD_HUBER:
            *loss = loss_mmd_huber(hx.grad, hx.value, hy.value, n, d, HUBER_C, c->mmd);
            break;
        case MMD_RBF:
            *loss = loss_mmd_rbf(hx.grad, hx.value, hy.value, n, x.shape[1], d, RBF_WIDTH, c->mmd);
            break;
        }
        s = passes_seed(t, x, hx.grad, ex);
        host_copy_free(&hy);
    }
    host_copy_free(&hx);
    return s;
}

static swd_status mmd_term(const generator *g, swd_tensor x0, tape *t, swd_exec *ex)
{
    const distill *d = g->d;
    const distill_batch *b = g->b;
    const model *m = d->c.features_of_fake ? &d->fake : &d->teacher;
    swd_tensor target, real, ours;
    RUN(passes_put(&target, b->target, ex));
    RUN(features(&ours, d, m, x0, &b->mmd, &b->text, t, ex));
    tape_record(t, false);
    RUN(features(&real, d, m, target, &b->mmd, &b->text, t, ex));
    tape_record(t, true);
    if (d->c.kernel != MMD_RBF) {
        swd_tensor f[] = {ours, real};
        for (int i = 0; i < 2; i++) {
            swd_tensor mean = exec2(ex, SWD_F32, f[i].shape[0], f[i].shape[2]);
            RUN(op_mean_tokens(mean, f[i], ex));
            f[i] = mean;
        }
        ours = f[0], real = f[1];
    }
    return mmd_loss(&g->out->mmd, t, &d->c, ours, real, ex);
}

// x0 as a model sees it in a noised sample; nothing of it is recorded.
static swd_status prediction(swd_tensor x0, const distill *d, const model *m, swd_tensor x,
                             const distill_batch *b, bool guided, tape *t, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    swd_tensor v = exec_alloc(ex, SWD_F32, x.shape, 4), u = exec_alloc(ex, SWD_F32, x.shape, 4);
    passes_use(t, m, false);
    RUN(passes_run(v, tensor_none(), 0, x, b->dmd.sigma, &b->text, d->c.network_guidance, m->net,
                   ex));
    if (guided && d->c.guidance != 1) {
        RUN(passes_run(u, tensor_none(), 0, x, b->dmd.sigma, &b->empty, d->c.network_guidance,
                       m->net, ex));
        RUN(op_guidance_combine(v, v, u, (float)d->c.guidance, ex));
    }
    RUN(passes_x0(x0, x, v, b->dmd.sigma, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_status dmd_term(const generator *g, swd_tensor x0, tape *t, swd_exec *ex)
{
    const distill *d = g->d;
    swd_tensor x = exec_alloc(ex, SWD_F32, x0.shape, 4),
               real = exec_alloc(ex, SWD_F32, x0.shape, 4),
               fake = exec_alloc(ex, SWD_F32, x0.shape, 4);
    tape_record(t, false);
    RUN(passes_noise(x, x0, &g->b->dmd, ex));
    RUN(prediction(real, d, &d->teacher, x, g->b, true, t, ex));
    RUN(prediction(fake, d, &d->fake, x, g->b, false, t, ex));
    tape_record(t, true);
    if (ex->dry) return passes_seed(t, x0, NULL, ex);
    host_copy h[3];
    const swd_tensor from[] = {x0, real, fake};
    swd_status s = SWD_OK;
    int n = 0;
    while (n < 3 && s == SWD_OK) {
        s = host_copy_get(&h[n], from[n], n == 0, ex);
        if (s == SWD_OK) n++;
    }
    if (s == SWD_OK) {
        g->out->dmd = loss_dmd(h[0].grad, h[0].value, h[1].value, h[2].value, x0.shape[0],
                               tensor_numel(x0) / x0.shape[0], d->c.dmd);
        s = passes_seed(t, x0, h[0].grad, ex);
    }
    while (n > 0) host_copy_free(&h[--n]);
    return s;
}

// weight * mean softplus(sign * logit) of a latent's features.
static swd_status gan_loss(double *loss, const distill *d, swd_tensor f, double sign, double weight,
                           tape *t, swd_exec *ex)
{
    host_copy h;
    swd_tensor logits = exec2(ex, SWD_F32, f.shape[0], 1);
    RUN(head_forward(logits, f, d->head, ex));
    if (ex->dry) return passes_seed(t, logits, NULL, ex);
    RUN(host_copy_get(&h, logits, true, ex));
    *loss += loss_softplus(h.grad, h.value, f.shape[0], sign, weight);
    swd_status s = passes_seed(t, logits, h.grad, ex);
    host_copy_free(&h);
    return s;
}

static swd_status gan_term(const generator *g, swd_tensor x0, tape *t, swd_exec *ex)
{
    const distill *d = g->d;
    swd_tensor f;
    RUN(features(&f, d, &d->fake, x0, &g->b->gan, &g->b->text, t, ex));
    tape_use(t, params_layers(head_params(d->head)), false);
    return gan_loss(&g->out->gan, d, f, -1, d->c.gan, t, ex);
}

static swd_status generator_step(void *ctx, tape *t, swd_exec *ex)
{
    const generator *g = ctx;
    swd_tensor x0;
    *g->out = (distill_losses){0};
    RUN(student_x0(&x0, g->d, g->b, true, t, ex));
    if (g->x0 && !ex->dry) {
        RUN(ex->backend->download(ex->backend, g->x0, x0, ex->stream, ex->err));
        RUN(ex->backend->synchronize(ex->backend, ex->stream, ex->err));
    }
    if (g->d->c.mmd != 0) RUN(mmd_term(g, x0, t, ex));
    if (g->d->c.dmd != 0) RUN(dmd_term(g, x0, t, ex));
    if (g->d->c.gan != 0) RUN(gan_term(g, x0, t, ex));
    g->out->total = g->out->mmd + g->out->dmd + g->out->gan;
    return tape_backward(t, ex);
}

static swd_status check(const distill *d, swd_err *err)
{
    const distill_config *c = &d->c;
    if ((c->dmd != 0 || c->gan != 0 || c->features_of_fake) && !d->fake.net)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "this loss needs a fake model");
    if (c->gan != 0 && !d->head)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the adversarial loss needs a head");
    return SWD_OK;
}

swd_status distill_generator(distill_losses *out, float *x0, const distill *d,
                             const distill_batch *b, swd_err *err)
{
    generator g = {d, b, out, x0};
    SWD_TRY(check(d, err), err);
    return tape_run(d->t, generator_step, &g, d->act, err);
}

/* ---- the fake model ---- */

// mean of |x0 - target|^2 seeded into x0
static swd_status mse_loss(double *loss, tape *t, swd_tensor x0, swd_tensor target, swd_exec *ex)
{
    host_copy h, want;
    if (ex->dry) return passes_seed(t, x0, NULL, ex);
    RUN(host_copy_get(&h, x0, true, ex));
    swd_status s = host_copy_get(&want, target, false, ex);
    if (s == SWD_OK) {
        *loss = loss_mse(h.grad, h.value, want.value, tensor_numel(x0), 1);
        s = passes_seed(t, x0, h.grad, ex);
        host_copy_free(&want);
    }
    host_copy_free(&h);
    return s;
}

static swd_status fake_step(void *ctx, tape *t, swd_exec *ex)
{
    const generator *g = ctx;
    const distill *d = g->d;
    const noise_input *noise = &g->b->gan;
    bool adversarial = d->head && d->c.discriminator != 0;
    swd_tensor x0, x, v, p, f = {0}, target;
    *g->out = (distill_losses){0};
    tape_record(t, false);
    RUN(student_x0(&x0, d, g->b, false, t, ex));
    x = exec_alloc(ex, SWD_F32, x0.shape, 4);
    RUN(passes_noise(x, x0, noise, ex));
    tape_record(t, true);
    passes_use(t, &d->fake, true);
    if (adversarial) tape_use(t, params_layers(head_params(d->head)), true);
    v = exec_alloc(ex, SWD_F32, x0.shape, 4);
    p = exec_alloc(ex, SWD_F32, x0.shape, 4);
    if (adversarial) f = passes_features(x0, d->fake.net, ex);
    RUN(passes_run(v, f, d->c.block, x, noise->sigma, &g->b->text, d->c.network_guidance,
                   d->fake.net, ex));
    RUN(passes_x0(p, x, v, noise->sigma, ex));
    RUN(mse_loss(&g->out->mmd, t, p, x0, ex));
    if (adversarial) {
        RUN(gan_loss(&g->out->gan, d, f, 1, d->c.discriminator, t, ex));
        RUN(passes_put(&target, g->b->target, ex));
        RUN(passes_noise(x, target, noise, ex));
        swd_tensor real = passes_features(x0, d->fake.net, ex);
        RUN(passes_run(tensor_none(), real, d->c.block, x, noise->sigma, &g->b->text,
                       d->c.network_guidance, d->fake.net, ex));
        RUN(gan_loss(&g->out->gan, d, real, -1, d->c.discriminator, t, ex));
    }
    g->out->total = g->out->mmd + g->out->gan;
    return tape_backward(t, ex);
}

swd_status distill_fake(distill_losses *out, const distill *d, const distill_batch *b, swd_err *err)
{
    generator g = {d, b, out, NULL};
    if (!d->fake.net || !d->fake.learnt)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "there is no fake model");
    return tape_run(d->t, fake_step, &g, d->act, err);
}

/* ---- flow matching ---- */

typedef struct flow {
    const distill *d;
    swd_tensor latents;
    const noise_input *noise;
    const text_input *text;
    double *loss;
} flow;

static swd_status flow_step(void *ctx, tape *t, swd_exec *ex)
{
    const flow *f = ctx;
    const distill *d = f->d;
    swd_tensor z, eps, x, v, want;
    passes_use(t, &d->student, true);
    RUN(passes_put(&z, f->latents, ex));
    RUN(passes_put(&eps, f->noise->eps, ex));
    x = exec_alloc(ex, SWD_F32, z.shape, 4);
    v = exec_alloc(ex, SWD_F32, z.shape, 4);
    want = exec_alloc(ex, SWD_F32, z.shape, 4);
    RUN(passes_noise(x, z, f->noise, ex));
    RUN(op_axpby(want, 1, eps, -1, z, ex));
    RUN(passes_run(v, tensor_none(), 0, x, f->noise->sigma, f->text, d->c.network_guidance,
                   d->student.net, ex));
    RUN(mse_loss(f->loss, t, v, want, ex));
    return tape_backward(t, ex);
}

swd_status distill_flow(double *loss, const distill *d, swd_tensor latents,
                        const noise_input *noise, const text_input *text, swd_err *err)
{
    flow f = {d, latents, noise, text, loss};
    return tape_run(d->t, flow_step, &f, d->act, err);
}

/* ---- memory ---- */

swd_status distill_measure(tape_memory *out, const distill *d, const distill_batch *b, swd_err *err)
{
    distill_losses unused;
    generator g = {d, b, &unused, NULL};
    tape_memory fake = {0};
    SWD_TRY(check(d, err), err);
    SWD_TRY(tape_measure(out, d->t, generator_step, &g, d->act, err), err);
    if (d->fake.learnt) SWD_TRY(tape_measure(&fake, d->t, fake_step, &g, d->act, err), err);
    tape_memory_most(out, &fake);
    return SWD_OK;
}
