// SPDX-License-Identifier: MIT
#include "pipeline/assemble.h"
#include "backend/async.h"
#include "base/memory.h"
#include "io/digest.h"
#include "parallel/group.h"
#include "pipeline/bundled.h"
#include "pipeline/networks.h"
#include "pipeline/random.h"
#include "pipeline/swd_json.h"
#include <stdio.h>
#include <string.h>

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

static void hand_on(void *of, swd_log_level level, const char *text)
{
    const pipeline *p = of;
    (void)level;
    p->log_line(p->log_user, text);
}

swd_status pipeline_open(pipeline *p, const swd_open_params *params, swd_err *err)
{
    p->threads = params->threads;
    p->precision = params->precision;
    p->text_encoders = params->text_encoders;
    p->no_graphs = params->no_graphs != 0;
    p->no_embeds = params->no_embeds != 0;
    p->offload = params->offload;
    p->offloading = params->offload == SWD_OFFLOAD_ON;
    if (params->offload < SWD_OFFLOAD_AUTO || params->offload > SWD_OFFLOAD_ON)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "offload %d is not known", (int)params->offload);
    p->log_line = params->log;
    p->log_user = params->log_user;
    p->group = params->group;
    p->log = (swd_log){SWD_LOG_INFO, hand_on, p};
    if (params->tune) SWD_TRY(swd_strdup(&p->tune, params->tune, err), err);
    if (params->threads < 0 || params->threads > 1024)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d threads; give 1 to 1024, or 0 for all",
                        params->threads);
    if (params->text_encoders & ~(unsigned)SWD_TEXT_ALL)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "text_encoders has unknown bits; use SWD_CLIP_L, SWD_CLIP_G, SWD_T5");
    SWD_TRY(swd_strdup(&p->device, params->device ? params->device : "auto", err), err);
    if (params->vae_tiny) SWD_TRY(swd_strdup(&p->vae_tiny_dir, params->vae_tiny, err), err);
    if (params->embeds_cache) SWD_TRY(swd_strdup(&p->embeds_dir, params->embeds_cache, err), err);
    if (p->random) return random_open(p, params->n_loras, err);
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

static swd_status make_event(swd_event **e, pipeline *p, swd_err *err)
{
    return *e ? SWD_OK : event_create(e, p->backend, err);
}

swd_status pipeline_make_lanes(pipeline *p, int n_batches, int n_steps, swd_err *err)
{
    for (int i = 0; i < PIPELINE_STREAMS; i++)
        if (!p->streams[i]) SWD_TRY(stream_create(&p->streams[i], p->backend, err), err);
    for (int i = 0; i < n_batches; i++) {
        if (!p->events[i])
            SWD_TRY(swd_calloc(&p->events[i], 1, sizeof(*p->events[i]), "events", err), err);
        batch_events *e = p->events[i];
        swd_event **all[] = {&e->began,    &e->encoded,  &e->denoising,
                             &e->denoised, &e->decoding, &e->decoded};
        for (size_t j = 0; j < sizeof(all) / sizeof(*all); j++)
            SWD_TRY(make_event(all[j], p, err), err);
        for (int k = 0; k < n_steps; k++) SWD_TRY(make_event(&e->stepped[k], p, err), err);
    }
    return SWD_OK;
}

static void destroy_lanes(pipeline *p)
{
    for (int i = 0; i < PIPELINE_STREAMS; i++) stream_destroy(&p->streams[i], p->backend);
    for (int i = 0; i < PIPELINE_BATCHES_MAX; i++) {
        batch_events *e = p->events[i];
        if (!e) continue;
        swd_event **all[] = {&e->began,    &e->encoded,  &e->denoising,
                             &e->denoised, &e->decoding, &e->decoded};
        for (size_t j = 0; j < sizeof(all) / sizeof(*all); j++) event_destroy(all[j], p->backend);
        for (int k = 0; k < SWD_STEPS_MAX; k++) event_destroy(&e->stepped[k], p->backend);
        free(e);
    }
}

