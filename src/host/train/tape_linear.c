// SPDX-License-Identifier: MIT
// Linear layers on the tape, taken apart where a piece is needed later or a trained part comes in between:
//
//     low = scale x A^T      z = x W^T + bias + low B^T      v = act(z)      y = residual + gate v
//
//     dv = gate dy    dgate = sum dy v    dz = dv act'(z)
//     dlow = scale dz B    dB += dz^T low    dA += dlow^T x    dW += dz^T x    dbias += sum dz    dx = dz W + dlow A
//
// saved: x, gate, z, v, low.
#include "train/tape_parts.h"

enum { X, GATE, Z, V, LOW };                              // of saved
enum { NEEDS_X = 1, NEEDS_RESIDUAL = 2, NEEDS_GATE = 4 }; // of needs

/* ---- matrices ---- */

static swd_tensor transposed(swd_tensor t)
{
    int64_t n = t.shape[0], s = t.stride[0];
    t.shape[0] = t.shape[1], t.stride[0] = t.stride[1];
    t.shape[1] = n, t.stride[1] = s;
    return t;
}

// [.., D] as [rows, D]; false if the rows do not lie at one stride.
static bool as_rows(swd_tensor *out, swd_tensor t)
{
    int64_t d = t.shape[t.ndim - 1], rows = tensor_numel(t) / d, stride = d;
    int seen = 0;
    for (int i = t.ndim - 2; i >= 0; i--) {
        if (t.shape[i] == 1) continue;
        if (!seen++)
            stride = t.stride[i];
        else if (t.stride[i] != stride)
            return false;
        stride *= t.shape[i];
    }
    int64_t pitch = d;
    for (int i = t.ndim - 2; i >= 0; i--)
        if (t.shape[i] != 1) {
            pitch = t.stride[i];
            break;
        }
    *out = tensor2(t.data, t.dtype, rows, d);
    out->stride[0] = pitch;
    out->stride[1] = 1;
    return true;
}

// The rows of t in the type of the products: t itself, or a copy in the slab.
static swd_status operand(swd_tensor *out, swd_tensor t, swd_dtype compute, swd_exec *ex)
{
    if (t.dtype == compute && as_rows(out, t)) return SWD_OK;
    swd_tensor copy = exec_alloc(ex, compute, t.shape, t.ndim);
    SWD_TRY(op_copy(copy, t, ex), ex->err);
    as_rows(out, copy);
    return SWD_OK;
}

static swd_status gemm(swd_tensor c, swd_tensor a, swd_tensor b, swd_tensor bias, bool add,
                       swd_exec *ex)
{
    return op_gemm(&(gemm_args){.c = c, .a = a, .b = b, .bias = bias, .add = add}, ex);
}

static swd_status scale(swd_tensor t, float k, swd_exec *ex)
{
    return k == 1.0f ? SWD_OK : op_axpby(t, k, t, 0, tensor_none(), ex);
}

/* ---- forward ---- */

// z [.., N] = the layer with its trained part. low: where x A^T goes, absent for full ones.
static swd_status product(swd_tensor z, swd_tensor x, const linear_args *a,
                          const trained_layer *layer, swd_tensor low, swd_exec *ex)
{
    if (!layer) return op_linear(z, x, a->w, SWD_ACT_NONE, ex);
    swd_dtype compute = linear_facts(a->w)->compute;
    size_t mark = exec_mark(ex);
    swd_tensor zm, xm;
    bool direct = (z.dtype == SWD_F32 || z.dtype == compute) && as_rows(&zm, z);
    swd_tensor staged = direct ? z : exec_alloc(ex, SWD_F32, z.shape, z.ndim);
    as_rows(&zm, staged);
    SWD_TRY(operand(&xm, x, compute, ex), ex->err);
    if (layer->full) {
        SWD_TRY(gemm(zm, xm, transposed(layer->weight), layer->bias, false, ex), ex->err);
    } else {
        SWD_TRY(op_linear(staged, x, a->w, SWD_ACT_NONE, ex), ex->err);
        SWD_TRY(gemm(low, xm, transposed(layer->a), tensor_none(), false, ex), ex->err);
        SWD_TRY(scale(low, layer->scale, ex), ex->err);
        for (int i = 0; i < layer->n_parts; i++)
            SWD_TRY(gemm(tensor_slice(zm, 1, layer->part[i].first, layer->part[i].rows),
                         tensor_slice(low, 1, i * layer->rank, layer->rank),
                         transposed(layer->part[i].b), tensor_none(), true, ex),
                    ex->err);
    }
    if (!direct) SWD_TRY(op_copy(z, staged, ex), ex->err);
    exec_rewind(ex, mark);
    return SWD_OK;
}

