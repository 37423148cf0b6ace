// SPDX-License-Identifier: MIT
// Between latents (NCHW), tokens, feature maps (NHWC) and RGB8.
#include "backend/cpu/cpu.h"
#include <math.h>

static void put(swd_tensor t, int64_t at, float v)
{
    cpu_row_store(t.data, t.dtype, at, &v, 1);
}

static float get(swd_tensor t, int64_t at)
{
    float tmp;
    return *cpu_row_load(&tmp, t.data, t.dtype, at, 1);
}

// y [B, h/p * w/p, (c, p, q)] <- x [B, C, h, w]
static swd_status patchify(swd_backend *b, swd_tensor y, swd_tensor x, int patch, swd_stream *s,
                           swd_err *err)
{
    (void)b, (void)s, (void)err;
    int64_t c = x.shape[1], h = x.shape[2], w = x.shape[3], grid_w = w / patch;
    const float *in = x.data;
    for (int64_t img = 0; img < x.shape[0]; img++)
        for (int64_t t = 0; t < y.shape[1]; t++)
            for (int64_t i = 0; i < y.shape[2]; i++) {
                int64_t q = i % patch, p = i / patch % patch, ch = i / patch / patch;
                int64_t row = t / grid_w * patch + p, col = t % grid_w * patch + q;
                put(y, img * y.stride[0] + t * y.stride[1] + i,
                    in[((img * c + ch) * h + row) * w + col]);
            }
    return SWD_OK;
}

// x [B, C, h, w] <- y [B, h/p * w/p, (p, q, c)]
static swd_status unpatchify(swd_backend *b, swd_tensor x, swd_tensor y, int patch, swd_stream *s,
                             swd_err *err)
{
    (void)b, (void)s, (void)err;
    int64_t c = x.shape[1], h = x.shape[2], w = x.shape[3], grid_w = w / patch;
    float *out = x.data;
    for (int64_t img = 0; img < x.shape[0]; img++)
        for (int64_t t = 0; t < y.shape[1]; t++)
            for (int64_t i = 0; i < y.shape[2]; i++) {
                int64_t ch = i % c, q = i / c % patch, p = i / c / patch;
                int64_t row = t / grid_w * patch + p, col = t % grid_w * patch + q;
                out[((img * c + ch) * h + row) * w + col] =
                    get(y, img * y.stride[0] + t * y.stride[1] + i);
            }
    return SWD_OK;
}

static swd_status add_position(swd_backend *b, swd_tensor x, swd_tensor table, int grid_h,
                               int grid_w, swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    int64_t max = llround(sqrt((double)table.shape[0])), d = x.shape[2], top = (max - grid_h) / 2,
            left = (max - grid_w) / 2;
#pragma omp parallel for
    for (int64_t r = 0; r < x.shape[0] * x.shape[1]; r++) {
        int64_t t = r % x.shape[1], at = cpu_row_offset(x, r);
        const float *pos =
            (const float *)table.data + ((top + t / grid_w) * max + left + t % grid_w) * d;
        for (int64_t i = 0; i < d; i++) put(x, at + i, get(x, at + i) + pos[i]);
    }
    return SWD_OK;
}

// to: the NCHW side is the source
static void relayout(swd_tensor nchw, swd_tensor nhwc, bool to_nhwc, float scale, float shift)
{
    int64_t c = nchw.shape[1], pixels = nchw.shape[2] * nchw.shape[3];
#pragma omp parallel for
    for (int64_t r = 0; r < nchw.shape[0] * pixels; r++) {
        int64_t img = r / pixels, p = r % pixels;
        for (int64_t ch = 0; ch < c; ch++) {
            int64_t planar = (img * c + ch) * pixels + p, interleaved = r * c + ch;
            if (to_nhwc)
                put(nhwc, interleaved, get(nchw, planar) * scale + shift);
            else
                put(nchw, planar, get(nhwc, interleaved) * scale + shift);
        }
    }
}

static swd_status nchw_to_nhwc(swd_backend *b, swd_tensor y, swd_tensor x, float scale, float shift,
                               swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    relayout(x, y, true, scale, shift);
    return SWD_OK;
}

static swd_status nhwc_to_nchw(swd_backend *b, swd_tensor y, swd_tensor x, float scale, float shift,
                               swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    relayout(y, x, false, scale, shift);
    return SWD_OK;
}

void cpu_rgb8(uint8_t *to, const float *x, int64_t n, float scale, float shift)
{
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] * scale + shift;
        v = v > 0 ? v < 1 ? v : 1 : 0; // NaN becomes 0
        to[i] = (uint8_t)lrintf(v * 255.0f);
    }
}

static swd_status to_rgb8(swd_backend *b, swd_tensor y, swd_tensor x, float scale, float shift,
                          swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    uint8_t *out = y.data;
    int64_t n = tensor_numel(x);
#pragma omp parallel for if (cpu_worth(n))
    for (int64_t i = 0; i < n; i += CPU_SPAN) {
        float tmp[CPU_SPAN];
        int64_t m = n - i < CPU_SPAN ? n - i : CPU_SPAN;
        cpu_rgb8(out + i, cpu_row_load(tmp, x.data, x.dtype, i, m), m, scale, shift);
    }
    return SWD_OK;
}

static swd_status from_rgb8(swd_backend *b, swd_tensor y, swd_tensor x, float scale, float shift,
                            swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    const uint8_t *in = x.data;
    int64_t n = tensor_numel(x);
    for (int64_t i = 0; i < n; i++) put(y, i, (float)in[i] / 255.0f * scale + shift);
    return SWD_OK;
}

void cpu_layout_slots(swd_ops *ops)
{
    ops->patchify = patchify;
    ops->unpatchify = unpatchify;
    ops->add_position = add_position;
    ops->nchw_to_nhwc = nchw_to_nhwc;
    ops->nhwc_to_nchw = nhwc_to_nchw;
    ops->to_rgb8 = to_rgb8;
    ops->from_rgb8 = from_rgb8;
}
