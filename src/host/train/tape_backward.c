// SPDX-License-Identifier: MIT
// One recorded call in reverse. A result's gradient is used up by it; where an input lies in the result's place, its gradient takes that
// place, too.
#include "train/tape_parts.h"

swd_status tape_pass(tape *t, swd_tensor to, float k, swd_tensor d, swd_exec *ex)
{
    swd_grad g;
    SWD_TRY(tape_grad(&g, t, to, ex), ex->err);
    if (!tensor_present(g.t)) return SWD_OK;
    if (g.add) return op_axpby(g.t, 1, g.t, k, d, ex);
    return k == 1.0f ? op_copy(g.t, d, ex) : op_axpby(g.t, k, d, 0, tensor_none(), ex);
}

// What was y's gradient, aside if an input's takes its place.
static swd_status take(swd_tensor *d, tape *t, swd_tensor y, bool in_place, swd_exec *ex)
{
    *d = tape_grad_read(t, y);
    if (!in_place || !tensor_present(*d)) return SWD_OK;
    swd_tensor copy = exec_alloc(ex, d->dtype, d->shape, d->ndim);
    SWD_TRY(op_copy(copy, *d, ex), ex->err);
    *d = copy;
    return tape_grad_clear(t, y, ex);
}

// The gradient of x from that of y, whose calls have one of each.
static swd_status norm(tape *t, const record *r, swd_exec *ex)
{
    const norm_args *n = &r->call.norm;
    norm_backward_args a = {.x = r->saved[0], .factor = {r->saved[1]}, .eps = n->eps};
    a.rms = r->call.op == OP_RMS_NORM;
    bool in_place = tensor_same_view(n->y, n->x);
    SWD_TRY(take(&a.dy[0], t, n->y, in_place, ex), ex->err);
    if (!tensor_present(a.dy[0])) return SWD_OK;
    if (r->needs & 1) SWD_TRY(tape_grad(&a.dx, t, n->x, ex), ex->err);
    if (r->needs & 2) SWD_TRY(tape_grad(&a.dfactor[0], t, n->weight, ex), ex->err);
    if (r->needs & 4) SWD_TRY(tape_grad(&a.dshift[0], t, n->bias, ex), ex->err);
    SWD_TRY(op_norm_backward(&a, ex), ex->err);
    return in_place ? SWD_OK : tape_grad_clear(t, n->y, ex);
}

static swd_status modulate(tape *t, const record *r, swd_exec *ex)
{
    const modulate_args *m = &r->call.modulate;
    norm_backward_args a = {.x = r->saved[0], .eps = m->eps, .per_sample = true};
    bool in_place = tensor_same_view(m->y[0], m->x);
    int n = 0;
    for (int i = 0; i < 2; i++) {
        if (!tensor_present(m->y[i])) continue;
        SWD_TRY(take(&a.dy[n], t, m->y[i], in_place && i == 0, ex), ex->err);
        if (!tensor_present(a.dy[n])) continue;
        a.factor[n] = r->saved[1 + i];
        if (r->needs & 2u << i) SWD_TRY(tape_grad(&a.dfactor[n], t, m->scale[i], ex), ex->err);
        if (r->needs & 8u << i) SWD_TRY(tape_grad(&a.dshift[n], t, m->shift[i], ex), ex->err);
        n++;
    }
    if (n == 0) return SWD_OK;
    if (r->needs & 1) SWD_TRY(tape_grad(&a.dx, t, m->x, ex), ex->err);
    SWD_TRY(op_norm_backward(&a, ex), ex->err);
    for (int i = 0; i < 2; i++)
        if (tensor_present(m->y[i]) && !(in_place && i == 0))
            SWD_TRY(tape_grad_clear(t, m->y[i], ex), ex->err);
    return SWD_OK;
}

