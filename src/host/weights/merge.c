// SPDX-License-Identifier: MIT
// w += scale * b a in tiles of 4 x 64: the tile stays in registers over the whole rank, where the compiler has 512-bit or
// 256-bit ones. The products are summed first and scaled once. The simple version is tile_any with ROWS = 1.
#include "weights/merge.h"

enum { ROWS = 4, COLUMNS = 64, LANES = 16, VECTORS = COLUMNS / LANES };

typedef float vec __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

typedef struct problem {
    float *w;
    const float *a, *b;
    float scale;
    int64_t n, k, r;
} problem;

static inline __attribute__((always_inline)) void tile(const problem *p, int64_t row,
                                                       int64_t column)
{
    vec sum[ROWS][VECTORS] = {0};
    for (int64_t j = 0; j < p->r; j++) {
        const vec *a = (const vec *)(p->a + j * p->k + column);
        for (int i = 0; i < ROWS; i++) {
            float b = p->b[(row + i) * p->r + j];
            for (int v = 0; v < VECTORS; v++) sum[i][v] += b * a[v];
        }
    }
    for (int i = 0; i < ROWS; i++) {
        vec *w = (vec *)(p->w + (row + i) * p->k + column);
        for (int v = 0; v < VECTORS; v++) w[v] += p->scale * sum[i][v];
    }
}

// Any part that is no whole tile.
static void tile_any(const problem *p, int64_t row, int64_t rows, int64_t column, int64_t columns)
{
    for (int64_t i = row; i < row + rows; i++) {
        for (int64_t c = column; c < column + columns; c++) {
            float sum = 0;
            for (int64_t j = 0; j < p->r; j++) sum += p->b[i * p->r + j] * p->a[j * p->k + c];
            p->w[i * p->k + c] += p->scale * sum;
        }
    }
}

#define DEFINE_STRIP(name, attributes)                                                             \
    attributes static void name(const problem *p, int64_t row)                                     \
    {                                                                                              \
        for (int64_t c = 0; c + COLUMNS <= p->k; c += COLUMNS) tile(p, row, c);                    \
    }
DEFINE_STRIP(strip_plain, )
#if defined(__x86_64__)
DEFINE_STRIP(strip_avx2, __attribute__((target("avx2,fma"))))
DEFINE_STRIP(strip_avx512, __attribute__((target("avx512f"))))
#endif

static void (*choose_strip(void))(const problem *, int64_t)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return strip_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return strip_avx2;
#endif
    return strip_plain;
}

void merge_low_rank(float *w, const float *a, const float *b, float scale, int64_t n, int64_t k,
                    int64_t r)
{
    const problem p = {.w = w, .a = a, .b = b, .scale = scale, .n = n, .k = k, .r = r};
    void (*strip)(const problem *, int64_t) = choose_strip();
    const int64_t n_strips = (n + ROWS - 1) / ROWS, whole = k / COLUMNS * COLUMNS;
#ifdef _OPENMP
#pragma omp parallel for schedule(static)
#endif
    for (int64_t s = 0; s < n_strips; s++) {
        int64_t row = s * ROWS, rows = n - row < ROWS ? n - row : ROWS;
        if (rows == ROWS) {
            strip(&p, row);
            tile_any(&p, row, rows, whole, k - whole);
        } else {
            tile_any(&p, row, rows, 0, k);
        }
    }
}