void pipeline_close(pipeline *p)
{
    (void)pipeline_bind(p, NULL);
    for (int i = 0; i < PIPELINE_PARTS; i++) pipeline_release(p, (pipeline_part)i);
    for (int i = 0; i < 2; i++) clip_bpe_close(&p->bpe[i]);
    t5_unigram_close(&p->unigram);
    embeds_destroy(&p->embeds);
    pipeline_drop_slab(p);
    destroy_lanes(p);
    if (p->backend) host_release(p->backend, p->host);
    group_leave(p->group, p->backend);
    backend_destroy(&p->backend);
    for (int i = 0; i < p->n_adapters; i++) {
        free(p->adapters[i].path);
        free(p->adapters[i].swd);
    }
    free(p->swd);
    free(p->dir);
    free(p->tune);
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
    int threads = p->threads ? p->threads : group_threads(p->group);
    SWD_TRY(device_open_for(&p->backend, p->device_note, p->device, threads,
                            group_local_rank(p->group), err),
            err);
    swd_status s = SWD_OK;
    if (p->log_line) p->backend->log = &p->log;
    if (p->tune && p->backend->set_tune) s = p->backend->set_tune(p->backend, p->tune, err);
    if (s != SWD_OK) backend_destroy(&p->backend);
    SWD_TRY(s, err);
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

swd_status pipeline_part_path(char **out, const pipeline *p, const char *folder, const char *file,
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
        SWD_TRY(pipeline_part_path(&path, p, folder, "", err), err);
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

// Where embeddings go to files, what these depend on has to be told from file to file.
swd_status pipeline_load_embeds(pipeline *p, swd_err *err)
{
    char *identity = NULL, digests[2 * FAMILY_ENCODERS * 17 + 1] = "";
    if (p->embeds) return SWD_OK;
    SWD_TRY(pipeline_load_backend(p, err), err);
    for (int i = 0; i < 2 * FAMILY_ENCODERS && p->embeds_dir; i++) {
        const family_encoder *e = &p->family->encoder[i / 2];
        char *path = NULL;
        uint64_t digest = DIGEST_SEED;
        if (!e->folder) continue;
        SWD_TRY(pipeline_part_path(&path, p, i % 2 ? e->tokenizer : e->folder, "", err), err);
        swd_status s = digest_folder(&digest, path, err);
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

swd_status pipeline_read_vae_config(pipeline *p, swd_err *err)
{
    if (p->vae_config.n_blocks) return SWD_OK;
    char *path = NULL;
    SWD_TRY(pipeline_part_path(&path, p, "vae", "config.json", err), err);
    swd_status s = config_vae_read(&p->vae_config, path, err);
    free(path);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

static swd_status read_scheduler_config(pipeline *p, swd_err *err)
{
    char *path = NULL;
    SWD_TRY(pipeline_part_path(&path, p, "scheduler", "scheduler_config.json", err), err);
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
    SWD_TRY(pipeline_part_path(&path, p, "transformer", "config.json", err), err);
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

void pipeline_drop_slab(pipeline *p)
{
    graph_cache_clear(&p->graphs, p->backend);
    if (p->slab) p->backend->release(p->backend, p->slab);
    p->slab = NULL;
    p->slab_bytes = 0;
}

swd_status pipeline_reserve(pipeline *p, size_t bytes, swd_err *err)
{
    if (bytes <= p->slab_bytes) return SWD_OK;
    pipeline_drop_slab(p);
    p->slab = p->backend->alloc(p->backend, bytes);
    if (!p->slab) {
        SWD_FAIL(err, SWD_ERR_MEMORY,
                 "no memory for %.1f MB of activations; use a smaller size or batch",
                 (double)bytes / 1e6);
        return pipeline_tell_memory(p, "activations", bytes, err);
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
