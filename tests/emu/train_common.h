/* SPDX-License-Identifier: MIT */
/* What tests of training on the emulated device share. */
#ifndef SWD_TESTS_EMU_TRAIN_COMMON_H
#define SWD_TESTS_EMU_TRAIN_COMMON_H
#include "emu/control.h"
#include "tiny_folder.h"
#include <math.h>

/* tests/unit/test_train.c derives how far a float32 gradient is off torch's (1e-5 of its norm): two are apart by the root of two. */
static const double F32 = 1.42e-5;

static inline void nothing_left(void)
{
    CHECK(emu_live_bytes() == 0, "%zu bytes of the device are left", emu_live_bytes());
}

/* Of two vectors, by the length of what was wanted less its start (NULL: 0). */
static inline double distance(const float *got, const float *want, const float *start, int64_t n)
{
    double off = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        off += pow((double)got[i] - (double)want[i], 2);
        size += pow((double)want[i] - (start ? (double)start[i] : 0), 2);
    }
    CHECK(isfinite(off) && size > 0, "numbers that say nothing: %g of %g", off, size);
    return sqrt(off / size);
}
#endif
