// SPDX-License-Identifier: MIT
// FLUX's transformer against diffusers (tools/reference/make_flux_goldens.py): a double block, a single block, all of it with and without
// guidance; its slab, its flops, its config, and files that do not fit.
//
// Tolerances are derived as in test_models.c: eight products follow each other in the longest of these, which has twelve there. Guidance,
// up to 4500 as an angle in float32, is off by 3e-4 where exp() differs in the last bit: in 3 of 128 sines and cosines, of which the mild
// embedder keeps 1e-5 and the modulations, added to 1, some 2e-6.
#include "base/memory.h"
#include "io/safetensors_write.h"
#include "model/denoiser.h"
#include "weights/shapes.h"
#include "weights/tensor_list.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GUARD = 64, TENSORS_MAX = 128 };
static const double F32_TOLERANCE = 5e-6, BF16_TOLERANCE = 2e-2;
static const char *const FILES = "diffusion_pytorch_model";

typedef struct net {
    char dir[1024];
    config_denoiser cfg;
    denoiser *d;
    swd_backend *be;
    swd_err err;
} net;

static void net_open(net *n, const char *name)
{
    char json[1100];
    const char *root = getenv("SWD_SOURCE_DIR");
    *n = (net){0};
    snprintf(n->dir, sizeof n->dir, "%s/tests/goldens/flux/%s", root ? root : ".", name);
    snprintf(json, sizeof json, "%s/config.json", n->dir);
    cr_assert_eq(denoiser_config_read(&n->cfg, DENOISER_FLUX, json, &n->err), SWD_OK, "%s",
                 n->err.message);
    cr_assert_eq(backend_cpu_create(&n->be, 1, &n->err), SWD_OK, "%s", n->err.message);
}

static swd_status net_load(net *n, const char *dir, swd_dtype compute)
{
    weights *w = NULL;
    swd_err_clear(&n->err);
    denoiser_destroy(&n->d);
    cr_assert_eq(weights_open(&w, dir, FILES, &n->err), SWD_OK, "%s", n->err.message);
    swd_status s = denoiser_create(&n->d, &n->cfg, w, n->be, compute, &n->err);
    weights_close(&w);
    cr_expect((s == SWD_OK) == (n->d != NULL), "a failed load left a model");
    return s;
}

static void net_close(net *n)
{
    denoiser_destroy(&n->d);
    backend_destroy(&n->be);
}

/* ---- against diffusers ---- */

typedef struct io_case {
    swd_tensor latents, t, context, pooled, want, got;
    float guidance;
} io_case;

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

static bool case_read(io_case *c, const safetensors *io, int k)
{
    *c = (io_case){.latents = find(io, k, "latents"),
                   .t = find(io, k, "t"),
                   .context = find(io, k, "context"),
                   .pooled = find(io, k, "pooled"),
                   .want = find(io, k, "velocity")};
    if (!tensor_present(c->want)) return false;
    swd_tensor g = find(io, k, "guidance");
    c->guidance = *(float *)g.data;
    free(g.data);
    c->got = c->want;
    c->got.data = malloc(tensor_bytes(c->want));
    return true;
}

static void case_free(io_case *c)
{
    swd_tensor *all[] = {&c->latents, &c->t, &c->context, &c->pooled, &c->want, &c->got};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->data);
}

