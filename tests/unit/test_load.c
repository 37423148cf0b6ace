// SPDX-License-Identifier: MIT
// Networks that cannot be loaded: each allocation fails once, in turn, and so does each upload. Every time there is an error that
// names the model's folder, no network, and (where ASan is on) nothing leaks.
#include "base/memory.h"
#include "../files.h"
#include "model/clip_text.h"
#include "model/denoiser.h"
#include "model/load.h"
#include "model/t5.h"
#include "model/tiny_vae.h"
#include "model/vae.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

// The linker sends the product's calls here (--wrap); of the armed ones number fail_at returns nothing.
static long n_calls, fail_at;
static bool fails(void)
{
    return fail_at && ++n_calls == fail_at;
}
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);
void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}
void *__wrap_aligned_alloc(size_t alignment, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, n);
}

typedef enum kind { SD3, FLUX, T5, CLIP, KL, TINY } kind;
static const struct {
    const char *dir, *basename, *last; // the part that is loaded last
} places[] = {
    [SD3] = {"tests/goldens/models/sd35m", "diffusion_pytorch_model", "proj_out"},
    [FLUX] = {"tests/goldens/flux/dev", "diffusion_pytorch_model", "sines"},
    [T5] = {"tests/goldens/models/t5_gated", "model", "encoder.final_layer_norm.weight"},
    [CLIP] = {"tests/goldens/models/clip_quick", "model", "text_projection"},
    [KL] = {"tests/goldens/vae/quant", "diffusion_pytorch_model", "decoder.conv_out"},
    [TINY] = {"tests/goldens/vae/tiny", "diffusion_pytorch_model", "decoder.layers."},
};

// A network of any kind, with what it is made of.
typedef struct net {
    kind kind;
    union {
        config_denoiser denoiser;
        config_t5 t5;
        config_clip_text clip;
        config_vae kl;
        config_tiny_vae tiny;
    } cfg;
    union {
        denoiser *denoiser;
        t5 *t5;
        clip_text *clip;
        vae *kl;
        tiny_vae *tiny;
        void *any;
    } m;
    char *dir;
    swd_backend *be;
    swd_err err;
} net;

static void net_open(net *n, kind k)
{
    char *json;
    *n = (net){.kind = k};
    cr_assert_eq(swd_asprintf(&n->dir, NULL, "%s", in_source(places[k].dir)), SWD_OK);
    cr_assert_eq(path_join(&json, n->dir, "config.json", NULL), SWD_OK);
    cr_assert_eq(backend_cpu_create(&n->be, 1, NULL), SWD_OK);
    swd_status s = k == SD3 ? denoiser_config_read(&n->cfg.denoiser, DENOISER_SD3, json, &n->err)
                   : k == FLUX
                       ? denoiser_config_read(&n->cfg.denoiser, DENOISER_FLUX, json, &n->err)
                   : k == T5   ? config_t5_read(&n->cfg.t5, json, &n->err)
                   : k == CLIP ? config_clip_text_read(&n->cfg.clip, json, &n->err)
                   : k == KL   ? config_vae_read(&n->cfg.kl, json, &n->err)
                               : config_tiny_vae_read(&n->cfg.tiny, json, &n->err);
    cr_assert_eq(s, SWD_OK, "%s", n->err.message);
    free(json);
}

static swd_status create(net *n, weights *w, swd_dtype compute)
{
    switch (n->kind) {
    case SD3:
    case FLUX:
        return denoiser_create(&n->m.denoiser, &n->cfg.denoiser, w, n->be, compute, &n->err);
    case T5:
        return t5_create(&n->m.t5, &n->cfg.t5, w, n->be, compute, &n->err);
    case CLIP:
        return clip_text_create(&n->m.clip, &n->cfg.clip, w, n->be, compute, &n->err);
    case KL:
        return vae_create(&n->m.kl, &n->cfg.kl, w, n->be, compute, true, true, &n->err);
    case TINY:
        break;
    }
    return tiny_vae_create(&n->m.tiny, &n->cfg.tiny, w, n->be, compute, true, true, &n->err);
}

static void destroy(net *n)
{
    switch (n->kind) {
    case SD3:
    case FLUX:
        denoiser_destroy(&n->m.denoiser);
        break;
    case T5:
        t5_destroy(&n->m.t5);
        break;
    case CLIP:
        clip_text_destroy(&n->m.clip);
        break;
    case KL:
        vae_destroy(&n->m.kl);
        break;
    case TINY:
        tiny_vae_destroy(&n->m.tiny);
        break;
    }
}

static void net_close(net *n)
{
    free(n->dir);
    backend_destroy(&n->be);
#ifdef __SANITIZE_ADDRESS__
    cr_expect_eq(__lsan_do_recoverable_leak_check(), 0, "memory leaked");
#endif
}

