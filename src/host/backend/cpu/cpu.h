/* SPDX-License-Identifier: MIT */
/* What the files of the CPU backend share: rows as float32, the engine of the products, the slots. */
#ifndef SWD_BACKEND_CPU_CPU_H
#define SWD_BACKEND_CPU_CPU_H
#include "backend/backend.h"

typedef struct cpu_state {
    int threads;
    size_t weight_bytes;
    struct dnn_engine *dnn;
} cpu_state;

static inline cpu_state *cpu_of(swd_backend *b)
{
    return b->state;
}

/* n elements at p (offset in elements) as float32: returns p itself for F32, else widens into tmp. */
const float *cpu_row_load(float *tmp, const void *p, swd_dtype dtype, int64_t offset, int64_t n);
/* Stores n floats, rounding to nearest even for BF16 and F16. */
void cpu_row_store(void *p, swd_dtype dtype, int64_t offset, const float *src, int64_t n);
/* n elements from one place and dtype to another. */
void cpu_convert(void *to, swd_dtype to_dtype, int64_t to_offset, const void *from, swd_dtype dtype,
                 int64_t offset, int64_t n);
/* round(clamp(x * scale + shift, 0, 1) * 255), half to even; NaN gives 0. */
void cpu_rgb8(uint8_t *to, const float *x, int64_t n, float scale, float shift);
/* Rows of a strided tensor: the number of rows of its last dimension, and the element offset of row r. */
int64_t cpu_rows(swd_tensor t);
int64_t cpu_row_offset(swd_tensor t, int64_t r);
/* y = act(y), in place, n floats. */
void cpu_activate(float *y, int64_t n, swd_act act);
enum { CPU_SPAN = 1024 }; /* rows are handled in spans of this many floats, on the stack */
enum {
    CPU_ROW_MAX = 1 << 16
}; /* longest row of a row-wise op, in elements: bounds the stack scratch */

/* Whether n elements of a row-wise op are worth waking the other threads: that costs some 10 us. (Where ThreadSanitizer looks for races
 * in them all are: tests are small.) */
#ifndef CPU_WORTH_MIN
#define CPU_WORTH_MIN (1 << 14)
#endif
static inline bool cpu_worth(int64_t n)
{
    return n >= CPU_WORTH_MIN;
}

void cpu_norm_slots(swd_ops *ops);
void cpu_elementwise_slots(swd_ops *ops);
void cpu_layout_slots(swd_ops *ops);
void cpu_attention_slots(swd_ops *ops);
void cpu_resize_slots(swd_ops *ops);
void cpu_linear_slots(swd_backend *b);
void cpu_conv_slots(swd_backend *b);
#endif
