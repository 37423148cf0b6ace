// SPDX-License-Identifier: MIT
#include "pipeline/assemble.h"
#include "backend/async.h"
#include "base/memory.h"
#include "pipeline/bundled.h"
#include "pipeline/random.h"
#include "pipeline/swd_json.h"
#include "weights/weights.h"
#include <stdio.h>
#include <string.h>

static const unsigned encoder_bit[FAMILY_ENCODERS] = {SWD_CLIP_L, SWD_CLIP_G, SWD_T5};

/* ---- opening ---- */

static swd_status open_adapters(pipeline *p, const swd_open_params *params, swd_err *err)
{
    if (params->n_loras < 0 || params->n_loras > SWD_LORAS_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d adapters are given; at most %d can be merged",
                        params->n_loras, SWD_LORAS_MAX);
    for (int i = 0; i < params->n_loras; i++) {
        const swd_lora *l = &params->loras[i];
        if (!l->path || !path_exists(l->path))
            return SWD_FAIL(err, SWD_ERR_FILE, "adapter %s: no such file or folder",
                            l->path ? l->path : "(null)");
        pipeline_adapter *a = &p->adapters[p->n_adapters++];
        a->scale = l->scale;
        SWD_TRY(swd_strdup(&a->path, l->path, err), err);
        char *dir = NULL;
        SWD_TRY(swd_strdup(&dir, l->path, err), err);
        if (!path_is_dir(dir)) {
            char *slash = strrchr(dir, '/');
            if (slash)
                *slash = '\0';
            else
                strcpy(dir, dir[1] ? "." : ""); /* a file of this folder */
        }
        swd_status s = swd_json_read(&a->swd, dir, p->swd, err);
        free(dir);
        SWD_TRY(s, err);
    }
    return SWD_OK;
}

swd_status pipeline_open(pipeline *p, const swd_open_params *params, swd_err *err)
{
    p->threads = params->threads;
    p->precision = params->precision;
    p->text_encoders = params->text_encoders;
    p->no_graphs = params->no_graphs != 0;
    p->no_embeds = params->no_embeds != 0;
    if (params->threads < 0 || params->threads > 1024)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d threads; give 1 to 1024, or 0 for all",
                        params->threads);
    if (params->text_encoders & ~(unsigned)SWD_TEXT_ALL)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "text_encoders has unknown bits; use SWD_CLIP_L, SWD_CLIP_G, SWD_T5");
    SWD_TRY(swd_strdup(&p->device, params->device ? params->device : "auto", err), err);
    if (params->vae_tiny) SWD_TRY(swd_strdup(&p->vae_tiny_dir, params->vae_tiny, err), err);
    if (params->embeds_cache) SWD_TRY(swd_strdup(&p->embeds_dir, params->embeds_cache, err), err);
    if (p->random) {
        p->n_adapters = params->n_loras;
        return random_open(p, err);
    }
    if (params->model)
        SWD_TRY(swd_strdup(&p->dir, params->model, err), err);
    else
        SWD_TRY(bundled_model(&p->dir, err), err);
    if (!path_is_dir(p->dir))
        return SWD_FAIL(err, SWD_ERR_FILE, "model %s: no such folder", p->dir);
    char *path = NULL;
    SWD_TRY(path_join(&path, p->dir, "model_index.json", err), err);
    p->has_index = path_exists(path);
    swd_status s = p->has_index ? config_model_index_read(&p->index, path, err) : SWD_OK;
    free(path);
    SWD_TRY(s, err);
    p->family = p->has_index ? family_find(p->index.class_name) : NULL;
    if (!p->family) p->family = family_guess(p->dir);
    SWD_TRY(swd_json_read(&p->swd, p->dir, NULL, err), err);
    return open_adapters(p, params, err);
}

void pipeline_close(pipeline *p)
{
    (void)pipeline_bind(p, NULL);
    for (int i = 0; i < 2; i++) {
        clip_text_destroy(&p->clip[i]);
        clip_bpe_close(&p->bpe[i]);
    }
    t5_destroy(&p->t5);
    t5_unigram_close(&p->unigram);
    denoiser_destroy(&p->transformer);
    vae_destroy(&p->decoder);
    vae_destroy(&p->encoder);
    tiny_vae_destroy(&p->tiny);
    embeds_destroy(&p->embeds);
    graph_cache_clear(&p->graphs, p->backend);
    if (p->slab) p->backend->release(p->backend, p->slab);
    if (p->backend) host_release(p->backend, p->host);
    backend_destroy(&p->backend);
    for (int i = 0; i < p->n_adapters; i++) {
        free(p->adapters[i].path);
        free(p->adapters[i].swd);
    }
    free(p->swd);
    free(p->dir);
    free(p->device);
    free(p->vae_tiny_dir);
    free(p->embeds_dir);
    *p = (pipeline){0};
}

