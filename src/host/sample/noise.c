// SPDX-License-Identifier: MIT
#include "sample/noise.h"
#include "base/memory.h"
#include "base/rng.h"
#include <assert.h>
#include <string.h>

struct noise_source {
    bool torch;
    int batch, batch_max;
    int64_t elements_max;
    uint64_t *seeds;    /* [batch_max] */
    torch_rng *engines; /* [batch_max], torch */
    float *host;        /* [batch_max, elements_max], torch */
};

swd_status noise_create(noise_source **out, bool torch, int batch_max, int64_t elements_max,
                        swd_err *err)
{
    *out = NULL;
    noise_source *n = NULL;
    SWD_TRY(swd_calloc(&n, 1, sizeof(*n), "a noise source", err), err);
    *n = (noise_source){.torch = torch, .batch_max = batch_max, .elements_max = elements_max};
    swd_status s = swd_calloc(&n->seeds, (size_t)batch_max, sizeof(*n->seeds), "seeds", err);
    if (torch) {
        if (s == SWD_OK)
            s = swd_calloc(&n->engines, (size_t)batch_max, sizeof(*n->engines), "random generators",
                           err);
        size_t numbers = 0;
        if (s == SWD_OK && !size_mul(&numbers, (size_t)batch_max, (size_t)elements_max))
            s = SWD_FAIL(err, SWD_ERR_MEMORY, "the noise of %d images is too large", batch_max);
        if (s == SWD_OK) s = swd_malloc(&n->host, numbers, sizeof(*n->host), "noise", err);
    }
    if (s != SWD_OK) {
        noise_destroy(&n);
        return swd_err_frame(err, s, __FILE__, __LINE__, __func__);
    }
    *out = n;
    return SWD_OK;
}

void noise_begin(noise_source *n, const uint64_t *seeds, int batch)
{
    assert(batch <= n->batch_max);
    n->batch = batch;
    memcpy(n->seeds, seeds, (size_t)batch * sizeof(*seeds));
    if (!n->torch) return;
    for (int b = 0; b < batch; b++) torch_rng_seed(&n->engines[b], seeds[b]);
}

uint64_t noise_seed(const noise_source *n, int image)
{
    assert(image < n->batch);
    return n->seeds[image];
}

bool noise_from_host(const noise_source *n)
{
    return n->torch;
}

swd_status noise_draw(swd_tensor y, noise_source *n, swd_exec *ex)
{
    assert(n->torch && y.ndim > 0 && y.shape[0] == n->batch);
    if (ex->dry) return SWD_OK;
    int64_t each = tensor_numel(y) / n->batch;
    assert(each <= n->elements_max);
    for (int b = 0; b < n->batch; b++) torch_rng_randn(&n->engines[b], n->host + b * each, each);
    return ex->backend->upload(ex->backend, y, n->host, ex->stream, ex->err);
}

void noise_destroy(noise_source **n)
{
    if (!*n) return;
    free((*n)->seeds);
    free((*n)->engines);
    free((*n)->host);
    free(*n);
    *n = NULL;
}
