// SPDX-License-Identifier: MIT
#include "train/passes.h"
#include "base/memory.h"

void passes_use(tape *t, const model *m, bool train)
{
    tape_use_none(t);
    if (m->learnt) tape_use(t, params_layers(m->learnt), train);
}

swd_status passes_put(swd_tensor *out, swd_tensor host, swd_exec *ex)
{
    *out = exec_alloc(ex, host.dtype, host.shape, host.ndim);
    if (ex->dry) return SWD_OK;
    if (!tensor_contiguous(host) || !host.data)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "a batch is made of contiguous host tensors");
    return ex->backend->upload(ex->backend, *out, host.data, ex->stream, ex->err);
}

// A renoise_step for each sample; one of the two sigmas may be absent (0).
static swd_status put_steps(swd_tensor *out, int64_t n, const float *sigma, const float *next,
                            swd_exec *ex)
{
    *out = exec2(ex, SWD_U8, n, (int64_t)sizeof(renoise_step));
    if (ex->dry) return SWD_OK;
    renoise_step *s;
    RUN(swd_calloc(&s, (size_t)n, sizeof *s, "noise levels", ex->err));
    for (int64_t i = 0; i < n; i++) {
        s[i].sigma = sigma ? sigma[i] : 0;
        s[i].sigma_next = next ? next[i] : 0;
    }
    swd_status st = ex->backend->upload(ex->backend, *out, s, ex->stream, ex->err);
    free(s);
    return st;
}

swd_status passes_noise(swd_tensor y, swd_tensor x, const noise_input *noise, swd_exec *ex)
{
    resize_renoise_args a = {.y = y, .x = x};
    RUN(passes_put(&a.eps, noise->eps, ex));
    RUN(put_steps(&a.steps, x.shape[0], NULL, noise->sigma, ex));
    return op_resize_renoise(&a, ex);
}

swd_status passes_x0(swd_tensor x0, swd_tensor x, swd_tensor v, const float *sigma, swd_exec *ex)
{
    resize_renoise_args a = {.y = x0, .x = x, .v = v};
    RUN(put_steps(&a.steps, x.shape[0], sigma, NULL, ex));
    return op_resize_renoise(&a, ex);
}

static swd_status put_timesteps(swd_tensor *out, int64_t n, const float *sigma, const denoiser *net,
                                swd_exec *ex)
{
    *out = exec1(ex, SWD_F32, n);
    if (ex->dry) return SWD_OK;
    float *t;
    RUN(swd_malloc(&t, (size_t)n, sizeof *t, "noise levels", ex->err));
    for (int64_t i = 0; i < n; i++) t[i] = denoiser_timestep(net, sigma[i]);
    swd_status s = ex->backend->upload(ex->backend, *out, t, ex->stream, ex->err);
    free(t);
    return s;
}

swd_status passes_run(swd_tensor velocity, swd_tensor features, int after, swd_tensor x,
                      const float *sigma, const text_input *text, float guidance,
                      const denoiser *net, swd_exec *ex)
{
    int64_t batch = x.shape[0];
    size_t mark = exec_mark(ex);
    swd_tensor context, pooled, t;
    RUN(passes_put(&context, text->context, ex));
    RUN(passes_put(&pooled, text->pooled, ex));
    RUN(put_timesteps(&t, batch, sigma, net, ex));
    conditions c = denoiser_conditions(batch, batch, text->context.shape[1], net, ex);
    RUN(denoiser_embed_context(&c, context, net, ex));
    RUN(denoiser_modulate(&c, t, pooled, guidance, net, ex));
    RUN(denoiser_forward_features(velocity, features, after, x, &c, 0, net, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

swd_tensor passes_features(swd_tensor latents, const denoiser *net, swd_exec *ex)
{
    denoiser_size z = denoiser_features_size(net, latents.shape[2], latents.shape[3]);
    return exec3(ex, SWD_F32, latents.shape[0], z.tokens, z.width);
}

swd_status passes_seed(tape *t, swd_tensor x, const float *grad, swd_exec *ex)
{
    swd_hook *hook = ex->hook;
    size_t mark = exec_mark(ex);
    ex->hook = NULL; // scratch that no op of the tape sees
    swd_tensor d = exec_alloc(ex, SWD_F32, x.shape, x.ndim);
    swd_status s = grad ? ex->backend->upload(ex->backend, d, grad, ex->stream, ex->err) : SWD_OK;
    if (s == SWD_OK) s = tape_seed(t, x, d, ex);
    exec_rewind(ex, mark);
    ex->hook = hook;
    return s;
}

swd_status host_copy_get(host_copy *h, swd_tensor x, bool with_grad, swd_exec *ex)
{
    size_t n = (size_t)tensor_numel(x);
    *h = (host_copy){0};
    RUN(swd_malloc(&h->value, n, sizeof *h->value, "a loss", ex->err));
    swd_status s = SWD_OK;
    if (with_grad) s = swd_calloc(&h->grad, n, sizeof *h->grad, "a loss", ex->err);
    if (s == SWD_OK) s = ex->backend->download(ex->backend, h->value, x, ex->stream, ex->err);
    if (s == SWD_OK) s = ex->backend->synchronize(ex->backend, ex->stream, ex->err);
    if (s != SWD_OK) host_copy_free(h);
    return s;
}

void host_copy_free(host_copy *h)
{
    free(h->value);
    free(h->grad);
    *h = (host_copy){0};
}
