// SPDX-License-Identifier: MIT
// The arithmetic of a warp's collectives, done by the last lane for all 32. Fragments as dev.cuh describes them.
#include "emu/ops.h"
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <math.h>
#include <string.h>

namespace emu
{
template <class T> static inline T &at(void **a, int lane)
{
    return *static_cast<T *>(a[lane]);
}

void op_none(uint32_t, void **) {}

void op_shuffle(uint32_t mask, void **a)
{
    uint64_t in[32];
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) in[i] = at<Shuffle>(a, i).value;
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        Shuffle &s = at<Shuffle>(a, i);
        if (s.source < 0) continue;
        if (!(mask >> s.source & 1))
            fail("shuffle: lane %d reads lane %d, which is not in mask %08x", i, s.source, mask);
        s.value = in[s.source];
    }
}

void op_vote(uint32_t mask, void **a)
{
    uint32_t ballot = 0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) ballot |= (at<Vote>(a, i).pred ? 1u : 0u) << i;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) at<Vote>(a, i).ballot = ballot;
}

void op_match(uint32_t mask, void **a)
{
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        Match &m = at<Match>(a, i);
        m.mask = 0;
        for (int j = 0; j < 32; j++)
            if (mask >> j & 1) m.mask |= (at<Match>(a, j).value == m.value ? 1u : 0u) << j;
    }
}

// The same additions as the butterfly of the other half, so that both give the same bits.
void op_sum(uint32_t, void **a)
{
    float v[32], t[32];
    for (int i = 0; i < 32; i++) v[i] = at<float>(a, i);
    for (int o = 16; o; o >>= 1) {
        for (int i = 0; i < 32; i++) t[i] = v[i] + v[i ^ o];
        memcpy(v, t, sizeof v);
    }
    for (int i = 0; i < 32; i++) at<float>(a, i) = v[i];
}

void op_max(uint32_t, void **a)
{
    float m = at<float>(a, 0);
    for (int i = 1; i < 32; i++) m = fmaxf(m, at<float>(a, i));
    for (int i = 0; i < 32; i++) at<float>(a, i) = m;
}

// ---- ldmatrix: register m of lane l holds elements 2 (l % 4), +1 of row l / 4 of matrix m ----

template <int M> static void ldsm(void **a)
{
    for (int l = 0; l < 32; l++)
        for (int m = 0; m < M; m++)
            memcpy(at<Ldsm>(a, l).r + m, at<Ldsm>(a, m * 8 + l / 4).row + (l & 3) * 2, 4);
}

template <int M> static void ldsm_t(void **a)
{
    for (int l = 0; l < 32; l++)
        for (int m = 0; m < M; m++) {
            uint32_t lo = at<Ldsm>(a, m * 8 + (l & 3) * 2).row[l / 4];
            uint32_t hi = at<Ldsm>(a, m * 8 + (l & 3) * 2 + 1).row[l / 4];
            at<Ldsm>(a, l).r[m] = lo | hi << 16;
        }
}

void op_ldsm_x4(uint32_t, void **a)
{
    ldsm<4>(a);
}

void op_ldsm_x4_t(uint32_t, void **a)
{
    ldsm_t<4>(a);
}

void op_ldsm_x2(uint32_t, void **a)
{
    ldsm<2>(a);
}

void op_ldsm_x2_t(uint32_t, void **a)
{
    ldsm_t<2>(a);
}

// ---- mma: A 16 x K, B K x 8, a word of a fragment holds neighbours along k ----

static inline float from_bf16(uint32_t bits)
{
    uint32_t u = bits << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static float half_value[65536], e4m3_value[256];
static struct Tables {
    Tables()
    {
        for (unsigned i = 0; i < 65536; i++) {
            __half_raw raw;
            raw.x = static_cast<unsigned short>(i);
            half_value[i] = __half2float(__half(raw));
        }
        for (unsigned i = 0; i < 256; i++) {
            __nv_fp8_e4m3 v;
            v.__x = static_cast<__nv_fp8_storage_t>(i);
            e4m3_value[i] = static_cast<float>(v);
        }
    }
} tables;

static inline float from_f16(uint32_t bits)
{
    return half_value[bits];
}

static inline float from_e4m3(uint32_t bits)
{
    return e4m3_value[bits];
}

static inline int from_s8(uint32_t bits)
{
    return static_cast<int8_t>(bits);
}

// T: of the sums, E: elements a word. Sums run along k, one after the other, as a chain of additions of T.
template <class T, int E, T (*widen)(uint32_t)> static inline void mma(void **arg)
{
    typedef T Row __attribute__((vector_size(8 * sizeof(T))));
    const int K = 8 * E, BITS = 32 / E;
    const uint32_t ONE = (1u << BITS) - 1;
    T A[16][K];
    alignas(32) T B[K][8], D[16][8];
    for (int l = 0; l < 32; l++) {
        const Mma &m = at<Mma>(arg, l);
        const T *d = static_cast<const T *>(m.d);
        int g = l >> 2, t = l & 3;
        for (int i = 0; i < 4; i++) {
            for (int e = 0; e < E; e++)
                A[g + (i & 1) * 8][t * E + (i >> 1) * 4 * E + e] = widen(m.a[i] >> e * BITS & ONE);
            D[g + (i >> 1) * 8][t * 2 + (i & 1)] = d[i];
        }
        for (int i = 0; i < 2; i++)
            for (int e = 0; e < E; e++)
                B[t * E + i * 4 * E + e][g] = widen(m.b[i] >> e * BITS & ONE);
    }
    for (int r = 0; r < 16; r++) {
        Row s = *reinterpret_cast<Row *>(D[r]);
        for (int k = 0; k < K; k++) s += A[r][k] * *reinterpret_cast<Row *>(B[k]);
        *reinterpret_cast<Row *>(D[r]) = s;
    }
    for (int l = 0; l < 32; l++) {
        T *d = static_cast<T *>(at<Mma>(arg, l).d);
        for (int i = 0; i < 4; i++) d[i] = D[(l >> 2) + (i >> 1) * 8][(l & 3) * 2 + (i & 1)];
    }
}

void op_mma_bf16(uint32_t, void **a)
{
    mma<float, 2, from_bf16>(a);
}

void op_mma_f16(uint32_t, void **a)
{
    mma<float, 2, from_f16>(a);
}

void op_mma_s8(uint32_t, void **a)
{
    mma<int, 4, from_s8>(a);
}

void op_mma_e4m3(uint32_t, void **a)
{
    mma<float, 4, from_e4m3>(a);
}
} // namespace emu
