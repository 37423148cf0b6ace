/* SPDX-License-Identifier: MIT */
/* Numbers that are learnt: float32 masters, their gradients, and what the tape computes with (layers.h).
 *
 * All tensors of a set lie in one buffer, each at a multiple of 64 bytes, zeros between; gradients in another of the same layout. Where
 * the products are bf16 a third one holds the masters rounded; params_publish() makes it, and writes the vectors that a
 * model reads (weights of norms) where the model has them. One thread. */
#ifndef SWD_TRAIN_PARAMS_H
#define SWD_TRAIN_PARAMS_H
#include "model/load.h"
#include "train/layers.h"
#include "weights/weights.h"

typedef struct params params;

typedef struct param {
    char *name; /* "transformer_blocks.0.attn.to_q.lora_A.weight"; a full one as in the files */
    int ndim;
    int64_t shape[4];
    swd_tensor value, grad; /* F32, backend memory; views of the buffers */
} param;

typedef struct lora_config {
    int rank;
    double alpha;
    const char *const
        *targets; /* a module is adapted if its name is one of these or ends with "." and one */
    int n_targets;
} lora_config;

/* Rank 64, alpha 64, and SwD's targets: to_q to_k to_v to_out.0 net.0.proj net.2. */
lora_config lora_config_default(void);
bool lora_config_matches(const lora_config *c, const char *module);

/* A low-rank adapter beside the model's layers: A normal with deviation 1 / rank, drawn by seed; B zero. SWD_ERR_ARGUMENT: a target
 * that no module matches. The model is borrowed. */
swd_status params_lora(params **out, swd_backend *be, const holdings *model, const lora_config *c,
                       uint64_t seed, swd_err *err);
/* Every layer and vector that the model has as the files have it, from the model's files w in float32. */
swd_status params_full(params **out, swd_backend *be, const holdings *model, weights *w,
                       swd_err *err);

/* For a module of the trainer's own: tensors first, then params_layout(), values, params_publish(). add returns the tensor's number. */
swd_status params_create(params **out, swd_backend *be, swd_err *err);
swd_status params_add(int *index, params *p, const char *name, const int64_t *shape, int ndim,
                      swd_err *err);
swd_status params_layout(params *p, swd_dtype compute, swd_err *err);
/* What ops find weight and bias (-1: none) of a layer by; a vector that ops read as the master lies. */
swd_status params_bind(params *p, const swd_linear *w, int weight, int bias, swd_err *err);
swd_status params_bind_vector(params *p, int vector, swd_err *err);
void params_destroy(params **p); /* writes NULL; accepts it */

swd_backend *params_backend(const params *p);
const layer_set *params_layers(const params *p);
int params_count(const params *p); /* tensors */
const param *params_at(const params *p, int i);
int64_t params_numbers(const params *p); /* that are learnt */
/* The whole buffers, F32 [n]. */
swd_tensor params_values(const params *p);
swd_tensor params_gradients(const params *p);
/* value i from float32 on the host; publish when all are written */
swd_status params_set(params *p, int i, const float *from, swd_err *err);
swd_status params_publish(params *p, swd_err *err);
swd_status params_zero_gradients(params *p, swd_err *err);

/* PEFT's layout, for diffusers and peft: folder/adapter_config.json and adapter_model.safetensors, each complete or not there. base:
 * what the adapter is for, or NULL. values: F32 [n] in the layout of params_values() on the host, or NULL: the masters. */
swd_status params_write_peft(const params *p, const char *folder, const lora_config *c,
                             const char *base, const float *values, swd_err *err);
/* The reverse, into a set of the same tensors. Where alpha / rank is another, B takes up the difference. */
swd_status params_read_peft(params *p, const char *folder, swd_err *err);
#endif