// In place: the gradient of what came in takes the place of that of what went out, row by row.
static swd_status qk_norm(tape *t, const record *r, swd_exec *ex)
{
    const qk_norm_args *n = &r->call.qk_norm;
    for (int i = 0; i < 2; i++) {
        norm_backward_args a = {
            .x = r->saved[i], .factor = {r->saved[2 + i]}, .eps = n->eps, .rms = true};
        swd_tensor y = i ? n->k : n->q, w = i ? n->weight_k : n->weight_q;
        if (!tensor_present(w)) continue;
        bool train = r->needs & 4u << i;
        SWD_TRY(take(&a.dy[0], t, y, train, ex), ex->err);
        if (!tensor_present(a.dy[0])) continue;
        if (train) SWD_TRY(tape_grad(&a.dfactor[0], t, w, ex), ex->err);
        if (r->needs & 1u << i) {
            if (train)
                SWD_TRY(tape_grad(&a.dx, t, y, ex), ex->err);
            else
                a.dx.t = a.dy[0];
        }
        SWD_TRY(op_norm_backward(&a, ex), ex->err);
    }
    return SWD_OK;
}

static swd_status attention(tape *t, const record *r, swd_exec *ex)
{
    attention_backward_args a = {.forward = r->call.attention};
    attention_args *f = &a.forward;
    bool any = false;
    for (int i = 0; i < f->n_streams; i++) {
        const attention_args *c = &r->call.attention;
        f->q[i] = r->saved[4 * i], f->k[i] = r->saved[4 * i + 1], f->v[i] = r->saved[4 * i + 2],
        f->o[i] = r->saved[4 * i + 3];
        a.d_o[i] = tape_grad_read(t, c->o[i]);
        if (!tensor_present(a.d_o[i])) f->q[i] = f->o[i] = tensor_none(); // nobody looked at it
        any = any || tensor_present(a.d_o[i]);
    }
    for (int i = 0; i < f->n_streams && any; i++) {
        const attention_args *c = &r->call.attention;
        if (r->needs & 1u << 3 * i && tensor_present(f->q[i]))
            SWD_TRY(tape_grad(&a.dq[i], t, c->q[i], ex), ex->err);
        if (r->needs & 2u << 3 * i) SWD_TRY(tape_grad(&a.dk[i], t, c->k[i], ex), ex->err);
        if (r->needs & 4u << 3 * i) SWD_TRY(tape_grad(&a.dv[i], t, c->v[i], ex), ex->err);
    }
    if (any) SWD_TRY(op_attention_backward(&a, ex), ex->err);
    for (int i = 0; i < f->n_streams && any; i++)
        if (tensor_present(r->call.attention.o[i]))
            SWD_TRY(tape_grad_clear(t, r->call.attention.o[i], ex), ex->err);
    return SWD_OK;
}

// y = a x + b z
static swd_status combination(tape *t, const record *r, float a, float b, swd_exec *ex)
{
    swd_tensor y = r->call.plain.y, x = r->call.plain.x, z = r->call.plain.z, d;
    bool in_place = tensor_same_view(y, x) || tensor_same_view(y, z);
    bool same = tensor_same_view(y, x) && a == 1.0f && !tensor_same_view(y, z);
    SWD_TRY(take(&d, t, y, in_place && !same, ex), ex->err);
    if (!tensor_present(d)) return SWD_OK;
    if (r->needs & 2) SWD_TRY(tape_pass(t, z, b, d, ex), ex->err);
    if (r->needs & 1 && !same) SWD_TRY(tape_pass(t, x, a, d, ex), ex->err);
    return in_place ? SWD_OK : tape_grad_clear(t, y, ex);
}

// y += gate * x
static swd_status gate_residual(tape *t, const record *r, swd_exec *ex)
{
    swd_tensor d = tape_grad_read(t, r->call.plain.y);
    swd_grad dx = {.t = {0}}, dgate = {.t = {0}};
    if (!tensor_present(d)) return SWD_OK;
    if (tensor_same_view(r->call.plain.y, r->call.plain.x)) {
        SWD_TRY(take(&d, t, r->call.plain.y, true, ex), ex->err);
        SWD_TRY(tape_pass(t, r->call.plain.y, 1, d, ex), ex->err);
    }
    if (r->needs & 2) SWD_TRY(tape_grad(&dx, t, r->call.plain.x, ex), ex->err);
    if (r->needs & 4) SWD_TRY(tape_grad(&dgate, t, r->call.plain.z, ex), ex->err);
    return op_gate_backward(dx, dgate, d, r->saved[1], r->saved[2], ex);
}

