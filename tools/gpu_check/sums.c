// SPDX-License-Identifier: MIT
#include "sums.h"
#include "base/memory.h"
#include <string.h>

enum { NUMBERS = 1 << 20 };

static float number(int i)
{
    return (float)(i % 1021) - 0.5f;
}

static swd_status pass(const float **wrong, float *x, swd_tensor t, swd_backend *b, swd_err *err)
{
    const swd_collective *c = b->collective;
    char id[COLLECTIVE_ID_BYTES];
    SWD_TRY(c->make_id(b, id, err), err);
    SWD_TRY(c->join(b, id, 0, 1, err), err);
    SWD_TRY(b->upload(b, t, x, NULL, err), err);
    SWD_TRY(c->sum(b, t, err), err);
    SWD_TRY(c->broadcast(b, t, err), err);
    SWD_TRY(b->download(b, x, t, NULL, err), err);
    SWD_TRY(b->synchronize(b, NULL, err), err);
    *wrong = NULL;
    for (int i = 0; i < NUMBERS && !*wrong; i++)
        if (x[i] != number(i)) *wrong = &x[i];
    return SWD_OK;
}

void check_sums(report *r, const options *o, swd_backend *b)
{
    static const char name[] = "one process by NCCL";
    const swd_collective *c = b->collective;
    const float *wrong = NULL;
    swd_err err = {0};
    float *x = NULL;
    if (!options_pass(o, name)) return;
    if ((o->vendor && strcmp(o->vendor, "none") == 0) || !c || !c->present(b)) {
        report_skip(r, "sums", "NCCL is not found, or not looked for");
        return;
    }
    swd_tensor t = tensor1(b->alloc(b, NUMBERS * sizeof *x), SWD_F32, NUMBERS);
    swd_status s = swd_malloc(&x, NUMBERS, sizeof *x, "numbers", &err);
    for (int i = 0; i < NUMBERS && s == SWD_OK; i++) x[i] = number(i);
    if (s == SWD_OK && !t.data) s = SWD_FAIL(&err, SWD_ERR_MEMORY, "no memory for numbers");
    if (s == SWD_OK) s = pass(&wrong, x, t, b, &err);
    report_check(r, "sums", name,
                 s != SWD_OK ? err.message
                 : wrong     ? "a sum of one process changes it"
                             : NULL);
    c->leave(b);
    if (t.data) b->release(b, t.data);
    free(x);
    report_summary(r, "sums");
}
