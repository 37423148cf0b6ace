// SPDX-License-Identifier: MIT
// Each network is one block of the backend's memory where there are blocks: it is put together twice, first without its numbers, to learn its
// size.
#include "pipeline/networks.h"
#include "backend/slab.h"
#include "base/memory.h"
#include "pipeline/random.h"
#include "weights/weights.h"
#include <stdio.h>
#include <string.h>

static const unsigned encoder_bit[FAMILY_ENCODERS] = {SWD_CLIP_L, SWD_CLIP_G, SWD_T5};

/* ---- memory ---- */

swd_status pipeline_tell_memory(const pipeline *p, const char *wanted, size_t bytes, swd_err *err)
{
    swd_memory m;
    char why[SWD_ERR_MESSAGE_MAX], table[512] = "";
    if (!err || !p->backend->memory || p->backend->memory(p->backend, &m, NULL) != SWD_OK)
        return SWD_ERR_MEMORY;
    for (int i = 0; i < PIPELINE_PARTS; i++)
        if (p->weights[i].folder)
            snprintf(table + strlen(table), sizeof table - strlen(table), "%s %.0f, ",
                     p->weights[i].folder, (double)p->weights[i].bytes / 1e6);
    snprintf(why, sizeof why, "%s", err->message);
    return SWD_FAIL(err, SWD_ERR_MEMORY,
                    "%.400s; the device has %.0f MB, %.0f of them free; in MB: %s%s %.0f (needed)",
                    why, (double)m.total / 1e6, (double)m.free / 1e6, table, wanted,
                    (double)bytes / 1e6);
}

static size_t weights_bytes(const pipeline *p, const weights *w)
{
    bool narrow = p->compute == SWD_BF16 || weights_mostly_bf16(w);
    return (size_t)weights_parameters(w) * (narrow ? 2 : 4);
}

/* ---- networks ---- */

static swd_status create_clip_l(pipeline *p, weights *w, swd_err *err)
{
    return clip_text_create(&p->clip[0], &p->clip_config[0], w, p->backend, p->compute, err);
}

static swd_status create_clip_g(pipeline *p, weights *w, swd_err *err)
{
    return clip_text_create(&p->clip[1], &p->clip_config[1], w, p->backend, p->compute, err);
}

static swd_status create_t5(pipeline *p, weights *w, swd_err *err)
{
    return (p->offloading ? t5_create_streamed : t5_create)(&p->t5, &p->t5_config, w, p->backend,
                                                            p->compute, err);
}

static swd_status create_transformer(pipeline *p, weights *w, swd_err *err)
{
    SWD_TRY((p->streaming ? denoiser_create_streamed : denoiser_create)(
                &p->transformer, &p->transformer_config, w, p->backend, p->compute, err),
            err);
    return weights_check_unused(w, NULL, err);
}

static swd_status create_decoder(pipeline *p, weights *w, swd_err *err)
{
    return vae_create(&p->decoder, &p->vae_config, w, p->backend, p->compute, false, true, err);
}

static swd_status create_encoder(pipeline *p, weights *w, swd_err *err)
{
    return vae_create(&p->encoder, &p->vae_config, w, p->backend, p->compute, true, false, err);
}

static swd_status create_tiny(pipeline *p, weights *w, swd_err *err)
{
    return tiny_vae_create(&p->tiny, &p->tiny_config, w, p->backend, p->compute, false, true, err);
}

static swd_status (*const create_part[PIPELINE_PARTS])(pipeline *, weights *, swd_err *) = {
    create_clip_l,  create_clip_g,  create_t5,  create_transformer,
    create_decoder, create_encoder, create_tiny};

static void destroy_part(pipeline *p, pipeline_part part)
{
    if (part <= PART_CLIP_G) clip_text_destroy(&p->clip[part]);
    if (part == PART_T5) t5_destroy(&p->t5);
    if (part == PART_TRANSFORMER) denoiser_destroy(&p->transformer);
    if (part == PART_DECODER) vae_destroy(&p->decoder);
    if (part == PART_ENCODER) vae_destroy(&p->encoder);
    if (part == PART_TINY) tiny_vae_destroy(&p->tiny);
}

void pipeline_release(pipeline *p, pipeline_part part)
{
    destroy_part(p, part);
    slab_destroy(&p->weights[part].slab, p->backend);
    p->weights[part] = (struct pipeline_weights){0};
    if (part == PART_T5) weights_close(&p->t5_weights);
    if (part == PART_TRANSFORMER) {
        weights_close(&p->transformer_weights);
        for (int i = 0; i < SWD_LORAS_MAX; i++) lora_close(&p->transformer_loras[i]);
    }
    if (part <= PART_T5) p->text_loaded = false; // of all or of none
}

