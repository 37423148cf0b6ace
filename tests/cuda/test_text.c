// SPDX-License-Identifier: MIT
// k_embed: every storage, strides, ids outside the table. k_relative_bias: tiles and buckets against the CPU's bucket.
#include "launch_support.h"
#include "backend/t5_bucket.h"

static void check_embed(k_dtype table_type, k_dtype y_type, int dim, int gap, bool outside)
{
    enum { B = 3, N = 7, VOCAB = 11 };
    array table = array_make(table_type, VOCAB * dim, 0),
          y = array_make(y_type, B * (N * (dim + gap) + gap), gap % 2);
    int32_t ids[B * N], *device_ids, worst = 0;
    int *bad, found;
    for (int i = 0; i < B * N; i++) ids[i] = i * 5 % VOCAB;
    if (outside) {
        static const int32_t wrong[] = {VOCAB, -1, INT32_MIN, INT32_MAX};
        for (int i = 0; i < 4; i++) ids[4 * i + 3] = wrong[i];
        worst = 16;
    }
    array_fill(&table, random_unit, 1);
    CUDA_OK(cudaMalloc((void **)&device_ids, sizeof ids));
    CUDA_OK(cudaMalloc((void **)&bad, sizeof *bad));
    CUDA_OK(cudaMemcpy(device_ids, ids, sizeof ids, cudaMemcpyHostToDevice));
    CUDA_OK(cudaMemset(bad, 0, sizeof *bad));
    k_view vy = {array_at(&y, 0), y_type, {N * (dim + gap) + gap, dim + gap}},
           vt = {array_at(&table, 0), table_type, {dim}};
    CUDA_OK(k_embed(vy, vt, device_ids, bad, B, N, VOCAB, dim, 0));
    array_fetch(&y);
    CUDA_OK(cudaMemcpy(&found, bad, sizeof found, cudaMemcpyDeviceToHost));
    CHECK(found == worst, "%d reported, not %d", found, worst);
    for (int r = 0; r < B * N; r++)
        for (int c = 0; c < dim + gap; c++) {
            int64_t at = r / N * vy.stride[0] + r % N * vy.stride[1] + c;
            bool known = ids[r] >= 0 && ids[r] < VOCAB && c < dim;
            if (known)
                CHECK(y.v[at] == rounded(y_type, table.v[ids[r] * dim + c]), "row %d of id %d: %g",
                      r, ids[r], (double)y.v[at]);
            else
                CHECK(isnan(y.v[at]), "row %d, column %d: %g", r, c, (double)y.v[at]);
        }
    if (outside) CUDA_OK(k_embed(vy, vt, device_ids, NULL, B, N, VOCAB, dim, 0)); // nobody to tell
    CUDA_OK(cudaFree(device_ids));
    CUDA_OK(cudaFree(bad));
    array_free(&table), array_free(&y);
}

static void test_embed(void)
{
    static const int dims[] = {1, 3, 8, 19, 64, 99, 136};
    for (int i = 0; i < 63; i++)
        check_embed((k_dtype)(i % 3), (k_dtype)(i / 3 % 3), dims[i % 7],
                    (int[]){0, 8, 3}[i / 7 % 3], i % 2);
}

static void check_bias(int64_t n, int heads, int buckets, int max_distance)
{
    array table = array_make(K_F32, (int64_t)buckets * heads, 0),
          bias = array_make(K_F32, heads * n * n, 0);
    array_fill(&table, random_unit, 1);
    const int exact = buckets / 2 / 2, n_first = buckets / 2 - exact - 1;
    int first[K_BIAS_FIRST_MAX];
    for (int j = 0; j < n_first; j++)
        for (first[j] = exact; t5_bucket(-first[j], buckets, max_distance) <= exact + j;)
            first[j]++;
    CUDA_OK(k_relative_bias(array_at(&bias, 0), array_at(&table, 0), heads, n, buckets, first,
                            n_first, 0));
    array_fetch(&bias);
    for (int64_t i = 0; i < bias.n; i++) {
        int64_t h = i / (n * n), q = i / n % n, k = i % n;
        float want = table.v[t5_bucket(k - q, buckets, max_distance) * heads + h];
        CHECK(bias.v[i] == want, "head %d, %d -> %d of %d", (int)h, (int)q, (int)k, (int)n);
    }
    array_free(&table), array_free(&bias);
}

static void test_relative_bias(void)
{
    static const int sizes[] = {1, 3, 8, 19, 99, 111, 333};
    for (int i = 0; i < 7; i++) check_bias(sizes[i], 1 + i % 3, 32, 128);
    check_bias(520, 2, 32, 128); // more columns than a tile
    check_bias(60, 3, 4, 2);
    check_bias(60, 3, 6, 20);
    check_bias(300, 1, 64, 256);
    check_bias(300, 1, 512, 200);
    CHECK(k_relative_bias(NULL, NULL, 1, 1, 4096, NULL, K_BIAS_FIRST_MAX + 1, 0) ==
              cudaErrorInvalidValue,
          "more borders than there is room for");
}

int main(int argc, char **argv)
{
    static const launch_test tests[] = {
        {"embed", test_embed},
        {"relative_bias", test_relative_bias},
    };
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
