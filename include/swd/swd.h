/* SPDX-License-Identifier: MIT */
/* swd: text to image by scale-wise diffusion. A complete program (cc example.c $(pkg-config --cflags --libs swd)):
 *
 *     #include <stdio.h>
 *     #include <swd/swd.h>
 *
 *     int main(void)
 *     {
 *         const char *prompt = "a red apple, 3d emoji";
 *         swd_context *swd = NULL;
 *         swd_generate_params params;
 *         swd_generate_params_default(&params);
 *         params.prompts = &prompt;
 *         params.output = "apple.jpg";
 *         swd_status s = swd_open(&swd, NULL); // the bundled model; name another folder in swd_open_params
 *         if (s == SWD_OK) s = swd_generate(NULL, &params, swd);
 *         if (s != SWD_OK) fprintf(stderr, "%s\n", swd_message(swd));
 *         swd_close(&swd);
 *         return s;
 *     }
 *
 * Every call gives a swd_status; the message of the last failure is in the context. One context serves one thread at a time;
 * contexts share nothing, so each thread may have its own. Strings are UTF-8, paths are the system's. A params struct is filled by
 * its _default function, then changed: size (set there) lets a newer library read an older program's struct. */
#ifndef SWD_SWD_H
#define SWD_SWD_H
#include <stddef.h>
#include <stdint.h>
#include <swd/status.h>