// The second of two steps whose conditions are made together.
static swd_status forward(const net *n, const io_case *c, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    int64_t batch = c->latents.shape[0];
    swd_tensor t = exec1(ex, SWD_F32, 2 * batch);
    RUN(op_axpby(tensor_slice(t, 0, 0, batch), 0.5f, c->t, 0, tensor_none(), ex));
    RUN(op_copy(tensor_slice(t, 0, batch, batch), c->t, ex));
    conditions cond = denoiser_conditions(2 * batch, batch, c->context.shape[1], n->d, ex);
    RUN(denoiser_embed_context(&cond, c->context, n->d, ex));
    RUN(denoiser_modulate(&cond, t, c->pooled, c->guidance, n->d, ex));
    RUN(denoiser_forward(c->got, c->latents, &cond, batch, n->d, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

// Dry, then in a slab of exactly the measured size, full of NaN, with guard bytes behind.
static void run(net *n, const io_case *c, swd_dtype act)
{
    swd_exec ex = {.backend = n->be, .err = &n->err, .act = act, .dry = true};
    cr_assert_eq(forward(n, c, &ex), SWD_OK, "%s", n->err.message);
    cr_assert(ex.used == 0 && ex.peak > 0);
    size_t measured = ex.peak;
    unsigned char *slab = aligned_alloc(64, measured + GUARD);
    memset(slab, 0xff, measured + GUARD);
    ex = (swd_exec){
        .backend = n->be, .err = &n->err, .act = act, .slab = slab, .slab_bytes = measured};
    cr_assert_eq(forward(n, c, &ex), SWD_OK, "%s", n->err.message);
    cr_expect(ex.used == 0 && ex.peak == measured, "measured %zu, used %zu", measured, ex.peak);
    for (int i = 0; i < GUARD; i++)
        cr_assert_eq(slab[measured + (size_t)i], 0xff, "written past the slab");
    free(slab);
}

static double distance(swd_tensor a, swd_tensor b)
{
    double d = 0, n = 0;
    const float *p = a.data, *q = b.data;
    for (int64_t i = 0; i < tensor_numel(a); i++)
        d += ((double)p[i] - q[i]) * ((double)p[i] - q[i]), n += (double)q[i] * q[i];
    return sqrt(d / n);
}

static void compare(const char *name, swd_dtype compute, double tolerance)
{
    net n;
    safetensors *io;
    char file[1100];
    io_case c;
    int k = 0;
    net_open(&n, name);
    cr_assert_eq(net_load(&n, n.dir, compute), SWD_OK, "%s", n.err.message);
    snprintf(file, sizeof file, "%s/io.safetensors", n.dir);
    cr_assert_eq(safetensors_open(&io, file, NULL, &n.err), SWD_OK, "%s", n.err.message);
    for (; case_read(&c, io, k); k++) {
        run(&n, &c, compute);
        double d = distance(c.got, c.want);
        printf("# %s %s case %d: %.2e\n", name, dtype_name(compute), k, d);
        cr_expect(d <= tolerance, "%s %s case %d: %g", name, dtype_name(compute), k, d);
        case_free(&c);
    }
    cr_expect_eq(k, 2, "%s: %d cases", name, k);
    safetensors_close(&io);
    net_close(&n);
}

Test(flux, as_diffusers)
{
    static const char *const names[] = {"double", "single", "schnell", "dev"};
    for (int i = 0; i < 4; i++) {
        compare(names[i], SWD_F32, F32_TOLERANCE);
        compare(names[i], SWD_BF16, BF16_TOLERANCE);
    }
}

/* ---- files that do not fit ---- */

typedef struct copies {
    safetensors *source;
    st_write_tensor t[TENSORS_MAX];
    int n;
    char dir[64], file[128];
} copies;

static swd_status copies_load(const copies *c, net *n, const st_write_tensor *t, int count)
{
    cr_assert_eq(safetensors_write(c->file, t, count, NULL, 0, &n->err), SWD_OK, "%s",
                 n->err.message);
    return net_load(n, c->dir, SWD_F32);
}

static void copies_open(copies *c, net *n)
{
    cr_assert_eq(safetensors_open(&c->source, n->dir, FILES, &n->err), SWD_OK, "%s",
                 n->err.message);
    c->n = safetensors_count(c->source);
    cr_assert_lt(c->n, TENSORS_MAX);
    for (int i = 0; i < c->n; i++) {
        const st_tensor *s = safetensors_at(c->source, i);
        c->t[i] =
            (st_write_tensor){.name = s->name, .dtype = s->dtype, .ndim = s->ndim, .data = s->data};
        memcpy(c->t[i].shape, s->shape, sizeof s->shape);
    }
    snprintf(c->dir, sizeof c->dir, "/tmp/swd_flux_XXXXXX");
    cr_assert_not_null(mkdtemp(c->dir));
    snprintf(c->file, sizeof c->file, "%s/%s.safetensors", c->dir, FILES);
}

static void refused(const char *what, const char *name, swd_status s, const net *n)
{
    cr_expect_eq(s, SWD_ERR_FILE, "%s %s: status %d", what, name, (int)s);
    cr_expect_not_null(strstr(n->err.message, name), "%s %s: \"%s\"", what, name, n->err.message);
}

Test(flux, wrong_files)
{
    net n;
    copies c;
    net_open(&n, "schnell");
    copies_open(&c, &n);
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
    cr_expect_eq(copies_load(&c, &n, c.t, c.n), SWD_OK, "%s", n.err.message);
    unlink(c.file);
    rmdir(c.dir);
    safetensors_close(&c.source);
    net_close(&n);
}

Test(flux, contradicted)
{
    net n;
    net_open(&n, "dev");
    config_flux *f = &n.cfg.flux;
    const struct {
        const char *field;
        int *value, by;
    } lies[] = {
        {"num_layers", &f->num_layers, -1},
        {"num_layers", &f->num_layers, 1},
        {"num_single_layers", &f->num_single_layers, -1},
        {"num_single_layers", &f->num_single_layers, 1},
        {"in_channels", &f->in_channels, 4},
        {"joint_attention_dim", &f->joint_attention_dim, 1},
        {"pooled_projection_dim", &f->pooled_projection_dim, -1},
        {"attention_head_dim", &f->attention_head_dim, 8},
        {"num_attention_heads", &f->inner_dim, 16},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        *lies[i].value += lies[i].by;
        refused("field", lies[i].field, net_load(&n, n.dir, SWD_F32), &n);
        *lies[i].value -= lies[i].by;
    }
    f->guidance_embeds = false;
    refused("field", "guidance_embeds", net_load(&n, n.dir, SWD_F32), &n);
    f->guidance_embeds = true;
    cr_expect_eq(net_load(&n, n.dir, SWD_F32), SWD_OK, "%s", n.err.message);
    net_close(&n);
}

/* ---- shapes and counts ---- */

// Shapes that the network cannot take are errors already when the plan is measured.
Test(flux, wrong_shapes)
{
    static const int64_t sizes[][4] = {{8, 8, 4, 24},    {4096, 2, 4, 24}, {4098, 2, 4, 24},
                                       {2, 4098, 4, 24}, {7, 8, 4, 24},    {8, 9, 4, 24},
                                       {0, 8, 4, 24},    {8, 8, 5, 24},    {8, 8, 4, 25}};
    net n;
    net_open(&n, "schnell");
    cr_assert_eq(net_load(&n, n.dir, SWD_F32), SWD_OK, "%s", n.err.message);
    for (int i = 0; i < (int)(sizeof sizes / sizeof *sizes); i++) {
        const int64_t *s = sizes[i];
        io_case c = {.latents = tensor4(NULL, SWD_F32, 1, s[2], s[0], s[1]),
                     .t = tensor1(NULL, SWD_F32, 1),
                     .context = tensor3(NULL, SWD_F32, 1, 5, s[3]),
                     .pooled = tensor2(NULL, SWD_F32, 1, 20)};
        c.got = c.latents;
        swd_exec ex = {.backend = n.be, .err = &n.err, .dry = true};
        cr_expect_eq(forward(&n, &c, &ex), i < 2 ? SWD_OK : SWD_ERR_ARGUMENT, "case %d: %s", i,
                     n.err.message);
    }
    net_close(&n);
}

// The files count for themselves: a weight matrix costs 2 a number and row, by what its name says it is applied to.
static double counted_flops(const safetensors *files, const config_flux *f, int64_t batch,
                            int64_t image, int64_t text)
{
    double total = 0;
    for (int i = 0; i < safetensors_count(files); i++) {
        const st_tensor *t = safetensors_at(files, i);
        int64_t rows = image;
        if (t->ndim < 2) continue;
        if (strstr(t->name, ".add_") || strstr(t->name, "to_add_out") ||
            strstr(t->name, "ff_context") || strstr(t->name, "context_embedder"))
            rows = text;
        if (strstr(t->name, "single_")) rows = image + text;
        if (strstr(t->name, "norm1") || strstr(t->name, ".norm.") || strstr(t->name, "norm_out") ||
            strstr(t->name, "time_text_embed"))
            rows = 1;
        total += 2.0 * (double)(rows * t->numel);
    }
    // q.k and p.v of all queries and keys
    total += 4.0 * (double)((image + text) * (image + text) * f->inner_dim *
                            (f->num_layers + f->num_single_layers));
    return total * (double)batch;
}

Test(flux, flops)
{
    static const char *const names[] = {"double", "single", "schnell", "dev"};
    for (int i = 0; i < 4; i++) {
        net n;
        safetensors *files;
        net_open(&n, names[i]);
        cr_assert_eq(net_load(&n, n.dir, SWD_F32), SWD_OK, "%s", n.err.message);
        cr_assert_eq(safetensors_open(&files, n.dir, FILES, &n.err), SWD_OK, "%s", n.err.message);
        double want = counted_flops(files, &n.cfg.flux, 3, 5 * 4, 7),
               got = denoiser_flops(n.d, 3, 10, 8, 7);
        cr_expect_float_eq(got, want, 0.5, "%s: %.0f is not %.0f", names[i], got, want);
        safetensors_close(&files);
        net_close(&n);
    }
}

// Those of diffusers' classes.
Test(flux, parameters_of_the_published_shapes)
{
    static const struct {
        const char *name;
        int64_t n;
    } shapes[] = {{"flux-dev", 11901408320}, {"flux-schnell", 11891178560}};
    for (int i = 0; i < 2; i++) {
        tensor_list l = {0};
        cr_assert_eq(tensors_transformer(&l, &shape_find(shapes[i].name)->transformer, NULL),
                     SWD_OK);
        cr_expect_eq(tensor_list_parameters(&l), shapes[i].n, "%s", shapes[i].name);
        free(l.at);
    }
}

/* ---- config.json ---- */

static swd_status read_text(config_flux *c, const char *text, swd_err *err)
{
    char path[] = "/tmp/swd_flux_config_XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    swd_err_clear(err);
    swd_status s = config_flux_read(c, path, err);
    unlink(path);
    return s;
}

Test(flux, config)
{
    config_flux c;
    swd_err err = {0};
    cr_assert_eq(read_text(&c, "{}", &err), SWD_OK, "%s", err.message);
    cr_assert(c.in_channels == 64 && c.num_layers == 19 && c.num_single_layers == 38 &&
              c.inner_dim == 3072 && c.attention_head_dim == 128);
    cr_assert(c.joint_attention_dim == 4096 && c.pooled_projection_dim == 768 &&
              !c.guidance_embeds && c.axes_dims_rope[0] == 16 && c.axes_dims_rope[2] == 56);
    cr_assert_eq(read_text(&c,
                           "{\"out_channels\":null,\"attention_head_dim\":40,\"axes_dims_rope\":[0,"
                           "24,16],\"num_layers\":0,\"guidance_embeds\":true}",
                           &err),
                 SWD_OK, "%s", err.message);
    cr_assert(c.guidance_embeds && c.num_layers == 0 && c.axes_dims_rope[1] == 24);
    static const struct {
        const char *text, *part;
        swd_status status;
    } wrong[] = {
        {"{\"attention_head_dim\":64}", "\"axes_dims_rope\"", SWD_ERR_FILE},
        {"{\"axes_dims_rope\":[17,55,56]}", "\"axes_dims_rope\"", SWD_ERR_FILE},
        {"{\"axes_dims_rope\":[64,64]}", "\"axes_dims_rope\"", SWD_ERR_FILE},
        {"{\"axes_dims_rope\":[16,56,28,28]}", "\"axes_dims_rope\"", SWD_ERR_FILE},
        {"{\"in_channels\":66}", "\"in_channels\"", SWD_ERR_FILE},
        {"{\"num_layers\":-1}", "\"num_layers\"", SWD_ERR_FILE},
        {"{\"guidance_embeds\":1}", "\"guidance_embeds\"", SWD_ERR_FILE},
        {"{\"in_channels\":384,\"out_channels\":64}", "\"out_channels\"", SWD_ERR_UNSUPPORTED},
        {"{\"patch_size\":2}", "\"patch_size\"", SWD_ERR_UNSUPPORTED},
        {"{\"attention_head_dim\":12,\"axes_dims_rope\":[4,4,4]}", "\"attention_head_dim\"",
         SWD_ERR_UNSUPPORTED},
        {"{\"_class_name\":\"SD3Transformer2DModel\"}", "SD3Transformer2DModel",
         SWD_ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cr_expect_eq(read_text(&c, wrong[i].text, &err), wrong[i].status, "%s: %s", wrong[i].text,
                     err.message);
        cr_expect_not_null(strstr(err.message, wrong[i].part), "\"%s\" not in: %s", wrong[i].part,
                           err.message);
    }
}
