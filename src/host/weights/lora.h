/* SPDX-License-Identifier: MIT */
/* Low-rank adapters: PEFT folders (adapter_config.json + adapter_model.safetensors) and diffusers'
 * pytorch_lora_weights.safetensors. What a module gains is scale * alpha / rank * B A. */
#ifndef SWD_WEIGHTS_LORA_H
#define SWD_WEIGHTS_LORA_H
#include "base/status.h"
#include "io/safetensors.h"

enum { LORA_RANK_MAX = 8192 };

typedef struct lora_module {
    const char *
        name; /* in diffusers' words: "transformer_blocks.0.attn.to_q"; its weight is name.weight */
    const st_tensor *a, *b; /* [rank, K..], [N, rank(, 1, 1)] */
    int64_t rank;
    double scale; /* alpha / rank */
} lora_module;

typedef struct lora lora;

/* path: a folder with one of the two layouts, or a .safetensors file of it (adapter_config.json lies beside it). Every key of the file
 * must be understood: SWD_ERR_FILE lists those that are not; text encoder keys, rsLoRA, DoRA are SWD_ERR_UNSUPPORTED by name. */
swd_status lora_open(lora **out, const char *path, swd_err *err);
/* The same from memory: config (may be NULL: diffusers' layout) is the text of adapter_config.json; data is borrowed. */
swd_status lora_parse(lora **out, const char *path_for_messages, const void *config,
                      size_t n_config, const void *data, size_t n, swd_err *err);
void lora_close(lora **l);

int lora_count(const lora *l);
const lora_module *lora_at(const lora *l, int i);                /* in order of name */
const lora_module *lora_find(const lora *l, const char *module); /* or NULL */
const char *lora_path(const lora *l);                            /* of the weights file */
/* A and B as float32 [rank, K] and [N, rank] into dst; NaN and infinity are SWD_ERR_FILE naming the tensor. */
swd_status lora_read_a(float *dst, const lora *l, const lora_module *m, swd_err *err);
swd_status lora_read_b(float *dst, const lora *l, const lora_module *m, swd_err *err);
#endif