swd_status pipeline_check_family(const pipeline *p, swd_err *err)
{
    char known[256];
    if (!p->has_index)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "model %s: no model_index.json; give a folder in diffusers' layout",
                        p->dir);
    if (!family_find(p->index.class_name))
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "model %s is a %s; this build runs %s", p->dir,
                        p->index.class_name, family_list(known, sizeof known));
    return SWD_OK;
}

/* ---- loading ---- */

swd_status pipeline_load_backend(pipeline *p, swd_err *err)
{
    if (p->backend) return SWD_OK;
    SWD_TRY(device_open(&p->backend, p->device_note, p->device, p->threads, err), err);
    bool bf16 = p->precision == SWD_PRECISION_BF16
                    ? p->backend->has_bf16
                    : p->precision == SWD_PRECISION_AUTO && p->backend->native_bf16;
    p->compute = bf16 ? SWD_BF16 : SWD_F32;
    return SWD_OK;
}

swd_status pipeline_bind(pipeline *p, swd_err *err)
{
    return p->backend ? p->backend->bind(p->backend, err) : SWD_OK;
}

/* dir/folder/file, freed by the caller. */
static swd_status part_path(char **out, const pipeline *p, const char *folder, const char *file,
                            swd_err *err)
{
    return swd_asprintf(out, err, "%s/%s%s%s", p->dir, folder, file[0] ? "/" : "", file);
}

swd_status pipeline_load_tokenizers(pipeline *p, swd_err *err)
{
    if (p->tokenizers_loaded || p->random) return SWD_OK;
    for (int i = 0; i < FAMILY_ENCODERS; i++) {
        const char *folder = p->family->encoder[i].tokenizer;
        char *path = NULL;
        if (!folder) continue;
        SWD_TRY(part_path(&path, p, folder, "", err), err);
        swd_status s = SWD_OK;
        if (path_is_dir(path)) {
            if (i == FAMILY_T5 && !p->unigram)
                s = t5_unigram_open(&p->unigram, path, err);
            else if (i != FAMILY_T5 && !p->bpe[i])
                s = clip_bpe_open(&p->bpe[i], path, err);
        }
        free(path);
        SWD_TRY(s, err);
    }
    if (!p->bpe[0] && !p->bpe[1] && !p->unigram)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "model %s: no folder tokenizer, tokenizer_2 or tokenizer_3", p->dir);
    p->tokenizers_loaded = true;
    return SWD_OK;
}

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

/* Bytes of all weights: a device counts everything, the host what is packed. */
static size_t held_bytes(const pipeline *p)
{
    swd_memory m;
    if (p->backend->memory && p->backend->memory(p->backend, &m, NULL) == SWD_OK) return m.held;
    return p->backend->weight_bytes(p->backend);
}

