/* SPDX-License-Identifier: MIT */
/* Tensors that are in no file: random values of given shapes, made when they are asked for.
 *
 *     element i of tensor t = bf16(mean_t + deviation_t * z[(start_t + i) mod P])        z: P normal numbers, P a prime
 *
 * Cheap (a copy of a block that fits the cache), the same in every run and for every dtype, and no second copy of a model is held. */
#ifndef SWD_WEIGHTS_SYNTHETIC_H
#define SWD_WEIGHTS_SYNTHETIC_H
#include "io/safetensors.h"
#include "weights/tensor_list.h"

typedef struct synthetic synthetic;

/* Takes list over, also on failure: its array is freed. */
swd_status synthetic_create(synthetic **out, tensor_list *list, swd_err *err);
void synthetic_destroy(synthetic **s); /* writes NULL; accepts it */

/* As those of a safetensors set: in order of name, stored as BF16; data is NULL. */
const st_tensor *synthetic_find(const synthetic *s, const char *name);
const st_tensor *synthetic_at(const synthetic *s, int i);
int synthetic_count(const synthetic *s);
/* All elements of t to dst, F32 or BF16. */
swd_status synthetic_read(const synthetic *s, const st_tensor *t, void *dst, swd_dtype dtype,
                          swd_err *err);
#endif
