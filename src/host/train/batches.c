// SPDX-License-Identifier: MIT
#include "train/batches.h"
#include "base/memory.h"
#include "base/philox.h"

swd_status batches_create(batches *b, int64_t n, int batch, int per_step, int n_scales,
                          uint64_t seed, swd_err *err)
{
    *b = (batches){.n = n,
                   .batch = batch,
                   .per_step = per_step,
                   .n_scales = n_scales,
                   .seed = seed,
                   .epoch = -1};
    return swd_malloc(&b->order, (size_t)n, sizeof *b->order, "the order of the data", err);
}

void batches_destroy(batches *b)
{
    free(b->order);
    *b = (batches){0};
}

int batches_scale(const batches *b, int64_t step)
{
    return (int)(step % b->n_scales);
}

// 64 random bits, a pure function of its arguments. Stream 0 is the order's.
static uint64_t draw(uint64_t seed, int stream, uint64_t a, uint64_t c)
{
    const uint32_t counter[4] = {(uint32_t)c, (uint32_t)(c >> 32), (uint32_t)a,
                                 (uint32_t)stream << 24 | (uint32_t)(a >> 32)};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t w[4];
    philox_4x32(w, counter, key);
    return (uint64_t)w[1] << 32 | w[0];
}

// Fisher and Yates' shuffle; the bias of the multiplication is n / 2^64.
static void shuffle(batches *b, int64_t epoch)
{
    for (int64_t i = 0; i < b->n; i++) b->order[i] = i;
    for (int64_t i = b->n - 1; i > 0; i--) {
        uint64_t r = draw(b->seed, 0, (uint64_t)epoch, (uint64_t)i);
        int64_t j = (int64_t)((unsigned __int128)r * (uint64_t)(i + 1) >> 64);
        int64_t kept = b->order[i];
        b->order[i] = b->order[j];
        b->order[j] = kept;
    }
    b->epoch = epoch;
}

static int64_t place(const batches *b, int64_t step, int j, int i)
{
    return (step * b->per_step + j) * b->batch + i;
}

int64_t batches_at(batches *b, int64_t step, int j, int i)
{
    int64_t at = place(b, step, j, i), epoch = at / b->n;
    if (epoch != b->epoch) shuffle(b, epoch);
    return b->order[at % b->n];
}

uint32_t batches_draw(const batches *b, int64_t step, int j, int i)
{
    return (uint32_t)place(b, step, j, i);
}

uint64_t batches_bits(const batches *b, int64_t step, int j, int i, int stream)
{
    return draw(b->seed, stream, 0, (uint64_t)place(b, step, j, i));
}

double batches_uniform(const batches *b, int64_t step, int j, int i, int stream)
{
    return (double)(batches_bits(b, step, j, i, stream) >> 11) * 0x1p-53;
}
