// SPDX-License-Identifier: MIT
#include "train/optimizer.h"
#include "backend/backward.h"
#include "base/memory.h"
#include <math.h>
#include <stdlib.h>

struct optimizer {
    params *p;
    swd_backend *be;
    optimizer_config c;
    swd_tensor m, v, ema;
    int64_t step; // done
};

double optimizer_rate(const optimizer_config *c, int64_t step)
{
    double rate = c->rate;
    if (step <= c->warmup) return rate * (double)step / (double)c->warmup;
    if (c->kind == RATE_CONSTANT) return rate;
    double total = (double)(c->steps - c->warmup), done = (double)(step - 1 - c->warmup);
    return done >= total ? 0 : rate * 0.5 * (1 + cos(3.14159265358979323846 * done / total));
}

static swd_status zeros(swd_tensor *out, optimizer *o, swd_err *err)
{
    swd_tensor t = params_values(o->p);
    t.data = o->be->alloc(o->be, tensor_bytes(t));
    if (!t.data)
        return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for the moments of %lld parameters",
                        (long long)params_numbers(o->p));
    *out = t;
    return op_fill(t, 0, &(swd_exec){.backend = o->be, .err = err});
}

swd_status optimizer_create(optimizer **out, params *p, const optimizer_config *c, swd_err *err)
{
    SWD_TRY(swd_calloc(out, 1, sizeof **out, "an optimizer", err), err);
    optimizer *o = *out;
    o->p = p;
    o->be = params_backend(p);
    o->c = *c;
    swd_status s = zeros(&o->m, o, err);
    if (s == SWD_OK) s = zeros(&o->v, o, err);
    if (s == SWD_OK && c->ema > 0) s = zeros(&o->ema, o, err);
    if (s == SWD_OK && c->ema > 0)
        s = op_copy(o->ema, params_values(p), &(swd_exec){.backend = o->be, .err = err});
    if (s != SWD_OK) optimizer_destroy(out);
    return s;
}

void optimizer_destroy(optimizer **o)
{
    if (!*o) return;
    void *memory[] = {(*o)->m.data, (*o)->v.data, (*o)->ema.data};
    for (int i = 0; i < 3; i++)
        if (memory[i]) (*o)->be->release((*o)->be, memory[i]);
    free(*o);
    *o = NULL;
}

// Of the mean gradient of all sets.
static swd_status norm_of(double *size, optimizer *const *o, int n_sets, int n, swd_err *err)
{
    double sum = 0;
    for (int i = 0; i < n_sets; i++) {
        double squares;
        swd_exec ex = {.backend = o[i]->be, .err = err};
        SWD_TRY(op_sum_squares(&squares, params_gradients(o[i]->p), &ex), err);
        sum += squares;
    }
    *size = sqrt(sum) / n;
    return SWD_OK;
}

static swd_status update(optimizer *o, double g_scale, swd_err *err)
{
    swd_exec ex = {.backend = o->be, .err = err};
    swd_tensor p = params_values(o->p);
    adamw_args a = {.p = p,
                    .m = o->m,
                    .v = o->v,
                    .g = params_gradients(o->p),
                    .lr = optimizer_rate(&o->c, o->step + 1),
                    .beta1 = o->c.beta1,
                    .beta2 = o->c.beta2,
                    .eps = o->c.eps,
                    .weight_decay = o->c.weight_decay,
                    .g_scale = g_scale,
                    .step = o->step + 1};
    SWD_TRY(op_adamw(&a, &ex), err);
    o->step++;
    if (tensor_present(o->ema))
        SWD_TRY(op_axpby(o->ema, (float)o->c.ema, o->ema, (float)(1 - o->c.ema), p, &ex), err);
    SWD_TRY(params_publish(o->p, err), err);
    return params_zero_gradients(o->p, err);
}

swd_status optimizer_step_together(optimizer *const *o, int n_sets, int n, double *size_out,
                                   swd_err *err)
{
    double size = 0, g_scale = 1.0 / n, clip = o[0]->c.clip;
    SWD_TRY(norm_of(&size, o, n_sets, n, err), err);
    if (size_out) *size_out = size;
    if (!isfinite(size)) {
        for (int i = 0; i < n_sets; i++) SWD_TRY(params_zero_gradients(o[i]->p, err), err);
        return SWD_FAIL(err, SWD_ERR_DEVICE,
                        "the gradient is no longer a number; lower the rate or the loss's weights");
    }
    if (clip > 0 && size > clip) g_scale *= clip / (size + 1e-6); // the 1e-6 is torch's
    for (int i = 0; i < n_sets; i++) SWD_TRY(update(o[i], g_scale, err), err);
    return SWD_OK;
}

swd_status optimizer_step(optimizer *o, int n, double *size, swd_err *err)
{
    return optimizer_step_together(&o, 1, n, size, err);
}

optimizer_state optimizer_state_of(optimizer *o)
{
    return (optimizer_state){o->m, o->v, o->ema, &o->step};
}
