// SPDX-License-Identifier: MIT
#include "train/train_keys.h"
#include <stdint.h>

static const char *const modes[] = {"mmd", "full", "flow-matching", NULL};
static const char *const weights_words[] = {"lora", "whole", NULL};
static const char *const rates[] = {"constant", "cosine", NULL};
static const char *const kernels[] = {"huber", "linear", "rbf", NULL};
static const char *const features[] = {"teacher", "fake", NULL};
static const char *const dtypes[] = {"f16", "f32", NULL};
static const char *const precisions[] = {"auto", "f32", "bf16", NULL};

#define FIELD(f) offsetof(swd_train_params, f), sizeof(((swd_train_params *)0)->f)
#define PUB(f, section, type, dflt, about)                                                         \
    {                                                                                              \
#f, section, type, dflt, about                                                             \
    }
#define STRING(f, sec, type, dflt, free, about)                                                    \
    {                                                                                              \
        PUB(f, sec, type, dflt, about), KIND_STRING, FIELD(f), 0, 0, 0, NULL, free                 \
    }
#define STRINGS(f, sec, type, dflt, free, about)                                                   \
    {                                                                                              \
        PUB(f, sec, type, dflt, about), KIND_STRINGS, FIELD(f), offsetof(swd_train_params, n_##f), \
            0, 0, NULL, free                                                                       \
    }
#define INT(f, sec, dflt, lo, hi, free, about)                                                     \
    {                                                                                              \
        PUB(f, sec, "whole number", dflt, about), KIND_INT, FIELD(f), 0, lo, hi, NULL, free        \
    }
#define LONG(f, sec, dflt, lo, hi, free, about)                                                    \
    {                                                                                              \
        PUB(f, sec, "whole number", dflt, about), KIND_LONG, FIELD(f), 0, lo, hi, NULL, free       \
    }
#define NUMBER(f, sec, dflt, lo, hi, free, about)                                                  \
    {                                                                                              \
        PUB(f, sec, "number", dflt, about), KIND_NUMBER, FIELD(f), 0, lo, hi, NULL, free           \
    }
#define SWITCH(f, sec, dflt, free, about)                                                          \
    {                                                                                              \
        PUB(f, sec, "true or false", dflt, about), KIND_SWITCH, FIELD(f), 0, 0, 1, NULL, free      \
    }
#define WORD(f, sec, type, dflt, words, free, about)                                               \
    {                                                                                              \
        PUB(f, sec, type, dflt, about), KIND_WORD, FIELD(f), 0, 0, 0, words, free                  \
    }
#define INTS(f, sec, dflt, lo, hi, free, about)                                                    \
    {                                                                                              \
        PUB(f, sec, "whole numbers", dflt, about), KIND_INTS, FIELD(f),                            \
            offsetof(swd_train_params, n_##f), lo, hi, NULL, free                                  \
    }
#define NUMBERS(f, sec, dflt, lo, hi, free, about)                                                 \
    {                                                                                              \
        PUB(f, sec, "numbers", dflt, about), KIND_NUMBERS, FIELD(f),                               \
            offsetof(swd_train_params, n_##f), lo, hi, NULL, free                                  \
    }

enum { FIXED = false, FREE = true };

static const double STEPS_MAX = 1e9, SEED_MAX = 9007199254740992.0; // 2^53: what a double holds

// clang-format off
const train_key train_keys[] = {
    STRING(model, "what", "folder", "", FREE, "diffusers folder of the teacher; empty: the bundled model"),
    STRINGS(data, "what", "folders or tars", "", FREE, "pictures with metainfo.csv, or with a .txt beside each"),
    STRING(output, "what", "folder", "", FREE, "where everything goes: adapter, checkpoints, log, curves, samples, cache"),
    WORD(mode, "what", "mmd, full or flow-matching", "mmd", modes, FIXED,
         "mmd: the patch loss alone; full: with DMD and GAN; flow-matching: fine-tunes the model itself"),
    STRING(preset, "what", "name", "", FIXED, "schedule of the student (swd presets); empty: the model's"),
    INTS(scales, "what", "", 1, 4096, FIXED, "an own schedule: latent sides, non-decreasing, ..."),
    NUMBERS(sigmas, "what", "", 0, 1, FIXED, "... and noise levels from 1 down, as many"),
    INT(max_tokens, "what", "0", 0, SWD_TOKENS_MAX, FIXED, "length of the T5 prompt; 0: the schedule's"),

    LONG(steps, "how long", "3000", 1, STEPS_MAX, FREE, "updates of the student"),
    INT(batch, "how long", "8", 1, SWD_TRAIN_BATCH_MAX, FIXED, "pictures per update"),
    INT(micro_batch, "how long", "0", 0, SWD_TRAIN_BATCH_MAX, FREE,
        "pictures at once, to save memory; divides batch; 0: all"),
    LONG(seed, "how long", "0", 0, SEED_MAX, FIXED, "of order, noise and start of the adapter"),
    NUMBER(caption_dropout, "how long", "0", 0, 1, FIXED, "part of the captions that is replaced by the empty one"),
    NUMBER(minutes, "how long", "0", 0, 1e6, FREE, "saves and ends after so long; 0: no limit"),

    WORD(weights, "what learns", "lora or whole", "lora", weights_words, FIXED,
         "an adapter, or all weights (small models; needs memory)"),
    INT(lora_rank, "what learns", "64", 1, 4096, FIXED, "rank of the adapter"),
    NUMBER(lora_alpha, "what learns", "0", 0, 1e6, FIXED, "its alpha; 0: the rank"),
    STRING(init_lora, "what learns", "folder", "", FREE, "adapter of the same rank that learning starts from; empty: a new one"),

    NUMBER(learning_rate, "optimizer", "5e-6", 0, 10, FIXED, "of AdamW"),
    NUMBER(fake_learning_rate, "optimizer", "0", 0, 10, FIXED, "of the fake model; 0: the same"),
    WORD(rate_schedule, "optimizer", "constant or cosine", "constant", rates, FIXED, "cosine falls to 0 at the last step"),
    LONG(warmup_steps, "optimizer", "0", 0, STEPS_MAX, FIXED, "the rate rises linearly over so many"),
    NUMBER(weight_decay, "optimizer", "0.01", 0, 1, FIXED, "decoupled"),
    NUMBER(beta1, "optimizer", "0.9", 0, 0.999999, FIXED, "of the first moment"),
    NUMBER(beta2, "optimizer", "0.999", 0, 0.999999999, FIXED, "of the second moment"),
    NUMBER(epsilon, "optimizer", "1e-8", 1e-20, 1, FIXED, "under the square root's result"),
    NUMBER(clip_norm, "optimizer", "10", 0, 1e9, FIXED, "largest norm of all gradients together; 0: no limit"),
    NUMBER(ema, "optimizer", "0", 0, 0.999999, FIXED, "decay of averaged weights, which the adapter then has; 0: none"),

    WORD(mmd_kernel, "losses", "huber, linear or rbf", "huber", kernels, FIXED, "of the patch loss"),
    WORD(mmd_features, "losses", "teacher or fake", "teacher", features, FIXED, "whose features the patch loss compares"),
    INT(feature_block, "losses", "-1", -1, 255, FIXED,
        "features come from behind this transformer block, from 0; -1: 11 of 24, 20 of 38, else the middle"),
    NUMBER(mmd_weight, "losses", "1", 0, 1e6, FIXED, "of the patch loss"),
    NUMBER(dmd_weight, "losses", "1", 0, 1e6, FIXED, "of DMD (full)"),
    NUMBER(gan_weight, "losses", "0.005", 0, 1e6, FIXED, "of the generator's GAN term (full)"),
    NUMBER(discriminator_weight, "losses", "0.01", 0, 1e6, FIXED, "of the discriminator's (full)"),
    INT(fake_updates, "losses", "5", 1, 1000, FIXED, "of the fake model for each of the student (full)"),
    NUMBER(guidance, "losses", "-1", -1, 1000, FIXED,
           "of the teacher in DMD (full); below 0: swd.json's, else 4.5 (7 for SD3.5-M)"),
    INT(mmd_noise_from, "losses", "18", 0, 27, FIXED, "noise of the patch loss: an entry from this to 27 of the 28"),
    INT(dmd_noise_from, "losses", "12", 0, 27, FIXED, "the same for DMD and the GAN term (full)"),
    NUMBER(flow_mean, "losses", "0", -10, 10, FIXED,
           "flow-matching: the noise level is 1 / (1 + exp(-z)), z normal with this mean ..."),
    NUMBER(flow_deviation, "losses", "1", 0, 10, FIXED, "... and deviation"),

    STRING(cache, "machine", "file", "", FREE, "latents and embeddings; empty: cache.swd in the output folder"),
    WORD(cache_dtype, "machine", "f16 or f32", "f16", dtypes, FIXED, "how they are kept"),
    SWITCH(gradient_checkpointing, "machine", "true", FREE, "computes each block twice, to save memory"),
    STRING(device, "machine", "auto, cpu or cuda:K", "auto", FREE, "what computes; auto: a GPU where there is one"),
    WORD(precision, "machine", "auto, f32 or bf16", "auto", precisions, FIXED, "arithmetic of the networks"),
    INT(threads, "machine", "0", 0, 1024, FREE, "of the CPU; 0: all"),

    LONG(log_every, "what is written", "10", 1, STEPS_MAX, FREE, "steps between lines of log.jsonl and curves"),
    LONG(checkpoint_every, "what is written", "250", 1, STEPS_MAX, FREE, "steps between checkpoints"),
    INT(keep, "what is written", "2", 1, 1000, FREE, "checkpoints that stay"),
    LONG(sample_every, "what is written", "0", 0, STEPS_MAX, FREE, "steps between sheets of samples; 0: none"),
    STRING(sample_prompts, "what is written", "file", "", FREE,
           "prompts of the sheets, one a line; empty: the first captions"),
    SWITCH(resume, "what is written", "false", FREE, "goes on from the newest checkpoint in the output folder"),
};
// clang-format on
const int train_n_keys = sizeof train_keys / sizeof train_keys[0];
