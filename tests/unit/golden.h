/* SPDX-License-Identifier: MIT */
/* Tensors of files beside those of the reference. */
#ifndef SWD_TESTS_UNIT_GOLDEN_H
#define SWD_TESTS_UNIT_GOLDEN_H
#include "io/safetensors.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* |got - want| / |want|, both F32 */
static inline double relative_l2(const st_tensor *got, const st_tensor *want)
{
    cr_assert(got && want, "a tensor is missing");
    cr_assert_eq(got->numel, want->numel);
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < want->numel; i++) {
        float a, b;
        memcpy(&a, got->data + 4 * i, 4);
        memcpy(&b, want->data + 4 * i, 4);
        diff += ((double)a - b) * ((double)a - b);
        norm += (double)b * b;
    }
    return sqrt(diff / norm);
}
#endif
