// SPDX-License-Identifier: MIT
// Launchers of layout.cu beyond the op cases: fp16, tails of tiles, unaligned pictures; the bytes of RGB8 at every border.
#include "launch_support.h"

static const k_dtype pairs[9][2] = {{K_F32, K_F32},   {K_F32, K_BF16}, {K_F32, K_F16},
                                    {K_BF16, K_BF16}, {K_BF16, K_F32}, {K_F16, K_F16},
                                    {K_F16, K_F32},   {K_BF16, K_F16}, {K_F16, K_BF16}};

static k_view view_of(array *a)
{
    return (k_view){array_at(a, 0), a->dtype, {0}};
}

// There and back; scale and shift are powers of two, so that all is exact.
static void check_relayout(const k_dtype *pair, int batch, int c, int pixels)
{
    const int64_t n = (int64_t)batch * c * pixels;
    array planar = array_make(pair[0], n, 0), nhwc = array_make(pair[1], n, 1),
          back = array_make(pair[0], n, 0);
    for (int64_t i = 0; i < n; i++) planar.v[i] = (float)(i * 7 % 61 - 30);
    array_send(&planar);
    CUDA_OK(k_nchw_to_nhwc(view_of(&nhwc), view_of(&planar), 0.5f, 4, batch, c, pixels, 0));
    array_fetch(&nhwc);
    for (int64_t i = 0; i < n; i++) {
        int64_t b = i / (c * pixels), p = i / c % pixels, ch = i % c;
        float want = planar.v[(b * c + ch) * pixels + p] * 0.5f + 4;
        CHECK(nhwc.v[i] == want, "%d x %d: %g at %lld, not %g", c, pixels, (double)nhwc.v[i],
              (long long)i, (double)want);
    }
    CUDA_OK(k_nhwc_to_nchw(view_of(&back), view_of(&nhwc), 2, -8, batch, c, pixels, 0));
    array_fetch(&back);
    CHECK(memcmp(back.v, planar.v, (size_t)n * sizeof(float)) == 0, "%d x %d: not what it was", c,
          pixels);
    array_free(&planar), array_free(&nhwc), array_free(&back);
}

static void test_relayout(void)
{
    static const int channels[] = {1, 3, 4, 5, 16, 31, 32, 33, 66},
                     sizes[] = {1, 19, 63, 64, 65, 511, 512, 513};
    for (int i = 0; i < 9; i++)
        for (int k = 0; k < 8; k++)
            check_relayout(pairs[(i + k) % 9], 1 + i % 3, channels[i], sizes[k]);
}

// What the CPU computes: a product, a sum, a product, each rounded; half to even; NaN is 0.
static uint8_t byte_of(float x, float scale, float shift)
{
    float v = x * scale + shift;
    v = v > 0 ? v < 1 ? v : 1 : 0;
    return (uint8_t)lrintf(v * 255.0f);
}

static void check_rgb8(k_dtype t, const float *x, int64_t n, int shift, int rgb_shift, float scale,
                       float offset)
{
    array map = array_make(t, n, shift), again = array_make(t, n, shift);
    uint8_t *rgb, *host = malloc((size_t)n + 16);
    memcpy(map.v, x, (size_t)n * sizeof *x);
    array_send(&map);
    CUDA_OK(cudaMalloc((void **)&rgb, (size_t)n + 16));
    CUDA_OK(cudaMemset(rgb, 0xa5, (size_t)n + 16));
    CUDA_OK(k_to_rgb8(rgb + 8 + rgb_shift, view_of(&map), scale, offset, n, 0));
    CUDA_OK(cudaMemcpy(host, rgb, (size_t)n + 16, cudaMemcpyDeviceToHost));
    for (int64_t i = 0; i < n; i++)
        CHECK(host[i + 8 + rgb_shift] == byte_of(map.v[i], scale, offset), "%.9g became %d",
              (double)map.v[i], host[i + 8 + rgb_shift]);
    for (int i = 0; i < 8 + rgb_shift; i++) CHECK(host[i] == 0xa5, "written before the picture");
    for (int i = 8 + rgb_shift; i < 16; i++) CHECK(host[n + i] == 0xa5, "written past the picture");
    CUDA_OK(k_from_rgb8(view_of(&again), rgb + 8 + rgb_shift, scale, offset, n, 0));
    array_fetch(&again);
    for (int64_t i = 0; i < n; i++) {
        float want = rounded(t, (float)host[i + 8 + rgb_shift] / 255.0f * scale + offset);
        CHECK(again.v[i] == want, "%d became %.9g, not %.9g", host[i + 8 + rgb_shift],
              (double)again.v[i], (double)want);
    }
    CUDA_OK(cudaFree(rgb));
    free(host);
    array_free(&map), array_free(&again);
}