// The whole way from the files on; the allocations from number `at` on fail once.
static swd_status load(net *n, long at, swd_dtype compute)
{
    weights *w = NULL;
    swd_err_clear(&n->err);
    n_calls = 0;
    fail_at = at;
    swd_status s = weights_open(&w, n->dir, places[n->kind].basename, &n->err);
    if (s == SWD_OK) s = create(n, w, compute);
    fail_at = 0;
    weights_close(&w);
    return s;
}

static void without_memory(kind k, swd_dtype compute)
{
    net n;
    long at = 0;
    char last[SWD_ERR_MESSAGE_MAX] = "", want[512];
    net_open(&n, k);
    size_t held = n.be->weight_bytes(n.be);
    for (;;) {
        swd_status s = load(&n, ++at, compute);
        if (n_calls < at) { // it needs no more than that
            cr_expect_eq(s, SWD_OK, "%s", n.err.message);
            break;
        }
        cr_assert_eq(s, SWD_ERR_MEMORY, "allocation %ld: status %d: %s", at, (int)s, n.err.message);
        cr_assert_null(n.m.any, "allocation %ld left a network", at);
        cr_assert_not_null(strstr(n.err.message, "memory"), "%s", n.err.message);
        strcpy(last, n.err.message);
        cr_assert_eq(n.be->weight_bytes(n.be), held, "allocation %ld: weights are left", at);
    }
    printf("# %s %s: %ld allocations\n", places[k].dir, dtype_name(compute), at - 1);
    cr_expect_gt(at, 20);
    snprintf(want, sizeof want, "%s: no memory for %s", n.dir, places[k].last);
    cr_expect_not_null(strstr(last, want), "%s", last);
    destroy(&n);
    net_close(&n);
}

Test(load, sd3_without_memory)
{
    without_memory(SD3, SWD_F32);
}
Test(load, sd3_bf16_without_memory)
{
    without_memory(SD3, SWD_BF16);
}
Test(load, flux_without_memory)
{
    without_memory(FLUX, SWD_F32);
}
Test(load, t5_without_memory)
{
    without_memory(T5, SWD_F32);
}
Test(load, clip_without_memory)
{
    without_memory(CLIP, SWD_F32);
}
Test(load, vae_without_memory)
{
    without_memory(KL, SWD_F32);
}
Test(load, tiny_vae_without_memory)
{
    without_memory(TINY, SWD_F32);
}

// A field of config.json that the tensors contradict is named, with the file and the tensor.
typedef struct lie {
    const char *field;
    int *value, add; // of a config
} lie;

static void contradicted(kind k, net *n, const char *field)
{
    char file[512];
    snprintf(file, sizeof file, "%s/config.json: field \"%s\" ", n->dir, field);
    cr_expect_eq(load(n, 0, SWD_F32), SWD_ERR_FILE, "%s: %s", places[k].dir, field);
    cr_expect_eq(strncmp(n->err.message, file, strlen(file)), 0, "%s: %s", field, n->err.message);
    cr_expect_not_null(strstr(n->err.message, " tensor "), "%s", n->err.message);
    cr_expect_null(n->m.any);
}

static void lies(kind k, net *n, const lie *list, size_t count)
{
    cr_expect_eq(load(n, 0, SWD_F32), SWD_OK, "%s", n->err.message);
    destroy(n);
    for (size_t i = 0; i < count; i++) {
        *list[i].value += list[i].add;
        contradicted(k, n, list[i].field);
        *list[i].value -= list[i].add;
    }
}

static void flips(kind k, net *n, bool *value, const char *field)
{
    *value = !*value;
    contradicted(k, n, field);
    *value = !*value;
}

#define LIES(kind, ...)                                                                            \
    do {                                                                                           \
        const lie list_[] = {__VA_ARGS__};                                                         \
        lies(kind, &n, list_, sizeof list_ / sizeof *list_);                                       \
    } while (0)

Test(load, contradicted_sd3)
{
    net n;
    net_open(&n, SD3);
    config_sd3 *c = &n.cfg.denoiser.sd3;
    LIES(SD3, {"num_layers", &c->num_layers, -1}, {"num_layers", &c->num_layers, 1},
         {"caption_projection_dim", &c->inner_dim, 8}, {"in_channels", &c->in_channels, 1},
         {"out_channels", &c->out_channels, 1}, {"patch_size", &c->patch_size, 1},
         {"attention_head_dim", &c->attention_head_dim, 8},
         {"joint_attention_dim", &c->joint_attention_dim, -1},
         {"pooled_projection_dim", &c->pooled_projection_dim, 1},
         {"pos_embed_max_size", &c->pos_embed_max_size, 1});
    flips(SD3, &n, &c->qk_norm_rms, "qk_norm");
    for (int i = 0; i < c->num_layers; i++)
        flips(SD3, &n, &c->dual_attention[i], "dual_attention_layers");
    net_close(&n);
}

