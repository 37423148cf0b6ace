// SPDX-License-Identifier: MIT
// Element-wise ops over tensors of any strides, a row at a time, in pieces that fit the first cache.
#include "backend/cpu/cpu.h"
#include "backend/t5_bucket.h"
#include <math.h>
#include <string.h>

enum { PIECE = 1024 };

// Walks rows in pieces, in parallel: within the body `n` elements at row r, column c.
#define FOR_PIECES(t)                                                                              \
    const int64_t row_ = (t).shape[(t).ndim - 1], per_ = (row_ + PIECE - 1) / PIECE,               \
                  all_ = cpu_rows(t) * per_;                                                       \
    const bool worth_ = cpu_worth(cpu_rows(t) * row_);                                             \
    (void)worth_; /* only OpenMP looks at it */                                                    \
    _Pragma("omp parallel for if (worth_)") for (int64_t piece_ = 0; piece_ < all_; piece_++)
#define PIECE_AT(r, c, n)                                                                          \
    const int64_t r = piece_ / per_, c = piece_ % per_ * PIECE,                                    \
                  n = row_ - c < PIECE ? row_ - c : PIECE

static const float *load(float *tmp, swd_tensor t, int64_t r, int64_t c, int64_t n)
{
    return cpu_row_load(tmp, t.data, t.dtype, cpu_row_offset(t, r) + c, n);
}

static void store(swd_tensor t, int64_t r, int64_t c, const float *src, int64_t n)
{
    cpu_row_store(t.data, t.dtype, cpu_row_offset(t, r) + c, src, n);
}

static swd_status gate_residual(swd_backend *b, swd_tensor x, swd_tensor y, swd_tensor gate,
                                swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    FOR_PIECES(x)
    {
        PIECE_AT(r, c, n);
        float out[PIECE], ty[PIECE], tg[PIECE];
        const float *px = load(out, x, r, c, n), *py = load(ty, y, r, c, n);
        if (tensor_present(gate)) {
            const float *g = load(tg, gate, r / x.shape[1], c, n);
            for (int64_t i = 0; i < n; i++) out[i] = px[i] + g[i] * py[i];
        } else {
            for (int64_t i = 0; i < n; i++) out[i] = px[i] + py[i];
        }
        store(x, r, c, out, n);
    }
    return SWD_OK;
}

static swd_status activation(swd_backend *b, swd_tensor y, swd_tensor x, swd_act act, swd_stream *s,
                             swd_err *err)
{
    (void)b, (void)s, (void)err;
    FOR_PIECES(x)
    {
        PIECE_AT(r, c, n);
        float out[PIECE];
        const float *px = load(out, x, r, c, n);
        if (px != out) memcpy(out, px, (size_t)n * sizeof *out);
        cpu_activate(out, n, act);
        store(y, r, c, out, n);
    }
    return SWD_OK;
}

static swd_status gated_gelu(swd_backend *b, swd_tensor y, swd_tensor a, swd_tensor g,
                             swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    FOR_PIECES(a)
    {
        PIECE_AT(r, c, n);
        float out[PIECE], tg[PIECE];
        const float *pa = load(out, a, r, c, n), *pg = load(tg, g, r, c, n);
        if (pa != out) memcpy(out, pa, (size_t)n * sizeof *out);
        cpu_activate(out, n, SWD_ACT_GELU_TANH);
        for (int64_t i = 0; i < n; i++) out[i] *= pg[i];
        store(y, r, c, out, n);
    }
    return SWD_OK;
}

static swd_status axpby(swd_backend *b, swd_tensor y, float ka, swd_tensor x, float kb,
                        swd_tensor z, swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    FOR_PIECES(x)
    {
        PIECE_AT(r, c, n);
        float out[PIECE], tz[PIECE];
        const float *px = load(out, x, r, c, n);
        if (tensor_present(z)) {
            const float *pz = load(tz, z, r, c, n);
            for (int64_t i = 0; i < n; i++) out[i] = ka * px[i] + kb * pz[i];
        } else {
            for (int64_t i = 0; i < n; i++) out[i] = ka * px[i];
        }
        store(y, r, c, out, n);
    }
    return SWD_OK;
}

