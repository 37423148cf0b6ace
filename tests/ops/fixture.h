/* SPDX-License-Identifier: MIT */
/* The operands of one case on one backend.
 *
 * An operand is a view into a buffer of its own; all around it, and in the gaps between its rows, every byte is 0xff, a NaN in each of
 * the float types: what is read there shows in the result, what is written there is found afterwards. A result holds 0xff too
 * until it is written. Values live on the host, as float, in logical order (row-major over the shape), whatever the strides.
 *
 * Memory of the host that cannot be had ends the program: these are tests. */
#ifndef SWD_TESTS_OPS_FIXTURE_H
#define SWD_TESTS_OPS_FIXTURE_H
#include "backend/ops.h"
#include "fill.h"

typedef enum operand_role {
    IN,
    OUT,
    INOUT,
    WEIGHT
} operand_role; /* WEIGHT: on the host, to be packed */

typedef enum operand_view {
    PLAIN, /* contiguous, 64-byte aligned */
    STRIDED, /* rows and samples apart, every row 16-byte aligned; no two operands at the same strides */
    ODD, /* rows an odd number of elements apart, none aligned to more than an element, but by chance */
    STRIDED_IN,  /* results plain, */
    STRIDED_OUT, /* or they alone strided */
} operand_view;

typedef struct operand {
    const char *name;
    operand_role role;
    swd_tensor t; /* as the op gets it; data is set by fixture_upload */
    float *value; /* [numel] before the call */
    double *want,
        *slack; /* [numel] what must come out: number_round(want +- slack); slack -1: nothing expected yet */
    int64_t traffic; /* elements that have to be read (or written); numel unless set */
    int64_t first;   /* byte of the buffer where element 0 lies */
    size_t bytes;
    unsigned char *before, *after; /* [bytes] the buffer as uploaded, as downloaded */
    void *memory;                  /* [bytes] on the backend */
} operand;

enum { OPERANDS_MAX = 16, TYPES_MAX = 8 };

typedef struct fixture {
    swd_backend *backend;
    swd_dtype type[TYPES_MAX]; /* storage by the family's letters */
    int n_types;
    fill_rng rng;
    operand operand[OPERANDS_MAX];
    int n;
    swd_linear *linear; /* packed by the family, if it is one of those */
    swd_conv *conv;
    bool sampled; /* only some elements of the results have an expectation */
} fixture;

void fixture_open(fixture *f, swd_backend *b, const char *name, uint64_t seed);
void fixture_close(fixture *f);

/* A new operand with values (not of OUT). The pointer stays good; shape has no empty dimension. */
operand *operand_add(fixture *f, const char *name, operand_role role, swd_dtype type,
                     operand_view view, fill kind, const int64_t *shape, int ndim);
#define SHAPE(...)                                                                                 \
    (const int64_t[]){__VA_ARGS__}, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

/* By name; NULL, or the absent tensor, where the case has none. A WEIGHT's tensor is its contiguous host copy. */
operand *operand_of(const fixture *f, const char *name);
swd_tensor tensor_of(const fixture *f, const char *name);
swd_dtype type_of(const fixture *f, int letter);
static inline double value_of(const operand *o, int64_t i)
{
    return (double)o->value[i];
}
void operand_set(operand *o, int64_t i, double x); /* rounds to the storage type */
/* Elements between element 0 and logical element i of a strided tensor. */
int64_t element_offset(swd_tensor t, int64_t i);

/* Takes memory on the backend and fills it; later calls restore the buffers as they were made. */
swd_status fixture_upload(fixture *f, swd_err *err);
/* Frees what the host holds of the operands: they can be run on, no longer be checked. */
void fixture_forget_host(fixture *f);
swd_status fixture_download(fixture *f, swd_err *err);
/* Results and operands written in place, as downloaded. */
double result_of(const operand *o, int64_t i);
/* The first byte outside the result's elements that changed, or -1. */
int64_t operand_damage(const operand *o);
/* What has to move: operands read plus operands written. */
double fixture_bytes(const fixture *f);
void *test_alloc(size_t n, size_t size);
#endif
