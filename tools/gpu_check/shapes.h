/* SPDX-License-Identifier: MIT */
/* One list of ops at shapes of published models: what the benches measure, and what docs/kernels.md expects of the roofline.
 *
 *   flop    2 per multiply-add of the products, nothing else
 *   bytes   every operand once, what is updated in place twice: what must move, not what does */
#ifndef SWD_TOOLS_GPU_CHECK_SHAPES_H
#define SWD_TOOLS_GPU_CHECK_SHAPES_H
#include "backend/ops.h"

typedef enum part_role {
    PART_READ,
    PART_WRITTEN,
    PART_UPDATED,
    PART_WEIGHT, /* packed with the next part, the bias, which is F32 */
    PART_BIAS,
    PART_IDS,  /* PART_READ, I32 below `limit` */
    PART_STEPS /* PART_READ, a renoise_step for each image */
} part_role;

typedef struct part {
    const char *name;
    swd_dtype dtype;
    part_role role;
    int ndim;
    int64_t shape[SWD_MAX_DIMS];
    int64_t limit;
    double share; /* of the elements that move; 1 unless said */
} part;

enum { PARTS_MAX = 8, DIMS_MAX = 6, SHAPE_NAME_MAX = 64, SHAPES_MAX = 160 };

typedef struct plan {
    part part[PARTS_MAX];
    int n;
    double flop;
    bool upsample; /* of a convolution */
} plan;

/* An op at one shape, in the memory of a backend. */
typedef struct job {
    const struct shape *shape;
    plan plan;
    swd_tensor t[PARTS_MAX]; /* by part; PART_WEIGHT and PART_BIAS have no memory here */
    void *memory[PARTS_MAX];
    swd_linear *linear;
    swd_conv *conv;
    swd_exec ex;
} job;

typedef struct kind {
    const char *op, *kernel, *fused; /* as docs/kernels.md calls them; fused may be "" */
    void (*plan)(plan *p, const int64_t *d);
    swd_status (*run)(const job *j, swd_exec *ex);
    int64_t tiny[DIMS_MAX]; /* a toy shape */
} kind;

typedef struct shape {
    const kind *kind;
    char name[SHAPE_NAME_MAX]; /* "op: model, layer, size" */
    int64_t d[DIMS_MAX];
} shape;

/* All of them, or a toy one of each kind. n: how many. */
const shape *shapes_list(int *n, bool tiny);
double plan_bytes(const plan *p);
/* Arithmetic of the products, or else storage of the result: "bf16". */
const char *plan_precision(const plan *p);
#endif
