/* SPDX-License-Identifier: MIT */
/* Writing down the operands of a kind. */
#ifndef SWD_TOOLS_GPU_CHECK_PLAN_H
#define SWD_TOOLS_GPU_CHECK_PLAN_H
#include "shapes.h"

/* Another operand. Returns it, good until the plan ends. */
part *plan_add(plan *p, const char *name, part_role role, swd_dtype dtype, const int64_t *dims,
               int ndim);
#define DIMS(...)                                                                                  \
    (const int64_t[]){__VA_ARGS__}, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))
/* q, k or v (0 to 2) of packed rows [B, N, 3, H, d]. */
swd_tensor plan_third(swd_tensor qkv, int i);
#endif