static void test_rgb8(void)
{
    static const int sizes[] = {1, 3, 7, 8, 9, 19, 99, 2049};
    float x[2049];
    for (int i = 0; i < 2049; i++) { // half way between bytes and beside it, and beyond both ends
        float half = ((float)(i / 5 % 258) - 1.5f) / 255.0f;
        x[i] = i % 5 == 0   ? half
               : i % 5 == 1 ? nextafterf(half, 2)
               : i % 5 == 2 ? nextafterf(half, -2)
                            : (float)random_unit() * 2;
    }
    x[4] = NAN, x[0] = INFINITY, x[9] = -INFINITY, x[2] = -0.0f;
    for (int i = 0; i < 8; i++)
        for (int t = 0; t < 3; t++) {
            check_rgb8((k_dtype)t, x, sizes[i], 0, i % 2 * 3, 1, 0);
            check_rgb8((k_dtype)t, x, sizes[i], 1, i % 2, 0.5f, 0.5f);
            check_rgb8((k_dtype)t, x, sizes[i], 0, 0, 0.3f, 0.1f); // a contracted sum would differ
        }
}

static void check_patches(k_dtype t, int b, int c, int grid_h, int grid_w, int patch, int gap)
{
    const int h = grid_h * patch, w = grid_w * patch, n = grid_h * grid_w, d = c * patch * patch;
    array x = array_make(K_F32, b * c * h * w, 1),
          y = array_make(t, b * (n * (d + gap) + gap), gap % 2),
          back = array_make(K_F32, b * c * h * w, 0);
    for (int64_t i = 0; i < x.n; i++) x.v[i] = rounded(t, (float)random_unit());
    array_send(&x);
    k_view v = {array_at(&y, 0), t, {n * (d + gap) + gap, d + gap}};
    CUDA_OK(k_patchify(v, array_at(&x, 0), patch, b, c, h, w, 0));
    array_fetch(&y);
    for (int64_t i = 0; i < x.n; i++) {
        int64_t col = i % w, row = i / w % h, ch = i / w / h % c, img = i / w / h / c;
        float *token = y.v + img * v.stride[0] + (row / patch * grid_w + col / patch) * v.stride[1];
        float *there = &token[(ch * patch + row % patch) * patch + col % patch];
        CHECK(*there == x.v[i], "patchify: %g, not %g", (double)*there, (double)x.v[i]);
    }
    for (int64_t i = 0; i < y.n; i++)
        if (isnan(y.v[i])) y.v[i] = 0; // gaps
    array_send(&y);
    CUDA_OK(k_unpatchify(array_at(&back, 0), v, patch, b, c, h, w, 0));
    array_fetch(&back);
    for (int64_t i = 0; i < back.n; i++) {
        int64_t col = i % w, row = i / w % h, ch = i / w / h % c, img = i / w / h / c;
        float *token = y.v + img * v.stride[0] + (row / patch * grid_w + col / patch) * v.stride[1];
        float want = token[(row % patch * patch + col % patch) * c + ch];
        CHECK(back.v[i] == want, "unpatchify: %g, not %g", (double)back.v[i], (double)want);
    }
    array_free(&x), array_free(&y), array_free(&back);
}

static void test_patches(void)
{
    for (int t = 0; t < 3; t++)
        for (int patch = 1; patch <= 4; patch++) {
            check_patches((k_dtype)t, 2, 16, 4, 6, patch, 8);
            check_patches((k_dtype)t, 1, 3, 1, 19, patch, 0);
            check_patches((k_dtype)t, 3, 1, 11, 3, patch, 3);
        }
}

static void check_position(k_dtype t, int b, int max, int grid_h, int grid_w, int d, int gap)
{
    const int n = grid_h * grid_w, top = (max - grid_h) / 2, left = (max - grid_w) / 2;
    array x = array_make(t, b * (n * (d + gap) + gap), gap % 2),
          table = array_make(K_F32, max * max * d, gap % 2);
    array_fill(&x, random_unit, 1), array_fill(&table, random_unit, 1);
    float *old = malloc((size_t)x.n * sizeof *old);
    memcpy(old, x.v, (size_t)x.n * sizeof *old);
    k_view v = {array_at(&x, 0), t, {n * (d + gap) + gap, d + gap}};
    CUDA_OK(k_add_position(v, array_at(&table, 0), max, b, grid_h, grid_w, d, 0));
    array_fetch(&x);
    for (int64_t i = 0; i < x.n; i++) {
        int64_t token = i % v.stride[0] / v.stride[1], c = i % v.stride[0] % v.stride[1];
        bool inside = token < n && c < d;
        int64_t at = ((top + token / grid_w) * max + left + token % grid_w) * d + c;
        float want = inside ? rounded(t, old[i] + table.v[at]) : old[i];
        CHECK(x.v[i] == want, "token %lld, column %lld: %g, not %g", (long long)token, (long long)c,
              (double)x.v[i], (double)want);
    }
    free(old);
    array_free(&x), array_free(&table);
}

static void test_position(void)
{
    for (int t = 0; t < 3; t++) {
        check_position((k_dtype)t, 2, 9, 4, 6, 64, 8);
        check_position((k_dtype)t, 1, 8, 8, 8, 24, 0);
        check_position((k_dtype)t, 3, 7, 1, 3, 19, 0);
        check_position((k_dtype)t, 2, 6, 5, 2, 16, 3);
    }
}

int main(int argc, char **argv)
{
    static const launch_test tests[] = {
        {"relayout", test_relayout},
        {"rgb8", test_rgb8},
        {"patches", test_patches},
        {"position", test_position},
    };
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
