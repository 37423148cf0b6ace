/* SPDX-License-Identifier: MIT */
/* How every network gets its weights: named tensors of the files -> packed layers and vectors in backend memory.
 *
 * A loader keeps its first error and does nothing after it, so a model lists its tensors like a table and asks for the status
 * once, at loader_end. What a loader makes belongs to the model's holdings, which give all of it back at once; a slot that was
 * not reached stays as it was. A missing tensor, one of another shape and one that found no memory are errors naming file and
 * tensor. */
#ifndef SWD_MODEL_LOAD_H
#define SWD_MODEL_LOAD_H
#include "backend/backend.h"
#include "weights/weights.h"

/* What a model owns in its backend and on the host. */
typedef struct holdings {
    swd_backend *be;
    struct holding *list;
    size_t n, capacity;
} holdings;

void holdings_release(holdings *h);

/* What of it can be trained: layers and vectors by the names that they have in the files. */
enum { HELD_NAMES_MAX = 3 };
typedef struct held_layer {
    const swd_linear *w;
    int n;                            /* parts under each other */
    const char *name[HELD_NAMES_MAX]; /* without ".weight"; the holdings' */
    int64_t rows[HELD_NAMES_MAX];
} held_layer;
typedef struct held_vector {
    swd_tensor value; /* F32 [n], backend memory */
    const char *name; /* the holdings' */
} held_vector;
/* False: holding i, of holdings.n, is something else, or its rows are not as in the files. */
bool holdings_layer(const holdings *h, size_t i, held_layer *out);
bool holdings_vector(const holdings *h, size_t i, held_vector *out);

enum { LOAD_NAME_MAX = 256 };

typedef struct loader {
    weights *w;
    swd_backend *be;
    swd_dtype compute; /* of the products: SWD_F32 or SWD_BF16 */
    holdings *held;
    swd_err *err;
    swd_status status; /* the first error */
    bool names_only; /* while set, linear layers and tensors are looked for, no more: slots stay */
    size_t used;     /* of prefix */
    char prefix[LOAD_NAME_MAX]; /* before every name */
} loader;

/* All is borrowed; held is empty. */
loader loader_begin(holdings *held, weights *w, swd_backend *be, swd_dtype compute, swd_err *err);
/* The first error, or that of a tensor which nobody asked for and whose name starts with none of may_stay (NULL-ended; may be NULL). */
swd_status loader_end(loader *l, const char *const *may_stay);

/* Names from here on start with one more piece; leave(mark) takes away what came after the enter that returned mark. */
size_t load_enter(loader *l, const char *fmt, ...) SWD_PRINTF(2, 3);
void load_leave(loader *l, size_t mark);

/* What fields of config.json say about the tensors, asked before any is read, so that a contradiction is SWD_ERR_FILE with the name of
 * the field: that a dimension is value (a tensor that is not there does not contradict), that there is such a tensor or none, and
 * that tensors before.I.after are there for I from 0 to count - 1 and no further. */
void expect_dim(loader *l, const char *field, int64_t value, const char *tensor, int dim);
void expect_there(loader *l, const char *field, bool there, const char *tensor);
void expect_count(loader *l, const char *field, int count, const char *before, const char *after);

/* n zeroed elements on the host; NULL after an error. what: for the message. */
void *load_array(loader *l, size_t n, size_t size, const char *what);

typedef enum load_bias { WITHOUT_BIAS, WITH_BIAS } load_bias;

/* name.weight [n, k], name.bias [n] */
void load_linear(loader *l, swd_linear **out, int64_t n, int64_t k, load_bias bias,
                 const char *name);
/* The same with zeros below and to the right, up to [rows, columns]. */
void load_linear_padded(loader *l, swd_linear **out, int64_t n, int64_t k, int64_t rows,
                        int64_t columns, load_bias bias, const char *name);
/* count layers [n, k] under each other, [count * n, k]: q, k and v in one product */
void load_stacked(loader *l, swd_linear **out, int count, const char *const *names, int64_t n,
                  int64_t k, load_bias bias);
/* The same of layers [n[i], k]. */
void load_stacked_of(loader *l, swd_linear **out, int count, const char *const *names,
                     const int64_t *n, int64_t k, load_bias bias);
/* [c * p * p, k], whose outputs are patches in (c, p, q) order, so that they are in (p, q, c) order. */
void load_unpatch_linear(loader *l, swd_linear **out, int64_t c, int patch, int64_t k,
                         const char *name);
/* A p x p convolution of stride p [n, c, p, p] as a product over patches in (c, p, q) order: [n, c * p * p] */
void load_patch_linear(loader *l, swd_linear **out, int64_t n, int64_t c, int patch, load_bias bias,
                       const char *name);

typedef struct conv_shape {
    int in, out;
    int kernel, stride, pad_before, pad_after;
    int kernel_w; /* 0: as kernel, the height */
    bool upsample2x;
    load_bias bias;
} conv_shape;

/* Of stride 1, the picture keeping its size. */
static inline conv_shape conv3x3(int in, int out)
{
    return (conv_shape){.in = in,
                        .out = out,
                        .kernel = 3,
                        .stride = 1,
                        .pad_before = 1,
                        .pad_after = 1,
                        .bias = WITH_BIAS};
}
static inline conv_shape conv1x1(int in, int out)
{
    return (conv_shape){.in = in, .out = out, .kernel = 1, .stride = 1, .bias = WITH_BIAS};
}
/* name.weight [out, in, kernel, kernel_w], name.bias [out] */
void load_conv(loader *l, swd_conv **out, conv_shape c, const char *name);

/* The tensor of the whole name, in backend memory: F32, or for load_table the dtype that holds the file's tensor exactly. */
void load_vector(loader *l, swd_tensor *out, int64_t n, const char *name);
void load_matrix(loader *l, swd_tensor *out, const int64_t *shape, int ndim, const char *name);
/* Values of the model's own making. what: for the message. */
void load_values(loader *l, swd_tensor *out, const float *values, int64_t rows, int64_t columns,
                 const char *what);
void load_table(loader *l, swd_tensor *out, int64_t rows, int64_t d, const char *name);

/* name.weight and name.bias, F32 [n] each */
typedef struct norm {
    swd_tensor weight, bias;
} norm;
void load_norm(loader *l, norm *out, int64_t n, const char *name);
#endif
