// SPDX-License-Identifier: MIT
// SD3, FLUX, T5 and CLIP against diffusers and transformers (tools/reference/make_model_goldens.py, make_flux_goldens.py), their slabs, their
// flops, and files that do not fit: each tensor missing, misshapen, or one too many.
//
// float32, 5e-6: a sum of k products of random sign is off by up to sqrt(k) 2^-24, 1e-6 at k = 256, the widest here. Some 12 such
// sums follow each other in three blocks and add up as their root: 3.4e-6; torch's own error is as large, so root 2 of that.
// (t = 1000 as a float32 angle is off by 6e-5 where exp() differs in the last bit; the networks' time embedding is mild enough.)
// bf16, 2e-2: rounding to 8 bits is off by 2^-9 / sqrt(3) = 1.1e-3 (rms). About ten stores a block touch the residual stream, 30 in
// all, each of a product of a rounded input and a rounded weight: sqrt(3 * 30) * 1.1e-3 = 1e-2; twice that is allowed.
// FLUX's goldens have eight products after each other. Guidance, up to 4500 as an angle in float32, is off by 3e-4 where exp() differs in
// the last bit: in 3 of 128 sines and cosines, of which the mild embedder keeps 1e-5 and the modulations, added to 1, some 2e-6.
#include "base/memory.h"
#include "../files.h"
#include "io/safetensors_write.h"
#include "model/clip_text.h"
#include "model/denoiser.h"
#include "model/t5.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { GUARD = 64, TENSORS_MAX = 256 };
static const double F32_TOLERANCE = 5e-6, BF16_TOLERANCE = 2e-2;

typedef enum kind { SD3, FLUX, T5, CLIP } kind;

typedef struct net {
    kind kind;
    config_denoiser cfg;
    config_t5 t5;
    config_clip_text clip;
    denoiser *d;
    t5 *m_t5;
    clip_text *m_clip;
    swd_backend *be;
    swd_err err;
} net;

static char *joined(const char *a, const char *b)
{
    char *path;
    cr_assert_eq(path_join(&path, a, b, NULL), SWD_OK);
    return path;
}

static char *golden_dir(const char *name)
{
    return joined(in_source("tests/goldens"), name);
}

static bool is_denoiser(kind k)
{
    return k == SD3 || k == FLUX;
}

static const char *basename_of(kind k)
{
    return is_denoiser(k) ? "diffusion_pytorch_model" : "model";
}

static void net_open(net *n, kind k, const char *name, int threads)
{
    *n = (net){.kind = k};
    char *dir = golden_dir(name), *json = joined(dir, "config.json");
    swd_status s =
        is_denoiser(k)
            ? denoiser_config_read(&n->cfg, k == FLUX ? DENOISER_FLUX : DENOISER_SD3, json, &n->err)
        : k == T5 ? config_t5_read(&n->t5, json, &n->err)
                  : config_clip_text_read(&n->clip, json, &n->err);
    cr_assert_eq(s, SWD_OK, "%s", n->err.message);
    cr_assert_eq(backend_cpu_create(&n->be, threads, &n->err), SWD_OK, "%s", n->err.message);
    free(dir);
    free(json);
}

static void net_unload(net *n)
{
    denoiser_destroy(&n->d);
    t5_destroy(&n->m_t5);
    clip_text_destroy(&n->m_clip);
}

static void net_close(net *n)
{
    net_unload(n);
    backend_destroy(&n->be);
}

static swd_status net_load(net *n, const char *dir, swd_dtype compute)
{
    weights *w = NULL;
    swd_err_clear(&n->err);
    cr_assert_eq(weights_open(&w, dir, basename_of(n->kind), &n->err), SWD_OK, "%s",
                 n->err.message);
    swd_status s =
        is_denoiser(n->kind) ? denoiser_create(&n->d, &n->cfg, w, n->be, compute, &n->err)
        : n->kind == T5      ? t5_create(&n->m_t5, &n->t5, w, n->be, compute, &n->err)
                             : clip_text_create(&n->m_clip, &n->clip, w, n->be, compute, &n->err);
    weights_close(&w);
    if (s != SWD_OK) cr_expect(!n->d && !n->m_t5 && !n->m_clip, "a failed load left a model");
    return s;
}

// A copy of case k's tensor; absent if the file has none.
static swd_tensor find(const safetensors *io, int k, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%d/%s", k, name);
    const st_tensor *t = safetensors_find(io, full);
    if (!t) return tensor_none();
    void *copy = malloc(t->bytes);
    memcpy(copy, t->data, t->bytes);
    return tensor_make(copy, t->dtype, t->shape, t->ndim);
}