#if defined(_WIN32)
#define SWD_API
#else
#define SWD_API __attribute__((visibility("default")))
#endif
#ifdef __cplusplus
extern "C" {
#endif

#define SWD_VERSION_MAJOR 0
#define SWD_VERSION_MINOR 1
#define SWD_VERSION_PATCH 0
#define SWD_VERSION "0.1.0"

/* Limits of one call; beyond them a call is SWD_ERR_ARGUMENT. */
enum {
    SWD_IMAGES_MAX = 100000, /* prompts times count */
    SWD_PROMPT_BYTES_MAX = 1 << 19,
    SWD_SIDE_MAX = 8192, /* pixels */
    SWD_STEPS_MAX = 256,
    SWD_TOKENS_MAX = 4096,
    SWD_LORAS_MAX = 16
};

typedef struct swd_context swd_context;
typedef struct swd_group swd_group; /* swd/parallel.h */

SWD_API const char *swd_version(void);             /* of the library that runs */
SWD_API const char *swd_status_name(swd_status s); /* "file error"; static */
/* "what and where; what to do" of the last failure, "" before one; valid until the next call. NULL context: out of memory. */
SWD_API const char *swd_message(const swd_context *ctx);
/* Where that failure came from, innermost first: frame i as "file:line function", NULL beyond the last; valid until the next call. */
SWD_API const char *swd_message_frame(swd_context *ctx, int i);

/* What was decided for the caller about the device and is worth saying: with "auto", why it is not a GPU; "" if nothing. The result of
 * swd_generate has it in its note. Valid until the context is closed. */
SWD_API const char *swd_note(const swd_context *ctx);

/* ---- a model ---- */

typedef enum swd_precision {
    SWD_PRECISION_AUTO,
    SWD_PRECISION_F32,
    SWD_PRECISION_BF16
} swd_precision;
/* Where the device's memory is short the networks take turns in it: the prompts of a call are encoded first, T5 layer by layer; then the text
 * encoders go and the transformer comes, and where it does not fit beside the decoder, that comes after it;
 * where it does not fit at all, its modulations (a third of its weights) come one by one. The same pictures, but each call with
 * prompts that are not known (embeds_cache) reads the files again. AUTO: on a GPU that does not hold everything; never on the CPU. */
typedef enum swd_offload { SWD_OFFLOAD_AUTO, SWD_OFFLOAD_OFF, SWD_OFFLOAD_ON } swd_offload;
enum { SWD_CLIP_L = 1, SWD_CLIP_G = 2, SWD_T5 = 4, SWD_TEXT_ALL = 7 };

typedef struct swd_lora {
    const char *path; /* a PEFT folder, or a .safetensors file */
    float scale;      /* 1: as trained */
} swd_lora;

/* One line for people, without a line end, valid during the call; in the thread that called the library. */
typedef void (*swd_log_fn)(void *user, const char *line);

typedef struct swd_open_params {
    size_t size;
    const char *model; /* a diffusers folder; NULL: the bundled model (swd_default_model) */
    const char *
        device; /* "cpu", "cuda" (the first GPU), "cuda:1"; "auto" (default): a GPU where there is one that can be used, else the CPU */
    int threads; /* 0 (default): all that the process may use */
    swd_precision
        precision; /* arithmetic of the networks; AUTO: the fastest that the device does natively */
    const swd_lora *loras; /* merged in this order */
    int n_loras;
    unsigned
        text_encoders; /* SWD_CLIP_L | ...; one left out is not loaded and gives zeros. Default: SWD_TEXT_ALL */
    const char
        *vae_tiny; /* folder of an AutoencoderTiny that decodes instead; NULL: the model's own */
    int no_graphs; /* 1: no CUDA graphs, every kernel is launched by itself: the same pictures; to look for a fault, or to profile */
    const char *
        embeds_cache; /* a folder, made if absent, where embeddings of prompts are kept: a prompt that is found there, made by the same
                                      encoders on the same device, is not encoded again. NULL: they are kept in memory alone */
    int no_embeds;    /* 1: none are kept, every prompt of a call is encoded; to measure that */
    swd_offload offload; /* AUTO (default) */
    const char *
        tune; /* on a GPU, whose work products are, NVIDIA's libraries' or our kernels': "measure" (the faster one for each shape, kept on
                 disk), "thorough" (with kernels that cuDNN compiles for seconds at every start, for long runs), "off" (what is kept there, nothing is measured), "ours", "vendor". NULL: SWD_TUNE of the environment, else "measure".
                 Another word is SWD_ERR_ARGUMENT of the call that needs the device */
    swd_log_fn log; /* hears what was found and decided on the way; NULL: nobody */
    void *log_user;
    swd_group *
        group; /* processes that share the work of swd_generate (swd/parallel.h); borrowed. NULL: this one alone */
} swd_open_params;

SWD_API void swd_open_params_default(swd_open_params *params);
/* Takes note of the params (strings are copied) and looks at the folder; networks are loaded by the first call that needs them.
 * params NULL: the defaults. On failure *out is still a context that holds the message (NULL if even that had no memory): close it. */
SWD_API swd_status swd_open(swd_context **out, const swd_open_params *params);
SWD_API void swd_close(swd_context **ctx); /* writes NULL; accepts it */
/* Loads what swd_generate needs, now, and on a GPU takes the memory for a picture of the default size: a request like that then allocates nothing
 * there. Where the networks take turns (offload) nothing is loaded. */
SWD_API swd_status swd_load(swd_context *ctx);
/* The folder of the bundled model into buf: beside the installed library, else in the source tree it was built from.
 * SWD_ERR_FILE if there is none, SWD_ERR_ARGUMENT if n is too small. Thread-safe. */
SWD_API swd_status swd_default_model(char *buf, size_t n);
/* In the same way the adapter that makes the bundled model a student of six scales: for loras. */
SWD_API swd_status swd_default_student(char *buf, size_t n);

/* ---- pictures ---- */

typedef struct swd_image {
    int width, height;
    const uint8_t *rgb; /* [height, width, 3]; NULL with drop_pixels */
    const char *file;   /* where it was written; NULL: nowhere */
    int prompt;         /* index of its prompt */
    uint64_t seed;
} swd_image;

/* ---- progress ---- */

typedef enum swd_stage {
    SWD_STAGE_LOAD,
    SWD_STAGE_TEXT,
    SWD_STAGE_DENOISE,
    SWD_STAGE_DECODE,
    SWD_STAGE_WRITE,
    SWD_STAGE_MEASURE /* of swd/eval.h: step is the file */
} swd_stage;

typedef struct swd_progress {
    size_t size;
    swd_stage stage;
    int step,
        n_steps; /* of the stage, step from 1: this one is about to run; in DENOISE with x0: it is done */
    int latent_width, latent_height; /* DENOISE: the scale */
    double sigma;                    /* DENOISE */
    int image,
        n_images; /* first image of the batch at work, of the call; with resume some are not made */
    const swd_image *
        x0; /* on request, after each step: the guess at the clean picture, one call per image; else NULL */
} swd_progress;

/* Called in the thread of the call. Return 0 to go on; anything else stops it with SWD_ERR_CANCELLED: no further file is written and
 * none is left half-written. */
typedef int (*swd_progress_fn)(void *user, const swd_progress *progress);
/* fn NULL: none. want_x0 nonzero: x0 is decoded after each step (costs a decode each). */
SWD_API void swd_set_progress(swd_context *ctx, swd_progress_fn fn, void *user, int want_x0);
SWD_API const char *swd_stage_name(swd_stage stage); /* "denoise"; static */

/* ---- generate ---- */

typedef enum swd_sampler { SWD_SAMPLER_AUTO, SWD_SAMPLER_SCALEWISE, SWD_SAMPLER_EULER } swd_sampler;
typedef enum swd_rng { SWD_RNG_PHILOX, SWD_RNG_TORCH } swd_rng;

typedef struct swd_generate_params {
    size_t size;
    const char *const *prompts; /* [n_prompts] */
    int n_prompts;              /* default 1 */
    int count; /* images per prompt; default 1. Image j of the call (count of prompt 0, of prompt 1, ...) uses seed + j */
    uint64_t seed;
    int random_seed; /* nonzero (default): seed is drawn, and given in the result */
    int width,
        height; /* pixels, multiples of patch * vae factor (16 for SD3 and FLUX); 0 (default): the model's */
    int batch;   /* images computed at once; 0 (default): by size. It does not change the noise. */
    swd_rng rng; /* TORCH: the noise of torch.Generator("cpu").manual_seed(seed) */

    swd_sampler
        sampler; /* AUTO: scale-wise where the call, the adapter or the model brings a schedule, else euler */
    const char
        *preset; /* a named schedule; implies scale-wise. NULL: the adapter's, else the model's */
    const int *scales; /* an own schedule: n_scales latent sides, non-decreasing, ... */
    int n_scales;
    const double *
        sigmas; /* ... and noise levels from 1 down to above 0, decreasing; a trailing 0 may be given */
    int n_sigmas;
    int steps; /* euler; 0 (default): swd.json's, else 28 */
    double
        guidance; /* < 0 (default): swd.json's, else 4.5 for euler, none for scale-wise; <= 1: one evaluation a step. FLUX takes it as an
                     input: default 3.5 for euler, 4.5 for scale-wise; without guidance_embeds it is ignored, with a note */
    double shift; /* euler; <= 0 (default): swd.json's, else 3; FLUX: that of its scheduler */
    const char *
        negative; /* NULL (default): the empty prompt; used where guidance > 1. With FLUX: SWD_ERR_ARGUMENT */
    const char *init; /* a picture to start from; NULL (default): noise */
    double strength; /* with init: starts at the first step whose sigma <= strength; default 0.75 */
    int max_tokens; /* length of the T5 prompt; 0 (default): the schedule's, else min(256, the tokenizer's), for FLUX 512 */

    const char *
        output; /* "out.jpg", "out.png" or a pattern with one %d (%% is a %); several images without one: out-0000.jpg, ...
                                    NULL (default): no files */
    const char *
        save_latents; /* safetensors: "latents" F32 [images, C, h, w] and "x0.K" of each step; NULL: no */
    const char
        *save_scales; /* a folder for the decoded x0 of every step; made if absent; NULL: no */
    int drop_pixels; /* nonzero: rgb is NULL in the result, so that long calls need no more memory than short ones; default 0 */
    int resume; /* nonzero: pictures whose file is there already are not made again, nor in the result; needs output, not with save_latents */
    int mix; /* nonzero: a batch enters at every step of a scale-wise schedule, and one pass of the transformer takes all of them a step further, each at its scale:
                so that small scales leave no device idle. Pictures differ by rounding alone. Where it cannot be done, the note says why. Default 0 */
} swd_generate_params;

typedef struct swd_step {
    int latent_width, latent_height;
    double sigma;
    double ms; /* over all images */
} swd_step;

typedef struct swd_result {
    size_t size;
    int n_images;
    const swd_image *images;
    const char *preset;  /* name of the schedule, "custom" for an own one, "euler" */
    swd_sampler sampler; /* never AUTO */
    int width, height;
    int n_steps;
    const swd_step *steps;
    double guidance; /* 0: none */
    double shift;    /* euler */
    int max_tokens;
    uint64_t seed;
    const char *device;    /* "cpu: ..., 2 threads" */
    const char *precision; /* "f32", "bf16" */
    const char *note;      /* what was decided for the caller and is worth saying; "" if nothing */
    double load_ms, text_ms, denoise_ms, decode_ms, write_ms,
        total_ms; /* on a GPU stages of neighbouring batches overlap: total is less than their sum */
    uint64_t peak_memory_bytes; /* resident, of the process */
    double latency_p50_ms,
        latency_p90_ms; /* of a picture, from the first work on its batch's prompts to its pixels */
} swd_result;

SWD_API void swd_generate_params_default(swd_generate_params *params);
/* Pictures of prompts, as files (params->output) and in memory. out may be NULL; else the result is the caller's: swd_result_free. On
 * failure *out is NULL; files of images that were complete stay. */
SWD_API swd_status swd_generate(swd_result **out, const swd_generate_params *params,
                                swd_context *ctx);
SWD_API void swd_result_free(swd_result **result); /* writes NULL; accepts it */

/* ---- parts of the way ---- */

typedef struct swd_tokens {
    const char *name; /* folder: "tokenizer", "tokenizer_2", "tokenizer_3" */
    const int32_t
        *ids; /* padding included, as the encoder gets them; NULL: the model has no such folder */
    int n;
} swd_tokens;

/* Ids of one prompt by each tokenizer that is there; max_tokens as in swd_generate_params. out[i].ids belong to the context and are valid
 * until its next call. */
SWD_API swd_status swd_tokenize(swd_tokens out[3], const char *prompt, int max_tokens,
                                swd_context *ctx);

/* A picture file to "latents" = (mean - shift) * scaling, F32 [1, C, h, w], in a safetensors file. */
SWD_API swd_status swd_encode_file(const char *latents_file, const char *image_file,
                                   swd_context *ctx);
/* The reverse, from "latents" [B, C, h, w]; B > 1: image-0000.jpg, ... */
SWD_API swd_status swd_decode_file(const char *image_file, const char *latents_file,
                                   swd_context *ctx);

/* ---- what is there ---- */

typedef struct swd_preset {
    size_t size;
    char name[96];
    char source[16]; /* "built-in", "model", "adapter" */
    int n_steps;
    int scales[SWD_STEPS_MAX];
    double sigmas[SWD_STEPS_MAX]; /* without the final 0 */
    int max_tokens;               /* 0: none of its own */
    double cost;       /* in full-resolution steps: tokens over those of the last scale, summed */
    char refused[128]; /* why it cannot run (no such model yet); "" if it can */
    int is_default;
} swd_preset;

/* Preset i (from 0) of those that ctx's model, its adapters and the library know; ctx may be NULL: the library's. SWD_ERR_ARGUMENT
 * beyond the last, without a message. */
SWD_API swd_status swd_get_preset(swd_preset *out, int i, swd_context *ctx);

typedef struct swd_component {
    char name[96];       /* folder: "transformer" */
    char class_name[96]; /* "SD3Transformer2DModel" */
    char summary[192];   /* its size in words */
    int64_t parameters;  /* 0: not a network */
    int64_t file_bytes;
    int n_files;
    int64_t memory_f32,
        memory_bf16;       /* bytes of weights once loaded, from the number of parameters */
    int64_t memory_loaded; /* what they are, once swd_load has loaded them; else 0 */
} swd_component;

typedef struct swd_info {
    size_t size;
    char model[1024];  /* folder */
    char family[96];   /* "StableDiffusion3Pipeline" */
    int width, height; /* default size */
    int size_multiple; /* sides are multiples of this */
    int latent_channels, vae_factor;
    int n_components;
    swd_component components[16];
    char device[208];
    char precision[8];
    int64_t
        memory_activations; /* of one picture of the default size, once the networks are loaded; else 0 */
    int64_t
        memory_peak; /* most that this context has held on the device; 0: the host's memory, which is not counted */
    int64_t device_free, device_total; /* bytes, other programs counted; 0: the host */
    /* What one picture of the default size takes on a device, weights and activations, learnt without loading; 0: the host */
    int64_t plan_all;  /* everything stays there */
    int64_t plan_text, /* offload: the peak while prompts are encoded, ... */
        plan_pictures, /* ... and of the transformer and the decoder beside each other, or, where that is too much ... */
        plan_denoise, plan_decode; /* ... of one after the other, ... */
    int64_t
        plan_streamed; /* ... or of denoising with the transformer's modulations coming one by one */
} swd_info;

/* Reads configurations and file headers only; what is loaded is measured. */
SWD_API swd_status swd_get_info(swd_info *out, swd_context *ctx);

#ifdef __cplusplus
}
#endif
#endif