// y = residual + gate * v
static swd_status residual(const linear_args *a, swd_tensor v, swd_exec *ex)
{
    if (!tensor_present(a->gate)) return op_axpby(a->y, 1, a->residual, 1, v, ex);
    if (!tensor_same_view(a->y, a->residual)) SWD_TRY(op_copy(a->y, a->residual, ex), ex->err);
    return op_gate_residual(a->y, v, a->gate, ex);
}

// z, v and low; what the record keeps lies first, the rest is given back.
static swd_status pieces(const linear_args *a, const trained_layer *layer, record *r, swd_exec *ex)
{
    swd_dtype compute = linear_facts(a->w)->compute;
    int64_t rows = tensor_numel(a->x) / linear_facts(a->w)->k;
    bool has_residual = tensor_present(a->residual), has_act = a->act != SWD_ACT_NONE,
         has_low = layer && !layer->full, keep_v = r && r->needs & NEEDS_GATE,
         keep_low = r && r->train;
    swd_tensor z = a->y, v = a->y, low = {0};
    size_t mark = 0;
    for (int scratch = 0; scratch < 2; scratch++) {
        if (scratch) mark = exec_mark(ex);
        if (has_residual && keep_v == !scratch) v = exec_alloc(ex, SWD_F32, a->y.shape, a->y.ndim);
        if (has_act && (r != NULL) == !scratch)
            z = exec_alloc(ex, has_residual ? SWD_F32 : a->y.dtype, a->y.shape, a->y.ndim);
        if (has_low && keep_low == !scratch)
            low = exec2(ex, compute, rows, layer->rank * layer->n_parts);
    }
    if (!has_act) z = v;
    if (r) r->saved[Z] = z, r->saved[V] = v, r->saved[LOW] = low;
    SWD_TRY(product(z, a->x, a, layer, low, ex), ex->err);
    if (has_act) SWD_TRY(op_activation(v, z, a->act, ex), ex->err);
    if (has_residual) SWD_TRY(residual(a, v, ex), ex->err);
    exec_rewind(ex, mark);
    return SWD_OK;
}

static const trained_layer *find_layer(tape *t, const swd_linear *w, bool *train)
{
    *train = false;
    for (int i = 0; i < t->n_active; i++) {
        const trained_layer *l = layer_set_find(t->active[i].set, w);
        if (!l) continue;
        *train = t->active[i].train;
        return l;
    }
    return NULL;
}

swd_status tape_linear(tape *t, const op_call *c, swd_exec *ex)
{
    const linear_args *a = &c->linear;
    bool train;
    const trained_layer *layer = find_layer(t, a->w, &train);
    unsigned needs = 0;
    if (t->mode != TAPE_OFF)
        needs = (tape_needs(t, a->x) ? NEEDS_X : 0u) |
                (tape_needs(t, a->residual) ? NEEDS_RESIDUAL : 0u) |
                (tape_needs(t, a->gate) ? NEEDS_GATE : 0u);
    else
        train = false;
    bool learns = needs || train;
    record *r = NULL;
    if (learns && t->mode == TAPE_ON) {
        SWD_TRY(tape_push(&r, t, c), ex->err);
        r->needs = needs;
        r->layer = layer;
        r->train = train;
        if (train) SWD_TRY(tape_save(t, &r->saved[X], a->x), ex->err);
        if (needs & NEEDS_X || train) SWD_TRY(tape_save(t, &r->saved[GATE], a->gate), ex->err);
    }
    SWD_TRY(tape_writes(t, a->y, ex), ex->err);
    // the same pieces whether this call is recorded or will be run again: so the same bits
    bool apart = layer || (learns && a->act != SWD_ACT_NONE) || needs & NEEDS_GATE;
    swd_hook *hook = tape_off(ex);
    swd_status s = apart ? pieces(a, layer, r, ex)
                   : tensor_present(a->residual)
                       ? op_linear_residual(a->y, a->residual, a->gate, a->x, a->w, ex)
                       : op_linear(a->y, a->x, a->w, a->act, ex);
    ex->hook = hook;
    SWD_TRY(s, ex->err);
    return tape_wrote(t, a->y, learns);
}

/* ---- backward ---- */

