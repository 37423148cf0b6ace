/* SPDX-License-Identifier: MIT */
/* The one list of op cases, for tests, benchmarks and device checks: each family of ops is a table of data and four functions.
 *
 *     make       adds the operands to a fixture (and packs a weight)
 *     run        is the one call of op_NAME()
 *     reference  says what must come out, in double, by plain loops that share nothing with the backends
 *     flops      counts the work, for families whose work is not just bytes
 *
 * A case runs once per word of its `types`: one letter per operand, in the order of the family's `letters`,
 * f = F32, b = BF16, h = F16. "linear.odd.fbff" is the case `odd` of linear with x f32, weight bf16, result f32, products f32.
 * The first case of a family has every optional operand: refuse.c damages each of them in turn. */
#ifndef SWD_TESTS_OPS_CASE_H
#define SWD_TESTS_OPS_CASE_H
#include "expect.h"

typedef enum case_size {
    SMALL,  /* cheap enough for an emulated device */
    MEDIUM, /* for processors and devices */
    REAL    /* a shape of a published model: timed, and checked by samples on demand */
} case_size;

typedef struct op_case { /* the first member of every case */
    const char *name;
    case_size size;
    const char *types; /* words, one run each: "ff fb bb"; "" for families of fixed types */
} op_case;

typedef struct op_family {
    const char *op; /* of ops.h, without its op_; an op may have more than one family */
    const char *letters;
    const void *cases;
    size_t stride, n;
    swd_status (*make)(fixture *f, const void *c, swd_err *err);
    swd_status (*run)(const fixture *f, const void *c, swd_exec *ex);
    void (*reference)(fixture *f, const void *c);
    double (*flops)(const fixture *f, const void *c); /* NULL: bytes are all that counts */
} op_family;

#define CASES(table)                                                                               \
    .cases = (table), .stride = sizeof *(table), .n = sizeof(table) / sizeof *(table)

extern const op_family *const op_families[];
extern const int n_op_families;

static inline const op_case *case_at(const op_family *family, size_t i)
{
    return (const op_case *)(const void *)((const char *)family->cases + i * family->stride);
}

enum { CASE_ID_MAX = 128 };

/* Walks every word of types of every case up to a size. Start with a zeroed one; false at the end. */
typedef struct case_walk {
    const op_family *family;
    const op_case *c;
    swd_dtype type[TYPES_MAX]; /* of the current word */
    int n_types;
    char id[CASE_ID_MAX]; /* "family.case.types" */
    int i_family;         /* of the next word */
    size_t i_case;
    const char *word;
} case_walk;
bool case_next(case_walk *w);

/* Opens a fixture and makes the walk's current case in it; close it also after a failure. */
swd_status case_make(fixture *f, const case_walk *w, swd_backend *b, uint64_t seed, swd_err *err);
/* Runs it dry, with tensors that have no memory: the slab it needs. left: what it forgets to give back. */
swd_status case_measure(size_t *slab_bytes, size_t *left, const fixture *f, const case_walk *w,
                        swd_err *err);
#endif