/* What a network will take: it is put together without its numbers. */
static swd_status measure_part(size_t *bytes, pipeline *p, pipeline_part part, weights *w,
                               swd_err *err)
{
    size_t before = backend_held(p->backend);
    plan_begin(p->backend);
    weights_set_dry(w, true);
    swd_status s = create_part[part](p, w, err);
    *bytes = backend_held(p->backend) - before;
    destroy_part(p, part);
    weights_set_dry(w, p->planning);
    plan_end(p->backend);
    return s;
}

/* Size first, then one block, then what lies in it. */
static swd_status fill_part(pipeline *p, pipeline_part part, weights *w, swd_err *err)
{
    struct pipeline_weights *held = &p->weights[part];
    size_t before = backend_held(p->backend), bytes;
    if (slab_has(p->backend)) {
        SWD_TRY(measure_part(&bytes, p, part, w, err), err);
        SWD_TRY(slab_create(&held->slab, bytes, p->backend, err), err);
    }
    slab_use(held->slab, p->backend);
    swd_status s = create_part[part](p, w, err);
    slab_use(NULL, p->backend);
    if (s != SWD_OK) {
        destroy_part(p, part);
        slab_destroy(&held->slab, p->backend);
    }
    held->bytes = backend_held(p->backend) - before;
    return s;
}

