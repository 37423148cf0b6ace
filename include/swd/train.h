/* SPDX-License-Identifier: MIT */
/* Training: from pictures with captions to an adapter that swd_generate, diffusers and peft load.
 *
 *     swd_train_params p;
 *     swd_context *swd = NULL;
 *     swd_train_params_default(&p);
 *     swd_status s = swd_train_open(&swd);
 *     if (s == SWD_OK) s = swd_train_read(&p, "train.json", swd);               // a file of keys ...
 *     if (s == SWD_OK) s = swd_train_set(&p, "learning_rate", "1e-5", swd);     // ... or one of them
 *     if (s == SWD_OK) s = swd_train(NULL, &p, swd);
 *     if (s != SWD_OK) fprintf(stderr, "%s\n", swd_message(swd));
 *     swd_close(&swd);
 *
 * Every field is a key of its name, in files and for swd_train_set; swd_train_key_at() lists them with type, default and meaning. */
#ifndef SWD_TRAIN_H
#define SWD_TRAIN_H
#include <swd/swd.h>
#ifdef __cplusplus
extern "C" {
#endif

enum {
    SWD_TRAIN_PATH_MAX = 1024,
    SWD_TRAIN_DATA_MAX = 16,
    SWD_TRAIN_SCALES_MAX = 32,
    SWD_TRAIN_BATCH_MAX = 4096
};

typedef enum swd_train_mode {
    SWD_TRAIN_MMD,          /* the patch loss alone */
    SWD_TRAIN_FULL,         /* and DMD and GAN, through a fake model */
    SWD_TRAIN_FLOW_MATCHING /* fine-tunes (or trains) a teacher on pictures */
} swd_train_mode;
typedef enum swd_train_kernel { SWD_TRAIN_HUBER, SWD_TRAIN_LINEAR, SWD_TRAIN_RBF } swd_train_kernel;
typedef enum swd_train_features { SWD_TRAIN_OF_TEACHER, SWD_TRAIN_OF_FAKE } swd_train_features;
typedef enum swd_train_weights { SWD_TRAIN_LORA, SWD_TRAIN_WHOLE } swd_train_weights;
typedef enum swd_train_rate { SWD_TRAIN_CONSTANT, SWD_TRAIN_COSINE } swd_train_rate;
typedef enum swd_train_dtype { SWD_TRAIN_F16, SWD_TRAIN_F32 } swd_train_dtype;

typedef struct swd_train_progress {
    size_t size;
    const char *
        stage; /* "captions", "pictures" (both go into the cache), "train", "samples", "checkpoint" */
    int64_t step, n_steps; /* of the stage; in "train" step is done */
    int scale;             /* "train": latent side of the step */
    double loss;           /* the generator's; NaN before the first step */
    double rate;           /* learning rate */
    double left_s;         /* seconds that the stage will take; negative: not known */
} swd_train_progress;

/* In the thread of the call, after every step, picture and caption. Return 0 to go on; anything else saves a checkpoint and stops with
 * SWD_ERR_CANCELLED. */
typedef int (*swd_train_progress_fn)(void *user, const swd_train_progress *progress);

typedef struct swd_train_params {
    size_t size;
    swd_train_progress_fn progress; /* NULL: none. This and the next two are no keys. */
    void (*message)(
        void *user,
        const char
            *text); /* what is worth saying on the way, a line each; NULL: nobody wants to know */
    void *user;
    swd_group *
        group; /* processes that train together (swd/parallel.h); borrowed. NULL: this one alone. No key, either */

    char model[SWD_TRAIN_PATH_MAX];
    char data[SWD_TRAIN_DATA_MAX][SWD_TRAIN_PATH_MAX];
    int n_data;
    char output[SWD_TRAIN_PATH_MAX];
    swd_train_mode mode;
    char preset[96];
    int scales[SWD_TRAIN_SCALES_MAX], n_scales;
    double sigmas[SWD_TRAIN_SCALES_MAX + 1];
    int n_sigmas;
    int max_tokens;

    int64_t steps;
    int batch, micro_batch;
    int64_t seed;
    double caption_dropout;

    swd_train_weights weights;
    int lora_rank;
    double lora_alpha;
    char init_lora[SWD_TRAIN_PATH_MAX];

    double learning_rate, fake_learning_rate;
    swd_train_rate rate_schedule;
    int64_t warmup_steps;
    double weight_decay, beta1, beta2, epsilon, clip_norm, ema;

    swd_train_kernel mmd_kernel;
    swd_train_features mmd_features;
    int feature_block;
    double mmd_weight, dmd_weight, gan_weight, discriminator_weight;
    int fake_updates;
    double guidance;
    int mmd_noise_from, dmd_noise_from;
    double flow_mean, flow_deviation;

    char cache[SWD_TRAIN_PATH_MAX];
    swd_train_dtype cache_dtype;
    int gradient_checkpointing;
    char device[32];
    swd_precision precision;
    int threads;

    int64_t log_every, checkpoint_every, sample_every;
    int keep;
    char sample_prompts[SWD_TRAIN_PATH_MAX];
    int resume;
    double minutes;
} swd_train_params;

typedef struct swd_train_key {
    const char *name;
    const char *section;       /* a heading over it and those that follow with the same one */
    const char *type;          /* "whole number", "lora or whole", ... */
    const char *default_value; /* as swd_train_set takes it */
    const char *about;
} swd_train_key;

SWD_API void swd_train_params_default(swd_train_params *params);
/* Key i, from 0; NULL beyond the last. Constant. */
SWD_API const swd_train_key *swd_train_key_at(int i);
/* A JSON object of keys over what params holds. A key that is not known or a value that it cannot have: SWD_ERR_FILE with its name, and
 * params is as before. ctx keeps the message; NULL: the status alone. */
SWD_API swd_status swd_train_read(swd_train_params *params, const char *file, swd_context *ctx);
/* One key, its value as text: lists with commas, switches as true or false. SWD_ERR_ARGUMENT. */
SWD_API swd_status swd_train_set(swd_train_params *params, const char *key, const char *value,
                                 swd_context *ctx);

typedef struct swd_train_result {
    size_t size;
    int64_t step;                        /* how many are done, those of earlier calls counted */
    double loss;                         /* of the last one */
    char adapter[SWD_TRAIN_PATH_MAX];    /* folder; "" where none was written */
    char checkpoint[SWD_TRAIN_PATH_MAX]; /* the newest */
} swd_train_result;

/* A context without a model, for swd_train: the model is named by the params. Like swd_open; swd_close it. */
SWD_API swd_status swd_train_open(swd_context **out);
/* Runs until params->steps steps are done, params->minutes are over, or the callback says so; out may be NULL. */
SWD_API swd_status swd_train(swd_train_result *out, const swd_train_params *params,
                             swd_context *ctx);

#ifdef __cplusplus
}
#endif
#endif
