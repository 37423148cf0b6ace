/* SPDX-License-Identifier: MIT */
/* The tensors of one component: safetensors on disk, converted on the way out, adapters merged in float32.
 * A model's loader asks for each tensor once, by its diffusers (transformers) name and the shape that its config implies.
 * Not thread-safe: one thread loads one component. */
#ifndef SWD_WEIGHTS_WEIGHTS_H
#define SWD_WEIGHTS_WEIGHTS_H
#include "base/status.h"
#include "tensor/tensor.h"
#include <stdbool.h>

typedef struct weights weights;
struct lora;
struct tensor_list;

/* Opens the files of a component folder (or one file): basename is "model" (transformers) or "diffusion_pytorch_model" (diffusers). */
swd_status weights_open(weights **out, const char *path, const char *basename, swd_err *err);
/* Random values of these shapes (weights/synthetic.h) under a name for messages; no files. Takes list over, also on failure. */
swd_status weights_open_synthetic(weights **out, struct tensor_list *list, const char *name,
                                  swd_err *err);
void weights_close(weights **w);

/* Merges scale * adapter into the tensors that it names, when they are asked for. The adapter is borrowed until weights_close.
 * Every tensor that it names must be here with a fitting shape: else SWD_ERR_FILE with the list. */
swd_status weights_add_lora(weights *w, const struct lora *adapter, float scale, swd_err *err);

/* The shape that a tensor has in the files, *ndim numbers; NULL: there is no such tensor. It does not count as read. */
const int64_t *weights_shape(const weights *w, const char *name, int *ndim);
/* Asking for alias gives name, unless alias itself is in the file (tied weights: T5's shared.weight). Both are copied. */
swd_status weights_alias(weights *w, const char *alias, const char *name, swd_err *err);

/* Copies the tensor to dst (host, contiguous, dtype SWD_F32 or SWD_BF16), adapters merged, and releases its file pages. A tensor that
 * is missing, of another shape, or holds NaN or infinity is SWD_ERR_FILE naming file and tensor. */
swd_status weights_read(weights *w, const char *name, const int64_t *shape, int ndim, void *dst,
                        swd_dtype dtype, swd_err *err);
/* The same without a copy where none is needed: memory of w, or of the file itself, to be read only and only until the next weights_get
 * or weights_close. dtype: what is wanted. */
swd_status weights_get(weights *w, swd_tensor *out, const char *name, const int64_t *shape,
                       int ndim, swd_dtype dtype, swd_err *err);

/* That the tensor is there and has this shape; it counts as read. */
swd_status weights_expect(weights *w, const char *name, const int64_t *shape, int ndim,
                          swd_err *err);
/* From now on weights_read and weights_get look for the tensor and check its shape, but what they give is not set: for a model that is put
 * together to learn its size. Gives what it was before. */
bool weights_set_dry(weights *w, bool dry);

/* The smallest dtype that holds this tensor, adapters merged, without loss: BF16 if it is stored so and nothing is merged, else F32
 * (F16 has no packed form here; a missing tensor is F32). */
swd_dtype weights_exact_dtype(const weights *w, const char *name);
/* Stored as F16, and nothing is merged: weights_get and weights_read give it so, too, if asked. */
bool weights_is_f16(const weights *w, const char *name);
bool weights_mostly_bf16(const weights *w);   /* by elements, for estimates of memory */
int64_t weights_parameters(const weights *w); /* elements in the files */
int64_t weights_file_bytes(const weights *w); /* of all files */
int weights_file_count(const weights *w);
const char *weights_path(const weights *w); /* the folder or file it was opened from */

/* Fails with SWD_ERR_FILE, listing them, if tensors of the files were never read; prefixes (may be NULL) is a NULL-ended list of name
 * starts that may stay unread ("text_model.embeddings.position_ids", "encoder."). */
swd_status weights_check_unused(const weights *w, const char *const *prefixes, swd_err *err);
#endif