Test(load, contradicted_flux)
{
    net n;
    net_open(&n, FLUX);
    config_flux *c = &n.cfg.denoiser.flux;
    LIES(FLUX, {"num_layers", &c->num_layers, -1}, {"num_layers", &c->num_layers, 1},
         {"num_single_layers", &c->num_single_layers, -1},
         {"num_single_layers", &c->num_single_layers, 1}, {"in_channels", &c->in_channels, 4},
         {"joint_attention_dim", &c->joint_attention_dim, 1},
         {"pooled_projection_dim", &c->pooled_projection_dim, -1},
         {"attention_head_dim", &c->attention_head_dim, 8},
         {"num_attention_heads", &c->inner_dim, 16});
    flips(FLUX, &n, &c->guidance_embeds, "guidance_embeds");
    net_close(&n);
}

Test(load, contradicted_t5)
{
    net n;
    net_open(&n, T5);
    config_t5 *c = &n.cfg.t5;
    LIES(T5, {"vocab_size", &c->vocab_size, 1}, {"d_model", &c->d_model, 1},
         {"num_layers", &c->num_layers, 1}, {"num_layers", &c->num_layers, -1},
         {"d_ff", &c->d_ff, 1}, {"d_kv", &c->d_kv, 8}, {"num_heads", &c->num_heads, 1},
         {"relative_attention_num_buckets", &c->relative_attention_num_buckets, 4});
    c->is_gated_act = false;
    c->dense_act = CONFIG_ACT_RELU;
    contradicted(T5, &n, "feed_forward_proj");
    net_close(&n);
}

Test(load, contradicted_clip)
{
    net n;
    net_open(&n, CLIP);
    config_clip_text *c = &n.cfg.clip;
    LIES(CLIP, {"vocab_size", &c->vocab_size, -1}, {"hidden_size", &c->hidden_size, 8},
         {"intermediate_size", &c->intermediate_size, 1}, {"projection_dim", &c->projection_dim, 1},
         {"max_position_embeddings", &c->max_position_embeddings, 1},
         {"num_hidden_layers", &c->num_hidden_layers, 1},
         {"num_hidden_layers", &c->num_hidden_layers, -1});
    flips(CLIP, &n, &c->with_projection, "architectures");
    net_close(&n);
}

Test(load, contradicted_vae)
{
    net n;
    net_open(&n, KL);
    config_vae *c = &n.cfg.kl;
    LIES(KL, {"in_channels", &c->in_channels, 1}, {"out_channels", &c->out_channels, 1},
         {"latent_channels", &c->latent_channels, 1}, {"layers_per_block", &c->layers_per_block, 1},
         {"layers_per_block", &c->layers_per_block, -1}, {"block_out_channels", &c->n_blocks, -1},
         {"block_out_channels", &c->block_out_channels[0], 8});
    flips(KL, &n, &c->use_quant_conv, "use_quant_conv");
    flips(KL, &n, &c->use_post_quant_conv, "use_post_quant_conv");
    flips(KL, &n, &c->mid_block_add_attention, "mid_block_add_attention");
    net_close(&n);
}

Test(load, contradicted_tiny_vae)
{
    net n;
    net_open(&n, TINY);
    config_tiny_vae *c = &n.cfg.tiny;
    LIES(TINY, {"in_channels", &c->in_channels, 1}, {"out_channels", &c->out_channels, 1},
         {"latent_channels", &c->latent_channels, 1},
         {"num_encoder_blocks", &c->num_encoder_blocks[0], 1},
         {"num_decoder_blocks", &c->num_decoder_blocks[0], 1},
         {"encoder_block_out_channels", &c->encoder_block_out_channels[0], 1},
         {"decoder_block_out_channels", &c->decoder_block_out_channels[0], 1});
    net_close(&n);
}

// What the backend refuses is said with file and tensor: it does not know them.
static long n_uploads;
static swd_status broken_upload(swd_backend *be, swd_tensor dst, const void *src,
                                swd_stream *stream, swd_err *err)
{
    (void)be, (void)dst, (void)src, (void)stream;
    n_uploads++;
    return SWD_FAIL(err, SWD_ERR_DEVICE, "the device is gone");
}

Test(load, first_error_stays)
{
    net n;
    net_open(&n, CLIP);
    n.be->upload = broken_upload;
    cr_expect_eq(load(&n, 0, SWD_F32), SWD_ERR_DEVICE);
    cr_expect_eq(n_uploads, 1, "%ld uploads after the first error", n_uploads - 1);
    char want[512];
    snprintf(want, sizeof want, "%s: loading %s.weight: the device is gone", n.dir,
             "text_model.embeddings.token_embedding");
    cr_expect_str_eq(n.err.message, want);
    cr_expect_null(n.m.any);
    net_close(&n);
}
