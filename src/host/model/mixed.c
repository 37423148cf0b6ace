// SPDX-License-Identifier: MIT
#include "model/mixed.h"

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static int64_t tokens_of(const mixed_part *p, int patch)
{
    return p->latents.shape[2] / patch * (p->latents.shape[3] / patch);
}

swd_status mixed_prepare(mixed_batch *m, const mixed_part *parts, int n_parts, int patch,
                         int64_t text_tokens, swd_exec *ex)
{
    int n = 0;
    if (n_parts < 1 || n_parts > MIXED_PARTS_MAX)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "%d scales in one pass; at most %d", n_parts,
                        MIXED_PARTS_MAX);
    *m = (mixed_batch){.n_parts = n_parts};
    for (int i = 0; i < n_parts; i++) {
        int64_t tokens = tokens_of(&parts[i], patch), b = parts[i].latents.shape[0];
        m->part[i] = parts[i];
        m->chunk = common_divisor(m->chunk, tokens);
        if (n + b > MIXED_SAMPLES_MAX)
            return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "more than %d images in one pass",
                            MIXED_SAMPLES_MAX);
        for (; b > 0; b--, n++) {
            m->rows += tokens;
            m->starts[0][n + 1] = (int32_t)m->rows;
            m->starts[1][n + 1] = (int32_t)(text_tokens * (n + 1));
        }
    }
    m->samples.n = n;
    for (int s = 0; s < 2; s++) {
        swd_tensor t = exec1(ex, SWD_I32, n + 1);
        m->samples.starts[s] = m->starts[s];
        m->samples.on_device[s] = t;
        if (!ex->dry) RUN(ex->backend->upload(ex->backend, t, m->starts[s], ex->stream, ex->err));
    }
    return SWD_OK;
}

static int64_t rows_of(swd_tensor t)
{
    return t.shape[0] * t.shape[1];
}

swd_tensor mixed_flat(swd_tensor t, const mixed_batch *mix)
{
    if (!mix) return t;
    return tensor_reshape(t, (int64_t[]){1, rows_of(t), t.shape[2]}, 3);
}

swd_tensor mixed_chunks(swd_tensor t, const mixed_batch *mix)
{
    if (!mix) return t;
    return tensor_reshape(t, (int64_t[]){mix->rows / mix->chunk, mix->chunk, t.shape[2]}, 3);
}

swd_tensor mixed_part_of(swd_tensor t, int i, int patch, const mixed_batch *mix)
{
    int64_t first = 0, b = mix->part[i].latents.shape[0], n = tokens_of(&mix->part[i], patch);
    for (int k = 0; k < i; k++)
        first += mix->part[k].latents.shape[0] * tokens_of(&mix->part[k], patch);
    swd_tensor all = tensor_reshape(t, (int64_t[]){rows_of(t), t.shape[2]}, 2);
    return tensor_reshape(tensor_slice(all, 0, first, b * n), (int64_t[]){b, n, t.shape[2]}, 3);
}

swd_status mixed_spread(swd_tensor *out, swd_tensor vectors, const mixed_batch *mix, swd_exec *ex)
{
    *out = vectors;
    if (!mix) return SWD_OK;
    *out = exec2(ex, vectors.dtype, mix->rows / mix->chunk, vectors.shape[1]);
    for (int s = 0; s < mix->samples.n; s++) {
        int64_t first = mix->starts[0][s] / mix->chunk,
                n = mix->starts[0][s + 1] / mix->chunk - first;
        swd_tensor again = tensor_slice(vectors, 0, s, 1);
        again.shape[0] = n;
        again.stride[0] = 0;
        RUN(op_copy(tensor_slice(*out, 0, first, n), again, ex));
    }
    return SWD_OK;
}