/* To a message about a full device: what there is, and what has been loaded. */
static swd_status tell_memory(const pipeline *p, const char *wanted, size_t bytes, swd_err *err)
{
    swd_memory m;
    char why[SWD_ERR_MESSAGE_MAX], table[512] = "";
    if (!err || !p->backend->memory || p->backend->memory(p->backend, &m, NULL) != SWD_OK)
        return SWD_ERR_MEMORY;
    for (int i = 0; i < p->n_weights; i++)
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

/* Opens the weights of a part and lets create() take them. */
typedef swd_status (*create_fn)(pipeline *p, weights *w, swd_err *err);
static swd_status load_from(pipeline *p, const char *path, const char *folder, const char *basename,
                            create_fn create, swd_err *err)
{
    weights *w = NULL;
    size_t before = held_bytes(p);
    bool made_up = p->random && strcmp(folder, "vae_tiny") != 0;
    swd_status s =
        made_up ? random_weights(&w, p, folder, err) : weights_open(&w, path, basename, err);
    if (s == SWD_OK) s = create(p, w, err);
    if (s == SWD_ERR_MEMORY && w) s = tell_memory(p, folder, weights_bytes(p, w), err);
    weights_close(&w);
    if (s == SWD_OK)
        p->weights[p->n_weights++] = (struct pipeline_weights){folder, held_bytes(p) - before};
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

static swd_status load_part(pipeline *p, const char *folder, const char *basename, create_fn create,
                            swd_err *err)
{
    char *path = NULL;
    SWD_TRY(part_path(&path, p, folder, "", err), err);
    swd_status s = load_from(p, path, folder, basename, create, err);
    free(path);
    return s;
}

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
    return t5_create(&p->t5, &p->t5_config, w, p->backend, p->compute, err);
}

/* The config of a CLIP tower is read even if the tower is left out: its widths place the zeros. */
static swd_status load_clip(pipeline *p, int i, swd_err *err)
{
    bool wanted = p->text_encoders & encoder_bit[i];
    const char *folder = p->family->encoder[i].folder;
    if (!has_encoder(p, i)) return SWD_OK;
    char *path = NULL;
    SWD_TRY(part_path(&path, p, folder, "config.json", err), err);
    swd_status s = !p->random && (wanted || path_exists(path))
                       ? config_clip_text_read(&p->clip_config[i], path, err)
                       : SWD_OK;
    free(path);
    SWD_TRY(s, err);
    if (!wanted || p->clip[i]) return SWD_OK;
    if (!p->bpe[i] && !p->random) return no_tokenizer(p, i, err);
    if (p->family->clip_projected && !p->clip_config[i].with_projection)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s/%s is a CLIPTextModel; %s needs a CLIPTextModelWithProjection", p->dir,
                        folder, p->family->models);
    return load_part(p, folder, "model", i ? create_clip_g : create_clip_l, err);
}