static swd_status copy(swd_backend *b, swd_tensor y, swd_tensor x, swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    FOR_PIECES(x)
    {
        PIECE_AT(r, c, n);
        float tmp[PIECE];
        if (x.dtype == y.dtype)
            cpu_convert(y.data, y.dtype, cpu_row_offset(y, r) + c, x.data, x.dtype,
                        cpu_row_offset(x, r) + c, n);
        else
            store(y, r, c, load(tmp, x, r, c, n), n);
    }
    return SWD_OK;
}

static swd_status fill(swd_backend *b, swd_tensor y, float value, swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    FOR_PIECES(y)
    {
        PIECE_AT(r, c, n);
        float out[PIECE];
        for (int64_t i = 0; i < n; i++) out[i] = value;
        store(y, r, c, out, n);
    }
    return SWD_OK;
}

static swd_status guidance_combine(swd_backend *b, swd_tensor v, swd_tensor cond, swd_tensor uncond,
                                   float guidance, swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    FOR_PIECES(v)
    {
        PIECE_AT(r, c, n);
        float out[PIECE], tu[PIECE];
        const float *pc = load(out, cond, r, c, n), *pu = load(tu, uncond, r, c, n);
        for (int64_t i = 0; i < n; i++) out[i] = pu[i] + guidance * (pc[i] - pu[i]);
        store(v, r, c, out, n);
    }
    return SWD_OK;
}

static swd_status embed(swd_backend *b, swd_tensor y, swd_tensor table, swd_tensor ids,
                        swd_stream *s, swd_err *err)
{
    (void)b, (void)s;
    const int32_t *id = ids.data;
    int64_t rows = cpu_rows(y), d = table.shape[1];
    for (int64_t r = 0; r < rows; r++) {
        if (id[r] < 0 || id[r] >= table.shape[0])
            return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                            "token id %d at position %lld is outside the vocabulary of %lld", id[r],
                            (long long)(r % y.shape[1]), (long long)table.shape[0]);
        float tmp[PIECE];
        for (int64_t c = 0; c < d; c += PIECE) {
            int64_t n = d - c < PIECE ? d - c : PIECE;
            store(y, r, c, cpu_row_load(tmp, table.data, table.dtype, id[r] * d + c, n), n);
        }
    }
    return SWD_OK;
}

static swd_status relative_bias(swd_backend *b, swd_tensor bias, swd_tensor table, int max_distance,
                                swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    int64_t heads = bias.shape[0], n = bias.shape[1];
    float *out = bias.data;
    const float *w = table.data;
    for (int64_t q = 0; q < n; q++)
        for (int64_t k = 0; k < n; k++) {
            const float *row = w + t5_bucket(k - q, table.shape[0], max_distance) * heads;
            for (int64_t h = 0; h < heads; h++) out[(h * n + q) * n + k] = row[h];
        }
    return SWD_OK;
}

static swd_status timestep_sinusoid(swd_backend *b, swd_tensor y, swd_tensor t, swd_stream *s,
                                    swd_err *err)
{
    (void)b, (void)s, (void)err;
    int64_t half = y.shape[1] / 2;
    const float *time = t.data;
    for (int64_t r = 0; r < y.shape[0]; r++)
        for (int64_t i = 0; i < half; i++) {
            float freq = expf((float)(-log(10000.0)) * (float)i / (float)half),
                  arg = time[r] * freq, c = cosf(arg), sn = sinf(arg);
            store(y, r, i, &c, 1);
            store(y, r, half + i, &sn, 1);
        }
    return SWD_OK;
}

void cpu_elementwise_slots(swd_ops *ops)
{
    ops->gate_residual = gate_residual;
    ops->activation = activation;
    ops->gated_gelu = gated_gelu;
    ops->axpby = axpby;
    ops->copy = copy;
    ops->fill = fill;
    ops->guidance_combine = guidance_combine;
    ops->embed = embed;
    ops->relative_bias = relative_bias;
    ops->timestep_sinusoid = timestep_sinusoid;
}
