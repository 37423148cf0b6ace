// SPDX-License-Identifier: MIT
#include "bench/networks.h"
#include "backend/async.h"
#include "base/memory.h"
#include "base/rng.h"
#include "pipeline/prompt.h"

static swd_status random_tensor(swd_tensor *out, swd_exec *ex, float scale, int ndim, int64_t a,
                                int64_t b, int64_t c, int64_t d)
{
    swd_tensor t = *out = exec_alloc(ex, SWD_F32, (int64_t[]){a, b, c, d}, ndim);
    float *host;
    if (ex->dry) return SWD_OK;
    RUN(swd_malloc(&host, (size_t)tensor_numel(t), sizeof *host, "random inputs", ex->err));
    philox_randn(host, tensor_numel(t), 0, 7, (uint32_t)ndim);
    for (int64_t i = 0; i < tensor_numel(t); i++) host[i] *= scale;
    swd_status s = ex->backend->upload(ex->backend, t, host, ex->stream, ex->err);
    free(host);
    return s;
}

static swd_status place_step(network *n, swd_exec *ex)
{
    const denoiser_facts *f = &n->p->facts;
    RUN(random_tensor(&n->in, ex, 1, 4, n->batch, f->channels, n->side, n->side));
    n->out = exec4(ex, SWD_F32, n->batch, f->channels, n->side, n->side);
    RUN(random_tensor(&n->context, ex, 0.3f, 3, n->batch, n->text, f->context_width, 0));
    RUN(random_tensor(&n->pooled, ex, 0.3f, 2, n->batch, f->pooled_width, 0, 0));
    n->t = exec1(ex, SWD_F32, n->batch);
    return op_fill(n->t, 700, ex);
}

static swd_status place_vae(network *n, swd_exec *ex)
{
    int64_t pixels = n->side * pipeline_vae_factor(n->p),
            channels = n->p->vae_config.latent_channels;
    if (n->kind == NETWORK_ENCODE) {
        n->out = exec4(ex, SWD_F32, n->batch, channels, n->side, n->side);
        return random_tensor(&n->in, ex, 0.5f, 4, n->batch, pixels, pixels, 3);
    }
    n->out = exec4(ex, SWD_U8, n->batch, pixels, pixels, 3);
    return random_tensor(&n->in, ex, 1, 4, n->batch, channels, n->side, n->side);
}

static swd_status place_encoder(network *n, swd_exec *ex)
{
    int tower = (int)n->kind - NETWORK_CLIP_L, tokens = 0;
    RUN(prompt_tokenize(n->ids, &tokens, "a photograph of an astronaut riding a horse", tower,
                        (int)n->text, n->p, ex->err));
    n->in = exec2(ex, SWD_I32, 1, tokens);
    if (n->kind == NETWORK_T5) {
        n->out = exec3(ex, SWD_F32, 1, tokens, n->p->t5_config.d_model);
    } else {
        n->out = exec3(ex, SWD_F32, 1, tokens, n->p->clip_config[tower].hidden_size);
        n->pooled = exec2(ex, SWD_F32, 1, prompt_pooled_width(n->p, tower));
    }
    return ex->dry ? SWD_OK : ex->backend->upload(ex->backend, n->in, n->ids, ex->stream, ex->err);
}

static swd_status place(network *n, swd_exec *ex)
{
    switch (n->kind) {
    case NETWORK_STEP:
        return place_step(n, ex);
    case NETWORK_DECODE:
    case NETWORK_ENCODE:
        return place_vae(n, ex);
    default:
        return place_encoder(n, ex);
    }
}

// A step by itself, with its own conditions.
static swd_status step(network *n, swd_exec *ex)
{
    const denoiser *d = n->p->transformer;
    size_t mark = exec_mark(ex);
    conditions c = denoiser_conditions(n->batch, n->batch, n->text, d, ex);
    RUN(denoiser_embed_context(&c, n->context, d, ex));
    RUN(denoiser_modulate(&c, n->t, n->pooled, 4.5f, d, ex));
    RUN(denoiser_forward(n->out, n->in, &c, 0, d, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_status forward(network *n, swd_exec *ex)
{
    switch (n->kind) {
    case NETWORK_STEP:
        return step(n, ex);
    case NETWORK_DECODE:
        return n->p->tiny ? tiny_vae_decode(n->out, n->in, n->p->tiny, ex)
                          : vae_decode(n->out, n->in, n->p->decoder, ex);
    case NETWORK_ENCODE:
        return vae_encode(n->out, n->in, n->p->encoder, ex);
    case NETWORK_T5:
        return t5_forward(n->out, n->in, n->p->t5, ex);
    default:
        return clip_text_forward(n->out, n->pooled, n->in, n->ids,
                                 n->p->clip[n->kind - NETWORK_CLIP_L], ex);
    }
}

swd_status network_prepare(network *n, swd_err *err)
{
    swd_exec dry = pipeline_exec(n->p, true, err);
    SWD_TRY(place(n, &dry), err);
    SWD_TRY(forward(n, &dry), err);
    n->slab_bytes = dry.peak;
    SWD_TRY(pipeline_reserve(n->p, dry.peak, err), err);
    SWD_TRY(stream_create(&n->stream, n->p->backend, err), err);
    n->ex = pipeline_exec(n->p, false, err);
    n->ex.stream = n->stream;
    return place(n, &n->ex);
}

void network_release(network *n)
{
    graph_destroy(&n->graph, n->p->backend);
    stream_destroy(&n->stream, n->p->backend);
}

swd_status network_forward(network *n, swd_err *err)
{
    swd_backend *b = n->p->backend;
    n->ex.err = err;
    SWD_TRY(n->graph ? graph_launch(n->graph, n->stream, b, err) : forward(n, &n->ex), err);
    return b->synchronize(b, n->stream, err);
}

swd_status network_record(network *n, swd_err *err)
{
    swd_backend *b = n->p->backend;
    if (!async_has(b) || n->p->no_graphs) return SWD_OK;
    n->ex.err = err;
    SWD_TRY(graph_capture(n->stream, b, err), err);
    swd_status s = forward(n, &n->ex);
    if (s == SWD_OK) return graph_capture_end(&n->graph, n->stream, b, err);
    graph_capture_drop(n->stream, b);
    return swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}
