// SPDX-License-Identifier: MIT
// CLIP's vision tower: patches as tokens after a class token, + positions, a norm, pre-norm blocks; the class token's row, normed and
// projected, is the picture's embedding.
#include "model/clip_vision.h"
#include "base/memory.h"
#include "model/clip_layer.h"

struct clip_vision {
    holdings held;
    config_clip_vision cfg;
    clip_layer_shape shape;
    swd_linear *patch, *projection;
    swd_tensor class_token, positions; // [1, D], [N + 1, D]
    norm before, after;
    clip_layer *layers;
};

static int64_t n_patches(const config_clip_vision *c)
{
    int64_t side = c->image_size / c->patch_size;
    return side * side;
}

static void check_config(loader *l, const config_clip_vision *c)
{
    size_t here = load_enter(l, "vision_model.");
    expect_dim(l, "hidden_size", c->hidden_size, "embeddings.patch_embedding.weight", 0);
    expect_dim(l, "patch_size", c->patch_size, "embeddings.patch_embedding.weight", 2);
    expect_dim(l, "image_size", n_patches(c) + 1, "embeddings.position_embedding.weight", 0);
    expect_count(l, "num_hidden_layers", c->num_hidden_layers, "encoder.layers", "mlp.fc1.weight");
    expect_dim(l, "intermediate_size", c->intermediate_size, "encoder.layers.0.mlp.fc1.weight", 0);
    load_leave(l, here);
    expect_dim(l, "projection_dim", c->projection_dim, "visual_projection.weight", 0);
}

static void load_tensors(loader *l, clip_vision *m)
{
    const config_clip_vision *c = &m->cfg;
    int64_t d = c->hidden_size, positions[] = {n_patches(c) + 1, d};
    m->layers = load_array(l, (size_t)c->num_hidden_layers, sizeof *m->layers, "the layers");
    if (!m->layers) return;
    check_config(l, c);
    size_t here = load_enter(l, "vision_model.");
    load_vector(l, &m->class_token, d, "embeddings.class_embedding");
    load_patch_linear(l, &m->patch, d, 3, c->patch_size, WITHOUT_BIAS,
                      "embeddings.patch_embedding");
    load_matrix(l, &m->positions, positions, 2, "embeddings.position_embedding.weight");
    load_norm(l, &m->before, d, "pre_layrnorm"); // spelt so in the files
    for (int i = 0; i < c->num_hidden_layers; i++) {
        size_t mark = load_enter(l, "encoder.layers.%d.", i);
        clip_layer_load(l, &m->layers[i], &m->shape);
        load_leave(l, mark);
    }
    load_norm(l, &m->after, d, "post_layernorm");
    load_leave(l, here);
    load_linear(l, &m->projection, c->projection_dim, d, WITHOUT_BIAS, "visual_projection");
}

swd_status clip_vision_create(clip_vision **out, const config_clip_vision *cfg, weights *w,
                              swd_backend *be, swd_dtype compute, swd_err *err)
{
    static const char *const may_stay[] = {"vision_model.embeddings.position_ids", "text_model.",
                                           "text_projection.", "logit_scale", NULL};
    clip_vision *m;
    swd_act act;
    *out = NULL;
    SWD_TRY(clip_layer_act(&act, cfg->hidden_act, weights_path(w), err), err);
    SWD_TRY(swd_calloc(&m, 1, sizeof *m, "a CLIP vision tower", err), err);
    m->cfg = *cfg;
    m->shape = (clip_layer_shape){.d = cfg->hidden_size,
                                  .wide = cfg->intermediate_size,
                                  .head_dim = cfg->head_dim,
                                  .eps = (float)cfg->layer_norm_eps,
                                  .act = act};
    loader l = loader_begin(&m->held, w, be, compute, err);
    load_tensors(&l, m);
    swd_status s = loader_end(&l, may_stay);
    if (s != SWD_OK) clip_vision_destroy(&m);
    *out = m;
    return s;
}

void clip_vision_destroy(clip_vision **m)
{
    if (!*m) return;
    holdings_release(&(*m)->held);
    free(*m);
    *m = NULL;
}

/* x [B, N + 1, D] = (class token, patches) + positions */
static swd_status embed(swd_tensor x, swd_tensor pixels, const clip_vision *m, swd_exec *ex)
{
    int64_t b = x.shape[0], n = x.shape[1], d = x.shape[2], p = m->cfg.patch_size;
    size_t mark = exec_mark(ex);
    swd_tensor patches = exec3(ex, ex->act, b, n - 1, 3 * p * p);
    swd_tensor token = tensor_reshape(m->class_token, (int64_t[]){1, d}, 2);
    RUN(op_patchify(patches, pixels, (int)p, ex));
    RUN(op_linear(tensor_slice(x, 1, 1, n - 1), patches, m->patch, SWD_ACT_NONE, ex));
    swd_tensor flat = tensor_reshape(x, (int64_t[]){b, n * d}, 2);
    for (int64_t i = 0; i < b; i++) {
        swd_tensor rows = tensor_reshape(tensor_slice(flat, 0, i, 1), (int64_t[]){n, d}, 2);
        RUN(op_copy(tensor_slice(rows, 0, 0, 1), token, ex));
        RUN(op_axpby(rows, 1, rows, 1, m->positions, ex));
    }
    exec_rewind(ex, mark);
    return SWD_OK;
}

swd_status clip_vision_forward(swd_tensor embeds, swd_tensor pixels, const clip_vision *m,
                               swd_exec *ex)
{
    int64_t b = pixels.shape[0], n = n_patches(&m->cfg) + 1, d = m->cfg.hidden_size;
    float eps = (float)m->cfg.layer_norm_eps;
    if (pixels.ndim != 4 || pixels.shape[1] != 3 || pixels.shape[2] != m->cfg.image_size ||
        pixels.shape[3] != m->cfg.image_size)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "a CLIP vision tower of %dx%d pixels",
                        m->cfg.image_size, m->cfg.image_size);
    size_t start = exec_mark(ex);
    swd_tensor x = exec3(ex, SWD_F32, b, n, d), rows = exec2(ex, SWD_F32, b, d);
    RUN(embed(x, pixels, m, ex));
    RUN(op_layernorm(x, x, m->before.weight, m->before.bias, eps, ex));
    for (int i = 0; i < m->cfg.num_hidden_layers; i++)
        RUN(clip_layer_run(x, &m->layers[i], &m->shape, ex));
    swd_tensor flat = tensor_reshape(x, (int64_t[]){b, n * d}, 2);
    RUN(op_copy(rows, tensor_slice(flat, 1, 0, d), ex));
    RUN(op_layernorm(rows, rows, m->after.weight, m->after.bias, eps, ex));
    RUN(op_linear(embeds, rows, m->projection, SWD_ACT_NONE, ex));
    exec_rewind(ex, start);
    return SWD_OK;
}
