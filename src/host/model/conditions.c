// SPDX-License-Identifier: MIT
// The conditions of a denoising transformer as its blocks take them.
#include "model/conditions.h"
#include <assert.h>

enum { SINUSOID = 256 };

void load_embedder(loader *l, embedder *e, int64_t d, int64_t pooled, bool with_guidance)
{
    size_t here = load_enter(l, "time_text_embed.");
    load_linear(l, &e->time[0], d, SINUSOID, WITH_BIAS, "timestep_embedder.linear_1");
    load_linear(l, &e->time[1], d, d, WITH_BIAS, "timestep_embedder.linear_2");
    if (with_guidance) {
        load_linear(l, &e->guidance[0], d, SINUSOID, WITH_BIAS, "guidance_embedder.linear_1");
        load_linear(l, &e->guidance[1], d, d, WITH_BIAS, "guidance_embedder.linear_2");
    }
    load_linear(l, &e->pooled[0], d, pooled, WITH_BIAS, "text_embedder.linear_1");
    load_linear(l, &e->pooled[1], d, d, WITH_BIAS, "text_embedder.linear_2");
    load_leave(l, here);
}

static void load_place(loader *l, void *layer, int i, const void *of)
{
    const modulations *m = of;
    (void)m->load(l, layer, i, m->model);
}

void load_modulations(loader *l, modulations *m, int n, modulation_load *load, const void *model,
                      bool streamed)
{
    *m = (modulations){.n = n, .load = load, .model = model};
    m->layer = load_array(l, (size_t)n, sizeof *m->layer, "the modulations");
    m->outputs = load_array(l, (size_t)n, sizeof *m->outputs, "the modulations");
    if (l->status != SWD_OK) return;
    l->names_only = streamed;
    for (int k = 0; k < n; k++) m->outputs[k] = load(l, &m->layer[k], k, model);
    l->names_only = false;
    const relay_source source = {.w = l->w,
                                 .compute = l->compute,
                                 .n = n,
                                 .layer_bytes = sizeof(swd_linear *),
                                 .load = load_place,
                                 .of = m};
    if (streamed && l->status == SWD_OK)
        l->status = relay_create(&m->streamed, &source, l->be, l->err);
}

void modulations_release(modulations *m)
{
    relay_destroy(&m->streamed);
}

conditions conditions_alloc(int64_t rows, int64_t batch, int64_t text_tokens, int64_t d,
                            const modulations *m, swd_exec *ex)
{
    int64_t width = 0;
    for (int k = 0; k < m->n; k++) width += m->outputs[k];
    return (conditions){.modulation = exec1(ex, SWD_F32, rows * width),
                        .context = exec3(ex, SWD_F32, batch, text_tokens, d),
                        .rows = rows};
}

// y [B, N] = a layer of x [B, K], whose rows are samples and steps: none of their results may depend on how many there are.
static swd_status linear_of_rows(swd_tensor y, swd_tensor x, const swd_linear *w, swd_act act,
                                 swd_exec *ex)
{
    int64_t rows = x.shape[0];
    return op_linear(tensor_reshape(y, (int64_t[]){rows, 1, y.shape[1]}, 3),
                     tensor_reshape(x, (int64_t[]){rows, 1, x.shape[1]}, 3), w, act, ex);
}

// y = layer[1](silu(layer[0](x)))
static swd_status mlp(swd_tensor y, swd_tensor x, swd_linear *const layer[2], swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    swd_tensor hidden = exec_alloc(ex, SWD_F32, y.shape, 2);
    RUN(linear_of_rows(hidden, x, layer[0], SWD_ACT_SILU, ex));
    RUN(linear_of_rows(y, hidden, layer[1], SWD_ACT_NONE, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_status embed_number(swd_tensor y, swd_tensor x, swd_linear *const layer[2], swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    swd_tensor sinusoid = exec2(ex, SWD_F32, x.shape[0], SINUSOID);
    RUN(op_timestep_sinusoid(sinusoid, x, ex));
    RUN(mlp(y, sinusoid, layer, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

// y [rows, D] += x [B, D], row r getting that of sample r % B
static swd_status add_per_sample(swd_tensor y, swd_tensor x, swd_exec *ex)
{
    int64_t batch = x.shape[0];
    for (int64_t r = 0; r < y.shape[0]; r += batch) {
        swd_tensor step = tensor_slice(y, 0, r, batch);
        RUN(op_axpby(step, 1, step, 1, x, ex));
    }
    return SWD_OK;
}

// silu(temb): every use of temb is behind a SiLU
static swd_status embed(swd_tensor temb_silu, swd_tensor t, swd_tensor pooled, float guidance,
                        const embedder *e, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    int64_t batch = pooled.shape[0], d = temb_silu.shape[1];
    swd_tensor addend = exec2(ex, SWD_F32, batch, d), g = exec1(ex, SWD_F32, batch);
    RUN(embed_number(temb_silu, t, e->time, ex));
    if (e->guidance[0]) {
        RUN(op_fill(g, 1000.0f * guidance, ex));
        RUN(embed_number(addend, g, e->guidance, ex));
        RUN(add_per_sample(temb_silu, addend, ex));
    }
    RUN(mlp(addend, pooled, e->pooled, ex));
    RUN(add_per_sample(temb_silu, addend, ex));
    RUN(op_activation(temb_silu, temb_silu, SWD_ACT_SILU, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

modulation_walk modulation_begin(const conditions *c, const modulations *m, int64_t first,
                                 int64_t batch)
{
    return (modulation_walk){.c = c, .layers = m, .first = first, .batch = batch};
}

swd_tensor modulation_next(modulation_walk *w)
{
    assert(w->next < w->layers->n);
    int64_t n = w->layers->outputs[w->next++], rows = w->c->rows;
    swd_tensor matrix = tensor_slice(w->c->modulation, 0, w->at, rows * n);
    w->at += rows * n;
    return tensor_slice(tensor_reshape(matrix, (int64_t[]){rows, n}, 2), 0, w->first, w->batch);
}

swd_status conditions_modulate(const conditions *c, swd_tensor t, swd_tensor pooled, float guidance,
                               const embedder *e, const modulations *m, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    int64_t rows = t.shape[0], d = c->context.shape[2];
    swd_tensor temb_silu = exec2(ex, SWD_F32, rows, d);
    RUN(embed(temb_silu, t, pooled, guidance, e, ex));
    modulation_walk walk = modulation_begin(c, m, 0, rows);
    int n = m->streamed && ex->dry ? 1 : m->n; // to measure, the first stands for all
    for (int k = 0; k < n; k++) {
        void *place = &m->layer[k];
        if (m->streamed) RUN(relay_take(&place, m->streamed, k, ex));
        swd_linear *layer = *(swd_linear **)place;
        RUN(linear_of_rows(modulation_next(&walk), temb_silu, layer, SWD_ACT_NONE, ex));
        if (m->streamed) RUN(relay_done(m->streamed, k, ex));
    }
    exec_rewind(ex, mark);
    return SWD_OK;
}