static swd_tensor blank(swd_tensor like)
{
    if (tensor_present(like)) like.data = malloc(tensor_bytes(like));
    return like;
}

static double distance(swd_tensor a, swd_tensor b)
{
    double d = 0, n = 0;
    const float *p = a.data, *q = b.data;
    for (int64_t i = 0; i < tensor_numel(a); i++)
        d += ((double)p[i] - q[i]) * ((double)p[i] - q[i]), n += (double)q[i] * q[i];
    return sqrt(d / n);
}

typedef struct io_case {
    swd_tensor latents, t, context, pooled, ids; // inputs; pooled of CLIP is an output
    swd_tensor want[2], got[2];                  // velocity; hidden; hidden and pooled
    float guidance;
} io_case;

static bool case_read(io_case *c, const safetensors *io, int k, kind kind)
{
    *c = (io_case){.latents = find(io, k, "latents"),
                   .t = find(io, k, "t"),
                   .context = find(io, k, "context"),
                   .ids = find(io, k, "ids")};
    c->want[0] = find(io, k, is_denoiser(kind) ? "velocity" : "hidden");
    swd_tensor pooled = find(io, k, "pooled");
    if (is_denoiser(kind))
        c->pooled = pooled;
    else
        c->want[1] = pooled;
    for (int i = 0; i < 2; i++) c->got[i] = blank(c->want[i]);
    swd_tensor guidance = find(io, k, "guidance");
    if (tensor_present(guidance)) c->guidance = *(const float *)guidance.data;
    free(guidance.data);
    return tensor_present(c->want[0]);
}

static void case_free(io_case *c)
{
    swd_tensor *all[] = {&c->latents, &c->t,       &c->context, &c->pooled, &c->ids,
                         &c->want[0], &c->want[1], &c->got[0],  &c->got[1]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->data);
}