// dz of the product's rows in the compute type, from dy; scratch stays until the caller rewinds.
static swd_status back_to_product(swd_tensor *dz, tape *t, const record *r, swd_tensor dy,
                                  swd_exec *ex)
{
    const linear_args *a = &r->call.linear;
    swd_dtype compute = linear_facts(a->w)->compute;
    swd_tensor d = dy;
    if (tensor_present(a->gate)) {
        swd_grad dv = {.t = {0}}, dgate = {.t = {0}};
        if (r->needs & NEEDS_GATE) SWD_TRY(tape_grad(&dgate, t, a->gate, ex), ex->err);
        if (r->needs & NEEDS_X || r->train) {
            dv.t = exec_alloc(ex, compute, a->y.shape, a->y.ndim);
            d = dv.t;
        }
        SWD_TRY(op_gate_backward(dv, dgate, dy, r->saved[V], r->saved[GATE], ex), ex->err);
    }
    if (a->act != SWD_ACT_NONE) {
        swd_tensor to = exec_alloc(ex, compute, a->y.shape, a->y.ndim);
        SWD_TRY(op_activation_backward((swd_grad){to, false}, r->saved[Z], d, a->act, ex), ex->err);
        d = to;
    }
    return operand(dz, d, compute, ex);
}

// Gradients of the layer's own numbers; dlow [rows, parts * rank] for dx.
static swd_status train_layer(swd_tensor *dlow, const record *r, swd_tensor dz, swd_exec *ex)
{
    const trained_layer *l = r->layer;
    swd_dtype compute = dz.dtype;
    swd_tensor x = {0};
    *dlow = tensor_none();
    if (!l) return SWD_OK;
    if (r->train) SWD_TRY(operand(&x, r->saved[X], compute, ex), ex->err);
    if (l->full) {
        if (!r->train) return SWD_OK;
        if (tensor_present(l->dbias))
            SWD_TRY(op_column_sums((swd_grad){l->dbias, true}, dz, ex), ex->err);
        return gemm(l->dweight, transposed(dz), x, tensor_none(), true, ex);
    }
    *dlow = exec2(ex, compute, dz.shape[0], l->rank * l->n_parts);
    for (int i = 0; i < l->n_parts; i++) {
        swd_tensor part = tensor_slice(dz, 1, l->part[i].first, l->part[i].rows);
        SWD_TRY(gemm(tensor_slice(*dlow, 1, i * l->rank, l->rank), part, l->part[i].b,
                     tensor_none(), false, ex),
                ex->err);
        if (r->train)
            SWD_TRY(gemm(l->part[i].db, transposed(part),
                         tensor_slice(r->saved[LOW], 1, i * l->rank, l->rank), tensor_none(), true,
                         ex),
                    ex->err);
    }
    SWD_TRY(scale(*dlow, l->scale, ex), ex->err);
    return r->train ? gemm(l->da, transposed(*dlow), x, tensor_none(), true, ex) : SWD_OK;
}

static swd_status back_to_input(tape *t, const record *r, swd_tensor dz, swd_tensor dlow,
                                swd_exec *ex)
{
    const linear_args *a = &r->call.linear;
    const trained_layer *l = r->layer;
    swd_grad dx;
    swd_tensor w, to;
    SWD_TRY(tape_grad(&dx, t, a->x, ex), ex->err);
    if (l && l->full)
        w = l->weight;
    else
        SWD_TRY(tape_plain_weight(&w, t, a->w), ex->err);
    bool direct = (dx.t.dtype == SWD_F32 || dx.t.dtype == dz.dtype) && as_rows(&to, dx.t);
    if (!direct) to = exec2(ex, SWD_F32, dz.shape[0], w.shape[1]);
    SWD_TRY(gemm(to, dz, w, tensor_none(), direct && dx.add, ex), ex->err);
    if (tensor_present(dlow)) SWD_TRY(gemm(to, dlow, l->a, tensor_none(), true, ex), ex->err);
    if (direct) return SWD_OK;
    swd_tensor shaped = tensor_make(to.data, to.dtype, dx.t.shape, dx.t.ndim);
    return op_axpby(dx.t, 1, shaped, 1, dx.add ? dx.t : tensor_none(), ex);
}

swd_status tape_linear_backward(tape *t, const record *r, swd_exec *ex)
{
    const linear_args *a = &r->call.linear;
    swd_tensor dy = tape_grad_read(t, a->y), dz, dlow;
    if (!tensor_present(dy)) return SWD_OK;
    bool in_place = tensor_same_view(a->y, a->residual);
    size_t mark = exec_mark(ex);
    if (r->needs & NEEDS_X || r->train) {
        SWD_TRY(back_to_product(&dz, t, r, dy, ex), ex->err);
        SWD_TRY(train_layer(&dlow, r, dz, ex), ex->err);
        if (r->needs & NEEDS_X) SWD_TRY(back_to_input(t, r, dz, dlow, ex), ex->err);
    } else if (r->needs & NEEDS_GATE) {
        SWD_TRY(back_to_product(&dz, t, r, dy, ex), ex->err);
    }
    exec_rewind(ex, mark);
    if (in_place) return SWD_OK;
    if (r->needs & NEEDS_RESIDUAL) SWD_TRY(tape_pass(t, a->residual, 1, dy, ex), ex->err);
    return tape_grad_clear(t, a->y, ex);
}
