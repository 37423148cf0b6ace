// SPDX-License-Identifier: MIT
// Slots of the text encoders' own ops.
#include "backend_cuda.h"
#include "backend/t5_bucket.h"

// An id outside the table is an error of the next synchronize.
static swd_status embed(swd_backend *b, swd_tensor y, swd_tensor table, swd_tensor ids,
                        swd_stream *s, swd_err *err)
{
    SWD_CUDA(k_embed(cuda_view(y), cuda_view(table), ids.data, cuda_of(b)->bad_id, y.shape[0],
                     y.shape[1], table.shape[0], table.shape[1], cuda_stream(b, s)),
             err);
    return SWD_OK;
}

// first[j]: the smallest distance of bucket `exact + 1 + j`. Buckets rise with the distance, and the last begins by max_distance.
static int bucket_borders(int *first, int64_t n_buckets, int max_distance)
{
    int64_t half = n_buckets / 2, exact = half / 2;
    int n = (int)(half - exact - 1);
    for (int j = 0; j < n && j < K_BIAS_FIRST_MAX; j++) {
        int64_t low = exact, high = max_distance;
        while (low < high) {
            int64_t mid = low + (high - low) / 2;
            if (t5_bucket(-mid, n_buckets, max_distance) > exact + j)
                high = mid;
            else
                low = mid + 1;
        }
        first[j] = (int)low;
    }
    return n;
}

static swd_status relative_bias(swd_backend *b, swd_tensor bias, swd_tensor table, int max_distance,
                                swd_stream *s, swd_err *err)
{
    int first[K_BIAS_FIRST_MAX], n = bucket_borders(first, table.shape[0], max_distance);
    if (n > K_BIAS_FIRST_MAX)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%lld buckets of relative positions; CUDA has %d",
                        (long long)table.shape[0], 4 * (K_BIAS_FIRST_MAX + 1));
    SWD_CUDA(k_relative_bias(bias.data, table.data, (int)bias.shape[0], bias.shape[1],
                             (int)table.shape[0], first, n, cuda_stream(b, s)),
             err);
    return SWD_OK;
}

void cuda_text_slots(swd_ops *ops)
{
    ops->embed = embed;
    ops->relative_bias = relative_bias;
}
