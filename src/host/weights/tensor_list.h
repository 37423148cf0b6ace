/* SPDX-License-Identifier: MIT */
/* The tensors of each network under their diffusers (transformers) names, with the statistics that random values get.
 *
 *     element = mean + deviation * N(0, 1)        a matrix [n, k]: deviation = gain / sqrt(k), so that norms stay near one */
#ifndef SWD_WEIGHTS_TENSOR_LIST_H
#define SWD_WEIGHTS_TENSOR_LIST_H
#include "io/config.h"

enum { TENSOR_NAME_MAX = 96 };

typedef struct random_tensor {
    char name[TENSOR_NAME_MAX];
    int ndim;
    int64_t shape[4];
    float mean, deviation;
} random_tensor;

typedef struct tensor_list {
    random_tensor *at; /* freed by the caller */
    size_t n, capacity;
} tensor_list;

swd_status tensors_transformer(tensor_list *out, const config_denoiser *c, swd_err *err);
swd_status tensors_vae(tensor_list *out, const config_vae *c, swd_err *err);
swd_status tensors_clip(tensor_list *out, const config_clip_text *c, swd_err *err);
swd_status tensors_t5(tensor_list *out, const config_t5 *c, swd_err *err);
int64_t tensor_list_parameters(const tensor_list *l);
#endif
