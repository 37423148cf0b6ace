/* SPDX-License-Identifier: MIT */
/* A model folder put together: tokenizers, text encoders, transformer, autoencoder, schedules. Opening looks at the small files;
 * each network is loaded by the first call that needs it and stays. One thread at a time. */
#ifndef SWD_PIPELINE_ASSEMBLE_H
#define SWD_PIPELINE_ASSEMBLE_H
#include "backend/devices.h"
#include "backend/ops.h"
#include "io/config.h"
#include "model/clip_text.h"
#include "model/denoiser.h"
#include "model/t5.h"
#include "model/tiny_vae.h"
#include "model/vae.h"
#include "pipeline/family.h"
#include "pipeline/embeds.h"
#include "pipeline/graphs.h"
#include "sample/wave.h"
#include "text/clip_bpe.h"
#include "text/t5_unigram.h"
#include "weights/lora.h"
#include <swd/swd.h>

typedef struct pipeline_adapter {
    char *path;
    float scale;
    config_swd *swd; /* NULL: it has none */
} pipeline_adapter;

/* The networks. */
typedef enum pipeline_part {
    PART_CLIP_L,
    PART_CLIP_G,
    PART_T5,
    PART_TRANSFORMER,
    PART_DECODER,
    PART_ENCODER,
    PART_TINY,
    PIPELINE_PARTS
} pipeline_part;

enum { PIPELINE_STREAMS = 3, PIPELINE_BATCHES_MAX = WAVE_STEPS_MAX + 1 };

/* Of a batch under way (pipeline/request.h); those of steps as far as they were needed. */
typedef struct batch_events {
    swd_event *began, *encoded, *denoising, *denoised, *decoding, *decoded, *stepped[SWD_STEPS_MAX];
} batch_events;

typedef struct pipeline {
    const struct model_shape
        *random; /* not NULL: random weights of this shape, no folder (pipeline/random.h) */
    char *dir, *device, *vae_tiny_dir, *embeds_dir; /* the last two NULL: none */
    int threads;
    swd_precision precision;
    unsigned text_encoders; /* SWD_CLIP_L | ... */
    pipeline_adapter adapters[SWD_LORAS_MAX];
    int n_adapters;

    bool has_index;
    config_model_index index;
    const family *family; /* by the index; without one, by the tokenizers */
    config_swd *swd;      /* of the model; NULL: it has none */

    swd_backend *backend;              /* NULL until needed; so are the others */
    char device_note[DEVICE_NOTE_MAX]; /* why it is not the one that auto looked for; "" */
    swd_dtype compute;
    clip_bpe *bpe[2];
    t5_unigram *unigram;
    bool tokenizers_loaded, text_loaded;
    config_clip_text clip_config[2];
    config_t5 t5_config;
    bool transformer_read;
    config_denoiser transformer_config;
    denoiser_facts facts;              /* of the transformer */
    config_scheduler scheduler_config; /* where the family samples by it */
    config_vae vae_config;
    config_tiny_vae tiny_config;
    clip_text *clip[2];
    t5 *t5;
    denoiser *transformer;
    vae *decoder, *encoder;
    tiny_vae *tiny;

    struct pipeline_weights {
        const char *folder; /* NULL: not loaded */
        size_t bytes;       /* in the backend's memory */
        swd_slab *slab;
    } weights[PIPELINE_PARTS];
    void *slab; /* activations; grows, never shrinks */
    size_t slab_bytes;
    uint8_t *host; /* pictures on their way from the device; so does this */
    size_t host_bytes;
    swd_stream *streams[PIPELINE_STREAMS]; /* of the stages; they stay, as do ... */
    batch_events *events
        [PIPELINE_BATCHES_MAX]; /* ... the events of the batches under way, which graphs record */
    embeds_cache *embeds;       /* of prompts that were encoded */
    graph_cache graphs;         /* of denoising steps */
    bool no_graphs, no_embeds;
    swd_offload offload;
    bool offloading; /* networks take turns in the device's memory */
    char offload_note[256];
    bool planning;              /* nothing is loaded in earnest (backend/slab.h) */
    bool streaming;             /* the layers of the transformer's modulations come one by one */
    struct weights *t5_weights; /* of a T5 whose layers come one by one */
    struct weights *transformer_weights;           /* of such a transformer, ... */
    struct lora *transformer_loras[SWD_LORAS_MAX]; /* ... with what is merged into them */
    char *tune;                                    /* NULL: not given */
    swd_log log;                                   /* the backend's, where log_line hears it */
    swd_log_fn log_line;
    void *log_user;

    swd_group *group; /* processes that share its work; NULL: none */

    swd_progress_fn progress;
    void *progress_user;
    bool want_x0;
} pipeline;

swd_status pipeline_open(pipeline *p, const swd_open_params *params,
                         swd_err *err); /* p zeroed but for random; close it on failure too */
void pipeline_close(pipeline *p);

swd_status pipeline_load_backend(pipeline *p, swd_err *err);
/* What every call begins with: the backend, if it is there, in the calling thread. */
swd_status pipeline_bind(pipeline *p, swd_err *err);
/* Those whose folder is there; the others stay NULL. */
swd_status pipeline_load_tokenizers(pipeline *p, swd_err *err);
/* The cache of embeddings. */
swd_status pipeline_load_embeds(pipeline *p, swd_err *err);
/* The configurations of transformer and autoencoder alone. */
swd_status pipeline_read_configs(pipeline *p, swd_err *err);
swd_status pipeline_read_vae_config(pipeline *p, swd_err *err);
/* SWD_ERR_UNSUPPORTED, by name, if the folder holds another kind of model. */
swd_status pipeline_check_family(const pipeline *p, swd_err *err);

/* dir/folder/file, freed by the caller; file may be "". */
swd_status pipeline_part_path(char **out, const pipeline *p, const char *folder, const char *file,
                              swd_err *err);

int pipeline_vae_factor(const pipeline *p); /* pixels per latent */
/* An exec over the slab, or one that measures. */
swd_exec pipeline_exec(const pipeline *p, bool dry, swd_err *err);
/* The slab of activations goes, and what was recorded in it. */
void pipeline_drop_slab(pipeline *p);
/* Room for bytes of activations. */
swd_status pipeline_reserve(pipeline *p, size_t bytes, swd_err *err);
/* Streams, and events for so many batches of so many steps. */
swd_status pipeline_make_lanes(pipeline *p, int n_batches, int n_steps, swd_err *err);
/* Room for bytes of pictures, where downloads reach them. */
swd_status pipeline_reserve_host(pipeline *p, size_t bytes, swd_err *err);
#endif