// One result from one input, not in its place.
static swd_status one_to_one(tape *t, const record *r, swd_exec *ex)
{
    swd_tensor y = r->call.plain.y, x = r->call.plain.x, d;
    bool in_place = tensor_same_view(y, x);
    SWD_TRY(take(&d, t, y, in_place, ex), ex->err);
    if (!tensor_present(d)) return SWD_OK;
    swd_grad dx;
    SWD_TRY(tape_grad(&dx, t, x, ex), ex->err);
    switch (r->call.op) {
    case OP_ACTIVATION:
        SWD_TRY(op_activation_backward(dx, r->saved[0], d, r->call.plain.act, ex), ex->err);
        break;
    case OP_PATCHIFY:
        SWD_TRY(op_patchify_backward(dx, d, r->call.plain.n, ex), ex->err);
        break;
    case OP_UNPATCHIFY:
        SWD_TRY(op_unpatchify_backward(dx, d, r->call.plain.n, ex), ex->err);
        break;
    default:
        SWD_TRY(op_mean_tokens_backward(dx, d, ex), ex->err);
    }
    return in_place ? SWD_OK : tape_grad_clear(t, y, ex);
}

// x0 and y may both have a gradient; x0 = x - sigma v is a resize to its own size without noise.
static swd_status resize(tape *t, const record *r, swd_exec *ex)
{
    const resize_renoise_args *a = &r->call.resize;
    swd_grad dx = {.t = {0}}, dv = {.t = {0}};
    swd_tensor d = tape_grad_read(t, a->y);
    if (tensor_present(a->x0) && tensor_present(tape_grad_read(t, a->x0)))
        return SWD_FAIL(ex->err, SWD_ERR_UNSUPPORTED,
                        "op_resize_renoise: the x0 of a scale has no gradient");
    if (!tensor_present(d)) return SWD_OK;
    if (r->needs & 1) SWD_TRY(tape_grad(&dx, t, a->x, ex), ex->err);
    if (r->needs & 2) SWD_TRY(tape_grad(&dv, t, a->v, ex), ex->err);
    SWD_TRY(op_resize_renoise_backward(dx, dv, a, d, ex), ex->err);
    return tape_grad_clear(t, a->y, ex);
}

swd_status tape_backward_call(tape *t, const record *r, swd_exec *ex)
{
    float g = r->call.plain.a;
    size_t mark = exec_mark(ex);
    swd_status s = SWD_OK;
    switch (r->call.op) {
    case OP_LINEAR:
        s = tape_linear_backward(t, r, ex);
        break;
    case OP_ATTENTION:
        s = attention(t, r, ex);
        break;
    case OP_LAYERNORM:
    case OP_RMS_NORM:
        s = norm(t, r, ex);
        break;
    case OP_MODULATE:
        s = modulate(t, r, ex);
        break;
    case OP_QK_NORM:
        s = qk_norm(t, r, ex);
        break;
    case OP_GATE_RESIDUAL:
        s = gate_residual(t, r, ex);
        break;
    case OP_AXPBY:
        s = combination(t, r, g, r->call.plain.b, ex);
        break;
    case OP_COPY:
        s = combination(t, r, 1, 0, ex);
        break;
    case OP_GUIDANCE_COMBINE:
        s = combination(t, r, g, 1 - g, ex);
        break;
    case OP_RESIZE_RENOISE:
        s = resize(t, r, ex);
        break;
    case OP_ADD_POSITION: // a constant was added in place
        break;
    default:
        s = one_to_one(t, r, ex);
    }
    exec_rewind(ex, mark);
    return s;
}