static swd_status load_t5(pipeline *p, swd_err *err)
{
    const char *folder = p->family->encoder[FAMILY_T5].folder;
    if (!(p->text_encoders & SWD_T5) || !has_encoder(p, FAMILY_T5) || p->t5) return SWD_OK;
    char *path = NULL;
    SWD_TRY(part_path(&path, p, folder, "config.json", err), err);
    swd_status s = p->random ? SWD_OK : config_t5_read(&p->t5_config, path, err);
    free(path);
    SWD_TRY(s, err);
    if (!p->unigram && !p->random) return no_tokenizer(p, FAMILY_T5, err);
    return load_part(p, folder, "model", create_t5, err);
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

// Where embeddings go to files, what these depend on has to be told from file to file.
swd_status pipeline_load_embeds(pipeline *p, swd_err *err)
{
    char *identity = NULL, digests[2 * FAMILY_ENCODERS * 17 + 1] = "";
    if (p->embeds) return SWD_OK;
    SWD_TRY(pipeline_load_backend(p, err), err);
    for (int i = 0; i < 2 * FAMILY_ENCODERS && p->embeds_dir; i++) {
        const family_encoder *e = &p->family->encoder[i / 2];
        char *path = NULL;
        uint64_t digest = 0;
        if (!e->folder) continue;
        SWD_TRY(part_path(&path, p, i % 2 ? e->tokenizer : e->folder, "", err), err);
        swd_status s = embeds_digest_folder(&digest, path, err);
        free(path);
        SWD_TRY(s, err);
        size_t used = strlen(digests);
        snprintf(digests + used, sizeof digests - used, " %016llx", (unsigned long long)digest);
    }
    SWD_TRY(swd_asprintf(&identity, err, "swd %s on %s, %s; %s, encoders %u%s", SWD_VERSION,
                         p->backend->device, p->compute == SWD_BF16 ? "bf16" : "f32",
                         p->index.class_name, p->text_encoders, digests),
            err);
    swd_status s = embeds_create(&p->embeds, identity, p->embeds_dir, err);
    free(identity);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

static swd_status create_transformer(pipeline *p, weights *w, swd_err *err)
{
    lora *files[SWD_LORAS_MAX] = {0};
    swd_status s = SWD_OK;
    for (int i = 0; i < p->n_adapters && s == SWD_OK; i++) {
        s = lora_open(&files[i], p->adapters[i].path, err);
        if (s == SWD_OK) s = weights_add_lora(w, files[i], p->adapters[i].scale, err);
    }
    if (s == SWD_OK)
        s = denoiser_create(&p->transformer, &p->transformer_config, w, p->backend, p->compute,
                            err);
    if (s == SWD_OK) s = weights_check_unused(w, NULL, err);
    for (int i = 0; i < p->n_adapters; i++) lora_close(&files[i]);
    return s;
}

swd_status pipeline_read_vae_config(pipeline *p, swd_err *err)
{
    if (p->vae_config.n_blocks) return SWD_OK;
    char *path = NULL;
    SWD_TRY(part_path(&path, p, "vae", "config.json", err), err);
    swd_status s = config_vae_read(&p->vae_config, path, err);
    free(path);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

static swd_status read_scheduler_config(pipeline *p, swd_err *err)
{
    char *path = NULL;
    SWD_TRY(part_path(&path, p, "scheduler", "scheduler_config.json", err), err);
    swd_status s = config_scheduler_read(&p->scheduler_config, path, err);
    free(path);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

swd_status pipeline_read_configs(pipeline *p, swd_err *err)
{
    SWD_TRY(pipeline_check_family(p, err), err);
    SWD_TRY(pipeline_read_vae_config(p, err), err);
    if (p->transformer_read) return SWD_OK;
    char *path = NULL;
    SWD_TRY(part_path(&path, p, "transformer", "config.json", err), err);
    swd_status s = denoiser_config_read(&p->transformer_config, p->family->denoiser, path, err);
    free(path);
    SWD_TRY(s, err);
    p->facts = denoiser_facts_of(&p->transformer_config);
    if (p->facts.channels != p->vae_config.latent_channels)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "model %s: the transformer has %d channels, the autoencoder %d", p->dir,
                        p->facts.channels, p->vae_config.latent_channels);
    if (p->family->shift == 0) SWD_TRY(read_scheduler_config(p, err), err);
    p->transformer_read = true;
    return SWD_OK;
}

swd_status pipeline_load_transformer(pipeline *p, swd_err *err)
{
    if (p->transformer) return SWD_OK;
    SWD_TRY(pipeline_read_configs(p, err), err);
    SWD_TRY(pipeline_load_backend(p, err), err);
    return load_part(p, "transformer", "diffusion_pytorch_model", create_transformer, err);
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
        s = load_from(p, p->vae_tiny_dir, "vae_tiny", "diffusion_pytorch_model", create_tiny, err);
    free(path);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

swd_status pipeline_load_decoder(pipeline *p, swd_err *err)
{
    if (p->decoder || p->tiny) return SWD_OK;
    SWD_TRY(pipeline_load_backend(p, err), err);
    SWD_TRY(pipeline_read_vae_config(p, err), err);
    if (p->vae_tiny_dir) return load_tiny(p, err);
    return load_part(p, "vae", "diffusion_pytorch_model", create_decoder, err);
}

swd_status pipeline_load_encoder(pipeline *p, swd_err *err)
{
    if (p->encoder) return SWD_OK;
    SWD_TRY(pipeline_load_backend(p, err), err);
    SWD_TRY(pipeline_read_vae_config(p, err), err);
    return load_part(p, "vae", "diffusion_pytorch_model", create_encoder, err);
}

/* ---- memory ---- */

int pipeline_vae_factor(const pipeline *p)
{
    return 1 << (p->vae_config.n_blocks - 1);
}

swd_exec pipeline_exec(const pipeline *p, bool dry, swd_err *err)
{
    return (swd_exec){.backend = p->backend,
                      .err = err,
                      .dry = dry,
                      .act = p->compute,
                      .slab = dry ? NULL : p->slab,
                      .slab_bytes = dry ? 0 : p->slab_bytes};
}

swd_status pipeline_reserve(pipeline *p, size_t bytes, swd_err *err)
{
    if (bytes <= p->slab_bytes) return SWD_OK;
    graph_cache_clear(&p->graphs, p->backend);
    if (p->slab) p->backend->release(p->backend, p->slab);
    p->slab_bytes = 0;
    p->slab = p->backend->alloc(p->backend, bytes);
    if (!p->slab) {
        SWD_FAIL(err, SWD_ERR_MEMORY,
                 "no memory for %.1f MB of activations; use a smaller size or batch",
                 (double)bytes / 1e6);
        return tell_memory(p, "activations", bytes, err);
    }
    p->slab_bytes = bytes;
    return SWD_OK;
}

swd_status pipeline_reserve_host(pipeline *p, size_t bytes, swd_err *err)
{
    if (bytes <= p->host_bytes) return SWD_OK;
    host_release(p->backend, p->host);
    p->host_bytes = 0;
    p->host = host_alloc(p->backend, bytes);
    if (!p->host)
        return SWD_FAIL(err, SWD_ERR_MEMORY,
                        "no memory for %.1f MB of pictures; use a smaller batch",
                        (double)bytes / 1e6);
    p->host_bytes = bytes;
    return SWD_OK;
}