// The second of two steps whose conditions are made together.
static swd_status run_denoiser(const net *n, const io_case *c, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    int64_t batch = c->latents.shape[0];
    swd_tensor t = exec1(ex, SWD_F32, 2 * batch);
    RUN(op_axpby(tensor_slice(t, 0, 0, batch), 0.5f, c->t, 0, tensor_none(), ex));
    RUN(op_copy(tensor_slice(t, 0, batch, batch), c->t, ex));
    conditions cond = denoiser_conditions(2 * batch, batch, c->context.shape[1], n->d, ex);
    RUN(denoiser_embed_context(&cond, c->context, n->d, ex));
    RUN(denoiser_modulate(&cond, t, c->pooled, c->guidance, n->d, ex));
    RUN(denoiser_forward(c->got[0], c->latents, &cond, batch, n->d, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_status forward(const net *n, const io_case *c, swd_exec *ex)
{
    switch (n->kind) {
    case SD3:
    case FLUX:
        return run_denoiser(n, c, ex);
    case T5:
        return t5_forward(c->got[0], c->ids, n->m_t5, ex);
    case CLIP:
        break;
    }
    return clip_text_forward(c->got[0], c->got[1], c->ids, ex->dry ? NULL : c->ids.data, n->m_clip,
                             ex);
}

// Dry, then in a slab of exactly the measured size, full of NaN, with guard bytes behind.
static void run(net *n, const io_case *c, swd_dtype act)
{
    swd_exec ex = {.backend = n->be, .err = &n->err, .act = act, .dry = true};
    cr_assert_eq(forward(n, c, &ex), SWD_OK, "%s", n->err.message);
    cr_assert_eq(ex.used, 0, "the dry run left %zu bytes in use", ex.used);
    cr_assert_gt(ex.peak, 0);
    size_t measured = ex.peak;
    unsigned char *slab = aligned_alloc(64, measured + GUARD);
    memset(slab, 0xff, measured + GUARD);
    ex = (swd_exec){
        .backend = n->be, .err = &n->err, .act = act, .slab = slab, .slab_bytes = measured};
    cr_assert_eq(forward(n, c, &ex), SWD_OK, "%s", n->err.message);
    cr_expect_eq(ex.used, 0);
    cr_expect_eq(ex.peak, measured, "measured %zu bytes, used %zu", measured, ex.peak);
    for (int i = 0; i < GUARD; i++)
        cr_assert_eq(slab[measured + (size_t)i], 0xff, "written past the slab");
    free(slab);
}

static safetensors *io_open(const char *name, net *n)
{
    safetensors *io;
    char *dir = golden_dir(name), *path = joined(dir, "io.safetensors");
    cr_assert_eq(safetensors_open(&io, path, NULL, &n->err), SWD_OK, "%s", n->err.message);
    free(dir);
    free(path);
    return io;
}

static void compare(kind k, const char *name, swd_dtype compute, double tolerance)
{
    net n;
    net_open(&n, k, name, 2);
    char *dir = golden_dir(name);
    cr_assert_eq(net_load(&n, dir, compute), SWD_OK, "%s", n.err.message);
    safetensors *io = io_open(name, &n);
    io_case c;
    int count = 0;
    for (; case_read(&c, io, count, k); count++) {
        run(&n, &c, compute);
        for (int i = 0; i < 2; i++) {
            if (!tensor_present(c.want[i])) continue;
            double d = distance(c.got[i], c.want[i]);
            printf("# %s %s case %d output %d: %.2e\n", name, dtype_name(compute), count, i, d);
            cr_expect(d <= tolerance, "%s %s case %d output %d: %g", name, dtype_name(compute),
                      count, i, d);
        }
        case_free(&c);
    }
    case_free(&c);
    cr_expect_eq(count, 2, "%s: %d cases", name, count);
    safetensors_close(&io);
    free(dir);
    net_close(&n);
}

static void both(kind k, const char *name)
{
    compare(k, name, SWD_F32, F32_TOLERANCE);
    compare(k, name, SWD_BF16, BF16_TOLERANCE);
}

Test(models, sd3)
{
    both(SD3, "models/sd3");
}
Test(models, sd35l_sharded)
{
    both(SD3, "models/sd35l");
}
Test(models, sd35m_dual)
{
    both(SD3, "models/sd35m");
}
Test(models, flux_blocks)
{
    both(FLUX, "flux/double");
    both(FLUX, "flux/single");
}
Test(models, flux)
{
    both(FLUX, "flux/schnell");
    both(FLUX, "flux/dev");
}
Test(models, t5_gated)
{
    both(T5, "models/t5_gated");
}
Test(models, t5_relu)
{
    both(T5, "models/t5_relu");
}
Test(models, clip_quick_largest_id)
{
    both(CLIP, "models/clip_quick");
}
Test(models, clip_gelu_eos_id)
{
    both(CLIP, "models/clip_gelu");
}

// Copies of a folder's tensors in a folder of their own, to be changed and written.
typedef struct copies {
    safetensors *source;
    st_write_tensor t[TENSORS_MAX];
    int n;
    char dir[64], *path;
} copies;

static void copies_open(copies *c, net *n, const char *name)
{
    char *dir = golden_dir(name), file[64];
    cr_assert_eq(safetensors_open(&c->source, dir, basename_of(n->kind), &n->err), SWD_OK, "%s",
                 n->err.message);
    free(dir);
    c->n = safetensors_count(c->source);
    cr_assert_lt(c->n, TENSORS_MAX);
    for (int i = 0; i < c->n; i++) {
        const st_tensor *s = safetensors_at(c->source, i);
        c->t[i] =
            (st_write_tensor){.name = s->name, .dtype = s->dtype, .ndim = s->ndim, .data = s->data};
        memcpy(c->t[i].shape, s->shape, sizeof s->shape);
    }
    make_temporary(c->dir);
    snprintf(file, sizeof file, "%s.safetensors", basename_of(n->kind));
    c->path = joined(c->dir, file);
}

static void copies_close(copies *c)
{
    remove_temporary(c->dir);
    free(c->path);
    safetensors_close(&c->source);
}

static swd_status copies_load(const copies *c, net *n, const st_write_tensor *t, int count)
{
    cr_assert_eq(safetensors_write(c->path, t, count, NULL, 0, &n->err), SWD_OK, "%s",
                 n->err.message);
    return net_load(n, c->dir, SWD_F32);
}

static void refused(const char *what, const char *name, swd_status s, const net *n)
{
    cr_expect_eq(s, SWD_ERR_FILE, "%s %s: status %d", what, name, (int)s);
    cr_expect_not_null(strstr(n->err.message, name), "%s %s: \"%s\"", what, name, n->err.message);
}

static void wrong_files(kind k, const char *name)
{
    net n;
    copies c;
    net_open(&n, k, name, 1);
    copies_open(&c, &n, name);
    for (int i = 0; i < c.n; i++) {
        st_write_tensor changed[TENSORS_MAX];
        memcpy(changed, c.t, sizeof(*changed) * (size_t)c.n);
        changed[i].shape[changed[i].ndim - 1]--; // the last column is gone
        refused("misshapen", c.t[i].name, copies_load(&c, &n, changed, c.n), &n);
        changed[i] = changed[c.n - 1];
        refused("missing", c.t[i].name, copies_load(&c, &n, changed, c.n - 1), &n);
    }
    c.t[c.n] = c.t[0];
    c.t[c.n].name = "of.another.model";
    refused("unknown", "of.another.model", copies_load(&c, &n, c.t, c.n + 1), &n);
    cr_expect_eq(copies_load(&c, &n, c.t, c.n), SWD_OK, "%s",
                 n.err.message); // the copy itself is sound
    copies_close(&c);
    net_close(&n);
}

Test(models, wrong_files_sd3)
{
    wrong_files(SD3, "models/sd3");
}
Test(models, wrong_files_sd35m)
{
    wrong_files(SD3, "models/sd35m");
}
Test(models, wrong_files_flux)
{
    wrong_files(FLUX, "flux/schnell");
}
Test(models, wrong_files_t5)
{
    wrong_files(T5, "models/t5_gated");
}
Test(models, wrong_files_t5_relu)
{
    wrong_files(T5, "models/t5_relu");
}
Test(models, wrong_files_clip)
{
    wrong_files(CLIP, "models/clip_quick");
}

// CLIPTextModel: no projection; times the projection of the other class it gives the same.
Test(models, clip_without_projection)
{
    net n;
    copies c;
    io_case k;
    net_open(&n, CLIP, "models/clip_quick", 1);
    copies_open(&c, &n, "models/clip_quick");
    safetensors *io = io_open("models/clip_quick", &n);
    st_write_tensor kept[TENSORS_MAX];
    const float *projection = NULL;
    int count = 0;
    for (int i = 0; i < c.n; i++) {
        if (strcmp(c.t[i].name, "text_projection.weight") != 0)
            kept[count++] = c.t[i];
        else
            projection = c.t[i].data;
    }
    n.clip.with_projection = false;
    cr_assert_eq(copies_load(&c, &n, kept, count), SWD_OK, "%s", n.err.message);
    cr_assert(case_read(&k, io, 1, CLIP));
    int64_t b = k.ids.shape[0], d = n.clip.hidden_size, p = n.clip.projection_dim;
    swd_tensor rows = tensor2(malloc((size_t)(b * d) * sizeof(float)), SWD_F32, b, d),
               projected = blank(k.want[1]);
    free(k.got[1].data);
    k.got[1] = rows;
    run(&n, &k, SWD_F32);
    for (int64_t i = 0; i < b * p; i++) {
        double sum = 0;
        for (int64_t j = 0; j < d; j++) {
            float w;
            memcpy(&w, (const char *)projection + sizeof w * (size_t)(i % p * d + j), sizeof w);
            sum += (double)((float *)rows.data)[i / p * d + j] * w;
        }
        ((float *)projected.data)[i] = (float)sum;
    }
    cr_expect_lt(distance(projected, k.want[1]), F32_TOLERANCE);
    free(projected.data);
    case_free(&k);
    safetensors_close(&io);
    copies_close(&c);
    net_close(&n);
}

// The files count for themselves: a weight matrix costs 2 a number and row, by what its name says it is applied to.
static double counted_flops(const safetensors *files, const config_denoiser *c, int64_t batch,
                            int64_t image, int64_t text)
{
    double total = 0;
    bool flux = c->kind == DENOISER_FLUX;
    int64_t d = flux ? c->flux.inner_dim : c->sd3.inner_dim, all = image + text,
            layers = flux ? c->flux.num_layers + c->flux.num_single_layers : c->sd3.num_layers;
    for (int i = 0; i < safetensors_count(files); i++) {
        const st_tensor *t = safetensors_at(files, i);
        int64_t rows = image;
        if (t->ndim < 2 || strcmp(t->name, "pos_embed.pos_embed") == 0) continue;
        if (strstr(t->name, ".add_") || strstr(t->name, "to_add_out") ||
            strstr(t->name, "ff_context") || strstr(t->name, "context_embedder"))
            rows = text;
        if (strstr(t->name, "single_")) rows = all;
        if (strstr(t->name, "norm1") || strstr(t->name, ".norm.") || strstr(t->name, "norm_out") ||
            strstr(t->name, "time_text_embed"))
            rows = 1;
        total += 2.0 * (double)(rows * t->numel);
        if (strstr(t->name, "attn2.to_q.weight")) total += 4.0 * (double)(image * image * d);
    }
    // q.k and p.v of all queries and keys; SD3's last block asks only for the image
    int64_t queries = all * layers - (flux ? 0 : text);
    total += 4.0 * (double)(queries * all * d);
    return total * (double)batch;
}

static void flops(kind k, const char *name)
{
    net n;
    safetensors *files;
    net_open(&n, k, name, 1);
    char *dir = golden_dir(name);
    cr_assert_eq(net_load(&n, dir, SWD_F32), SWD_OK, "%s", n.err.message);
    cr_assert_eq(safetensors_open(&files, dir, basename_of(k), &n.err), SWD_OK, "%s",
                 n.err.message);
    double want = counted_flops(files, &n.cfg, 3, 5 * 4, 7), got = denoiser_flops(n.d, 3, 10, 8, 7);
    cr_expect_float_eq(got, want, 0.5, "%s: %.0f is not %.0f", name, got, want);
    safetensors_close(&files);
    free(dir);
    net_close(&n);
}

Test(models, flops)
{
    static const char *const sd3[] = {"models/sd3", "models/sd35l", "models/sd35m"},
                             *const flux[] = {"flux/double", "flux/single", "flux/schnell",
                                              "flux/dev"};
    for (int i = 0; i < 3; i++) flops(SD3, sd3[i]);
    for (int i = 0; i < 4; i++) flops(FLUX, flux[i]);
}

// Sizes {height, width, channels, width of the context} of latents: the first two are right.
static void wrong_latents(kind k, const char *name, const int64_t sizes[][4], int count)
{
    net n;
    net_open(&n, k, name, 1);
    char *dir = golden_dir(name);
    cr_assert_eq(net_load(&n, dir, SWD_F32), SWD_OK, "%s", n.err.message);
    for (int i = 0; i < count; i++) {
        const int64_t *s = sizes[i];
        io_case c = {.latents = tensor4(NULL, SWD_F32, 1, s[2], s[0], s[1]),
                     .t = tensor1(NULL, SWD_F32, 1),
                     .context = tensor3(NULL, SWD_F32, 1, 5, s[3]),
                     .pooled = tensor2(NULL, SWD_F32, 1, 20)};
        c.got[0] = c.latents;
        swd_exec ex = {.backend = n.be, .err = &n.err, .dry = true};
        cr_expect_eq(forward(&n, &c, &ex), i < 2 ? SWD_OK : SWD_ERR_ARGUMENT, "%s case %d: %s",
                     name, i, n.err.message);
    }
    free(dir);
    net_close(&n);
}

// Shapes that a network cannot take are errors already when the plan is measured.
Test(models, wrong_shapes)
{
    static const int64_t of_sd3[][4] = {{8, 8, 4, 24},  {24, 24, 4, 24}, {26, 8, 4, 24},
                                        {8, 26, 4, 24}, {7, 8, 4, 24},   {8, 9, 4, 24},
                                        {0, 8, 4, 24},  {8, 8, 5, 24},   {8, 8, 4, 25}},
                         of_flux[][4] = {{8, 8, 4, 24},    {4096, 2, 4, 24}, {4098, 2, 4, 24},
                                         {2, 4098, 4, 24}, {7, 8, 4, 24},    {8, 9, 4, 24},
                                         {0, 8, 4, 24},    {8, 8, 5, 24},    {8, 8, 4, 25}};
    wrong_latents(SD3, "models/sd3", of_sd3, sizeof of_sd3 / sizeof *of_sd3);
    wrong_latents(FLUX, "flux/schnell", of_flux, sizeof of_flux / sizeof *of_flux);

    net n;
    net_open(&n, CLIP, "models/clip_gelu", 1);
    char *dir = golden_dir("models/clip_gelu");
    cr_assert_eq(net_load(&n, dir, SWD_F32), SWD_OK, "%s", n.err.message);
    io_case c = {.ids = tensor2(NULL, SWD_I32, 1, 18)};
    c.got[0] = tensor3(NULL, SWD_F32, 1, 18, 32);
    c.got[1] = tensor2(NULL, SWD_F32, 1, 24);
    swd_exec ex = {.backend = n.be, .err = &n.err, .dry = true};
    cr_expect_eq(forward(&n, &c, &ex), SWD_ERR_ARGUMENT);
    cr_expect_not_null(strstr(n.err.message, "18 tokens"), "%s", n.err.message);
    free(dir);
    net_close(&n);

    net_open(&n, T5, "models/t5_gated", 1);
    dir = golden_dir("models/t5_gated");
    n.t5.dense_act = CONFIG_ACT_SILU;
    cr_expect_eq(net_load(&n, dir, SWD_F32), SWD_ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(n.err.message, "feed_forward_proj"), "%s", n.err.message);
    free(dir);
    net_close(&n);
}
