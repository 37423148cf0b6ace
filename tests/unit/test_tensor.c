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

static bool shares_an_element(swd_tensor a, swd_tensor b)
{
    for (int64_t i = 0; i < tensor_numel(a); i++)
        for (int64_t j = 0; j < tensor_numel(b); j++) {
            const char *pa = (char *)a.data + (i / a.shape[1] * a.stride[0] + i % a.shape[1]) * 4,
                       *pb = (char *)b.data + (j / b.shape[1] * b.stride[0] + j % b.shape[1]) * 4;
            if (pa == pb) return true;
        }
    return false;
}

// Against all pairs of elements: exact for contiguous tensors and for columns of one stride, never wrong in saying no.
Test(tensor, overlap)
{
    static float memory[256];
    uint32_t x = 1;
    int no = 0, columns = 0;
    for (int i = 0; i < 100000; i++) {
        swd_tensor t[2];
        for (int k = 0; k < 2; k++) {
            x = x * 1664525u + 1013904223u;
            t[k] = tensor2(memory + (x >> 8) % 64, SWD_F32, 1 + (x >> 16) % 3, 1 + (x >> 20) % 6);
            t[k].stride[0] += x >> 30 ? (x >> 24) % 7 : 0;
        }
        bool says = tensor_overlap(t[0], t[1]), is = shares_an_element(t[0], t[1]);
        cr_assert(says || !is, "an overlap is missed");
        cr_assert_eq(says, tensor_overlap(t[1], t[0]));
        // Rows at one distance in both, none longer than that: exact.
        const float *p = t[0].data, *q = t[1].data;
        int64_t row = t[0].stride[0];
        bool meet = p < q + (t[1].shape[0] - 1) * row + t[1].shape[1] &&
                    q < p + (t[0].shape[0] - 1) * row + t[0].shape[1];
        if (row == t[1].stride[0] && row >= t[0].shape[1] && row >= t[1].shape[1]) {
            cr_assert_eq(says, is);
            columns += !is && meet;
        }
        no += !says;
    }
    cr_assert(no > 1000 && columns > 100, "%d apart, %d in columns", no, columns);
    swd_tensor t = tensor2(memory, SWD_F32, 4, 9), q = tensor_slice(t, 1, 0, 3);
    cr_assert(tensor_same_view(t, t) && !tensor_same_view(q, t) && tensor_overlap(q, t));
    cr_assert_not(tensor_overlap(q, tensor_slice(t, 1, 3, 6)));
    cr_assert_not(tensor_overlap(tensor_none(), t), "an absent operand");
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
