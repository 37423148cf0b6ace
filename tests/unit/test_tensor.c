// SPDX-License-Identifier: MIT
#include "tensor/tensor.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

Test(tensor, views_share_memory_and_keep_strides)
{
    float data[24];
    for (int i = 0; i < 24; i++) data[i] = (float)i;
    swd_tensor t = tensor3(data, SWD_F32, 2, 3, 4);
    cr_assert_eq(tensor_numel(t), 24);
    cr_assert(tensor_contiguous(t));
    swd_tensor s = tensor_slice(t, 2, 1, 2); // [2, 3, 2] starting at column 1
    cr_assert_eq(s.shape[2], 2);
    cr_assert_eq(s.stride[1], 4);
    cr_assert_not(tensor_contiguous(s));
    cr_assert_eq(((float *)s.data)[s.stride[0] + 2 * s.stride[1] + 1], 22.0f);
    swd_tensor h = tensor_split_last(t, 2); // [2, 3, 2, 2]
    cr_assert_eq(h.ndim, 4);
    cr_assert_eq(h.shape[2], 2);
    cr_assert_eq(h.stride[2], 2);
    char text[64];
    cr_assert_str_eq(tensor_describe(t, text, sizeof text), "f32[2,3,4]");
}

Test(tensor, every_bf16_and_f16_survives_the_round_trip)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float b = bf16_to_f32((uint16_t)h), f = f16_to_f32((uint16_t)h);
        if (isnan(b))
            cr_assert(isnan(bf16_to_f32(f32_to_bf16(b))));
        else
            cr_assert_eq(f32_to_bf16(b), h);
        if (isnan(f))
            cr_assert(isnan(f16_to_f32(f32_to_f16(f))));
        else
            cr_assert_eq(f32_to_f16(f), h);
    }
}

// Nearest, ties to even: compared with the two neighbours that a truncation and its successor give.
Test(tensor, f32_rounds_to_the_nearest_half)
{
    uint32_t x = 12345;
    for (int i = 0; i < 200000; i++) {
        x = x * 1664525u + 1013904223u;
        float v = ldexpf((float)(int32_t)x / 2147483648.0f, (int)(x >> 8) % 40 - 26);
        if (fabsf(v) >= 65504.0f) continue;
        uint16_t r = f32_to_f16(v);
        double here = fabs((double)f16_to_f32(r) - v);
        if ((r & 0x7fff) < 0x7bff)
            cr_assert_leq(here, fabs((double)f16_to_f32((uint16_t)(r + 1)) - v));
        if (r & 0x7fff) cr_assert_leq(here, fabs((double)f16_to_f32((uint16_t)(r - 1)) - v));
    }
}