/* Opens the weights of a network and puts it together. */
static swd_status load_from(pipeline *p, pipeline_part part, const char *path, const char *folder,
                            const char *basename, swd_err *err)
{
    weights *w = NULL;
    lora *files[SWD_LORAS_MAX] = {0};
    bool made_up = p->random && part != PART_TINY;
    swd_status s =
        made_up ? random_weights(&w, p, folder, err) : weights_open(&w, path, basename, err);
    for (int i = 0; part == PART_TRANSFORMER && i < p->n_adapters && s == SWD_OK; i++) {
        s = lora_open(&files[i], p->adapters[i].path, err);
        if (s == SWD_OK) s = weights_add_lora(w, files[i], p->adapters[i].scale, err);
    }
    if (s == SWD_OK) s = fill_part(p, part, w, err);
    if (s == SWD_ERR_MEMORY && w) s = pipeline_tell_memory(p, folder, weights_bytes(p, w), err);
    if (s == SWD_OK && part == PART_T5 && p->offloading) {
        p->t5_weights = w;
    } else if (s == SWD_OK && part == PART_TRANSFORMER && p->streaming) {
        p->transformer_weights = w;
        memcpy(p->transformer_loras, files, sizeof files);
        memset(files, 0, sizeof files);
    } else {
        weights_close(&w);
    }
    for (int i = 0; i < p->n_adapters; i++) lora_close(&files[i]);
    if (s == SWD_OK) p->weights[part].folder = folder;
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

static swd_status load_part(pipeline *p, pipeline_part part, const char *folder,
                            const char *basename, swd_err *err)
{
    char *path = NULL;
    SWD_TRY(pipeline_part_path(&path, p, folder, "", err), err);
    swd_status s = load_from(p, part, path, folder, basename, err);
    free(path);
    return s;
}

/* For what comes layer by layer. */
static swd_status make_room(pipeline *p, pipeline_part part, swd_err *err)
{
    size_t before = backend_held(p->backend);
    swd_status s =
        part == PART_T5 ? t5_make_room(p->t5, err) : denoiser_make_room(p->transformer, err);
    p->weights[part].bytes += backend_held(p->backend) - before;
    if (s != SWD_OK) pipeline_release(p, part);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

/* ---- which, from where ---- */

/* [null, null] in model_index.json: zeros, as in diffusers. */
static bool has_encoder(const pipeline *p, int i)
{
    const char *folder = p->family->encoder[i].folder;
    return folder && config_model_index_find(&p->index, folder);
}

static swd_status no_tokenizer(const pipeline *p, int i, swd_err *err)
{
    const family_encoder *e = &p->family->encoder[i];
    char rest[32];
    return SWD_FAIL(err, SWD_ERR_FILE,
                    "model %s: no folder %s for %s; or leave it out: --text-encoders %s", p->dir,
                    e->tokenizer, e->folder, family_without(p->family, i, rest, sizeof rest));
}

/* The config of a CLIP tower is read even if the tower is left out: its widths place the zeros. */
static swd_status load_clip(pipeline *p, int i, swd_err *err)
{
    bool wanted = p->text_encoders & encoder_bit[i];
    const char *folder = p->family->encoder[i].folder;
    if (!has_encoder(p, i)) return SWD_OK;
    char *path = NULL;
    SWD_TRY(pipeline_part_path(&path, p, folder, "config.json", err), err);
    swd_status s = !p->random && (wanted || path_exists(path))
                       ? config_clip_text_read(&p->clip_config[i], path, err)
                       : SWD_OK;
    free(path);
    SWD_TRY(s, err);
    if (!wanted || p->clip[i]) return SWD_OK;
    if (!p->bpe[i] && !p->random) return no_tokenizer(p, i, err);
    p->clip_config[i].unprojected = !p->family->clip_projected;
    if (p->family->clip_projected && !p->clip_config[i].with_projection)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s/%s is a CLIPTextModel; %s needs a CLIPTextModelWithProjection", p->dir,
                        folder, p->family->models);
    return load_part(p, i ? PART_CLIP_G : PART_CLIP_L, folder, "model", err);
}

static swd_status load_t5(pipeline *p, swd_err *err)
{
    const char *folder = p->family->encoder[FAMILY_T5].folder;
    if (!(p->text_encoders & SWD_T5) || !has_encoder(p, FAMILY_T5) || p->t5) return SWD_OK;
    char *path = NULL;
    SWD_TRY(pipeline_part_path(&path, p, folder, "config.json", err), err);
    swd_status s = p->random ? SWD_OK : config_t5_read(&p->t5_config, path, err);
    free(path);
    SWD_TRY(s, err);
    if (!p->unigram && !p->random) return no_tokenizer(p, FAMILY_T5, err);
    SWD_TRY(load_part(p, PART_T5, folder, "model", err), err);
    return p->offloading ? make_room(p, PART_T5, err) : SWD_OK;
}

swd_status pipeline_load_text(pipeline *p, swd_err *err)
{
    if (p->text_loaded) return SWD_OK;
    SWD_TRY(pipeline_check_family(p, err), err);
    SWD_TRY(pipeline_load_backend(p, err), err);
    if (p->text_encoders & SWD_TEXT_ALL) SWD_TRY(pipeline_load_tokenizers(p, err), err);
    for (int i = 0; i < 2; i++) SWD_TRY(load_clip(p, i, err), err);
    SWD_TRY(load_t5(p, err), err);
    p->text_loaded = true;
    return SWD_OK;
}

swd_status pipeline_load_transformer(pipeline *p, swd_err *err)
{
    if (p->transformer) return SWD_OK;
    SWD_TRY(pipeline_read_configs(p, err), err);
    SWD_TRY(pipeline_load_backend(p, err), err);
    SWD_TRY(load_part(p, PART_TRANSFORMER, "transformer", "diffusion_pytorch_model", err), err);
    return p->streaming ? make_room(p, PART_TRANSFORMER, err) : SWD_OK;
}

static swd_status load_tiny(pipeline *p, swd_err *err)
{
    char *path = NULL;
    SWD_TRY(path_join(&path, p->vae_tiny_dir, "config.json", err), err);
    swd_status s = config_tiny_vae_read(&p->tiny_config, path, err);
    if (s == SWD_OK && p->tiny_config.latent_channels != p->vae_config.latent_channels)
        s = SWD_FAIL(err, SWD_ERR_FILE, "%s: latent_channels is %d, the model's autoencoder has %d",
                     path, p->tiny_config.latent_channels, p->vae_config.latent_channels);
    if (s == SWD_OK && p->tiny_config.n_decoder_blocks != p->vae_config.n_blocks)
        s = SWD_FAIL(err, SWD_ERR_FILE, "%s: %d decoder blocks, the model's autoencoder has %d",
                     path, p->tiny_config.n_decoder_blocks, p->vae_config.n_blocks);
    if (s == SWD_OK)
        s = load_from(p, PART_TINY, p->vae_tiny_dir, "vae_tiny", "diffusion_pytorch_model", err);
    free(path);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

swd_status pipeline_load_decoder(pipeline *p, swd_err *err)
{
    if (p->decoder || p->tiny) return SWD_OK;
    SWD_TRY(pipeline_load_backend(p, err), err);
    SWD_TRY(pipeline_read_vae_config(p, err), err);
    if (p->vae_tiny_dir) return load_tiny(p, err);
    return load_part(p, PART_DECODER, "vae", "diffusion_pytorch_model", err);
}

swd_status pipeline_load_encoder(pipeline *p, swd_err *err)
{
    if (p->encoder) return SWD_OK;
    SWD_TRY(pipeline_load_backend(p, err), err);
    SWD_TRY(pipeline_read_vae_config(p, err), err);
    return load_part(p, PART_ENCODER, "vae", "diffusion_pytorch_model", err);
}
