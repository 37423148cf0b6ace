// SPDX-License-Identifier: MIT
// The tape as a hook: each call is run by the slots, and noted if something that learns is behind it.
#include "base/memory.h"
#include "train/tape_parts.h"
#include <string.h>

enum { INPUTS_MAX = 6 };

// The tensors of a call, by what the backward pass wants of them.
typedef struct operands {
    swd_tensor in[INPUTS_MAX]; // bit i of record.needs; an absent one needs nothing
    int n_in;
    swd_tensor out[3];
    int n_out;
    unsigned keep; // bit i: the value of in[i] goes into saved[i]
} operands;

// Everything but linear layers and attention. In place: what is written is an input, too.
static operands operands_of(const op_call *c)
{
    const norm_args *n = &c->norm;
    const modulate_args *m = &c->modulate;
    const qk_norm_args *k = &c->qk_norm;
    switch (c->op) {
    case OP_LAYERNORM:
    case OP_RMS_NORM:
        return (operands){{n->x, n->weight, n->bias}, 3, {n->y}, 1, 3};
    case OP_MODULATE:
        return (operands){{m->x, m->scale[0], m->scale[1], m->shift[0], m->shift[1]},
                          5,
                          {m->y[0], m->y[1]},
                          2,
                          7};
    case OP_QK_NORM:
        return (operands){{k->q, k->k, k->weight_q, k->weight_k}, 4, {k->q, k->k}, 2, 15};
    case OP_GATE_RESIDUAL:
        return (operands){{c->plain.y, c->plain.x, c->plain.z}, 3, {c->plain.y}, 1, 6};
    case OP_ACTIVATION:
        return (operands){{c->plain.x}, 1, {c->plain.y}, 1, 1};
    case OP_AXPBY:
    case OP_GUIDANCE_COMBINE:
        return (operands){{c->plain.x, c->plain.z}, 2, {c->plain.y}, 1, 0};
    case OP_COPY:
    case OP_PATCHIFY:
    case OP_UNPATCHIFY:
    case OP_MEAN_TOKENS:
        return (operands){{c->plain.x}, 1, {c->plain.y}, 1, 0};
    case OP_ADD_POSITION:
        return (operands){{c->plain.y}, 1, {c->plain.y}, 1, 0};
    case OP_RESIZE_RENOISE:
        return (operands){{c->resize.x, c->resize.v}, 2, {c->resize.y, c->resize.x0}, 2, 0};
    default: // constants
        return (operands){.out = {c->plain.y}, .n_out = 1};
    }
}

// The call again, on an exec without hook.
static swd_status run(const op_call *c, swd_exec *ex)
{
    const norm_args *n = &c->norm;
    const modulate_args *m = &c->modulate;
    const qk_norm_args *k = &c->qk_norm;
    swd_tensor y = c->plain.y, x = c->plain.x, z = c->plain.z;
    switch (c->op) {
    case OP_LAYERNORM:
        return op_layernorm(n->y, n->x, n->weight, n->bias, n->eps, ex);
    case OP_RMS_NORM:
        return op_rms_norm(n->y, n->x, n->weight, n->eps, ex);
    case OP_MODULATE:
        if (tensor_present(m->y[1]))
            return op_layernorm_modulate2(m->y, m->x, m->shift, m->scale, m->eps, ex);
        return op_layernorm_modulate(m->y[0], m->x, m->shift[0], m->scale[0], m->eps, ex);
    case OP_QK_NORM:
        return op_qk_norm_rope(k->q, k->k, k->weight_q, k->weight_k, k->eps, k->cos, k->sin, ex);
    case OP_GATE_RESIDUAL:
        return op_gate_residual(y, x, z, ex);
    case OP_ACTIVATION:
        return op_activation(y, x, c->plain.act, ex);
    case OP_AXPBY:
        return op_axpby(y, c->plain.a, x, c->plain.b, z, ex);
    case OP_COPY:
        return op_copy(y, x, ex);
    case OP_FILL:
        return op_fill(y, c->plain.a, ex);
    case OP_TIMESTEP_SINUSOID:
        return op_timestep_sinusoid(y, x, ex);
    case OP_PATCHIFY:
        return op_patchify(y, x, c->plain.n, ex);
    case OP_UNPATCHIFY:
        return op_unpatchify(y, x, c->plain.n, ex);
    case OP_ADD_POSITION:
        return op_add_position(y, x, c->plain.n, c->plain.m, ex);
    case OP_GUIDANCE_COMBINE:
        return op_guidance_combine(y, x, z, c->plain.a, ex);
    case OP_RESIZE_RENOISE:
        return op_resize_renoise(&c->resize, ex);
    case OP_NOISE:
        return op_noise(y, x, ex);
    case OP_MEAN_TOKENS:
        return op_mean_tokens(y, x, ex);
    default:
        return SWD_FAIL(ex->err, SWD_ERR_UNSUPPORTED, "a call that the tape does not know");
    }
}

swd_status tape_push(record **out, tape *t, const op_call *c)
{
    SWD_TRY(swd_grow(&t->record, &t->record_room, t->n_records + 1, sizeof *t->record, "the tape",
                     t->err),
            t->err);
    SWD_TRY(arena_alloc(out, t->arena, 1, sizeof **out, t->err), t->err);
    memset(*out, 0, sizeof **out);
    (*out)->call = *c;
    (*out)->n_saves = (int)t->n_saves;
    t->record[t->n_records++] = *out;
    return SWD_OK;
}

swd_status tape_wrote(tape *t, swd_tensor y, bool needs)
{
    region *r = tape_region(t, y.data);
    if (t->mode == TAPE_OFF) return SWD_OK;
    if (!r && needs)
        return SWD_FAIL(t->err, SWD_ERR_ARGUMENT,
                        "a result that learns lies outside of the slab, where no gradient is");
    if (!r) return SWD_OK;
    if (needs) {
        r->needs = true;
    } else if (r->needs && t->mode == TAPE_ON) { // a constant over what had a gradient
        record *forget;
        SWD_TRY(tape_push(&forget, t, &(op_call){.op = OP_COPY, .plain = {.y = y}}), t->err);
        forget->kind = RECORD_FORGET;
    }
    return SWD_OK;
}

// Is a factor's value wanted? Of norms: the weight where x learns; x wherever anything does.
static unsigned kept(const op_call *c, const operands *o, unsigned needs)
{
    if (c->op == OP_GATE_RESIDUAL) // y for the gate, the gate for y
        return (needs & 4 ? 2u : 0) | (needs & 2 ? 4u : 0);
    return needs ? o->keep : 0;
}

static swd_status plain_call(tape *t, const op_call *c, swd_exec *ex)
{
    operands o = operands_of(c);
    unsigned needs = 0;
    if (c->op == OP_QK_NORM && tensor_present(c->qk_norm.cos))
        return SWD_FAIL(ex->err, SWD_ERR_UNSUPPORTED, "op_qk_norm_rope has no gradient");
    if (t->mode != TAPE_OFF)
        for (int i = 0; i < o.n_in; i++) needs |= (unsigned)tape_needs(t, o.in[i]) << i;
    if (needs && t->mode == TAPE_ON) {
        record *r;
        SWD_TRY(tape_push(&r, t, c), ex->err);
        r->needs = needs;
        unsigned keep = kept(c, &o, needs);
        for (int i = 0; i < o.n_in; i++)
            if (keep & 1u << i) SWD_TRY(tape_save(t, &r->saved[i], o.in[i]), ex->err);
    }
    for (int i = 0; i < o.n_out; i++)
        if (tensor_present(o.out[i])) SWD_TRY(tape_writes(t, o.out[i], ex), ex->err);
    swd_hook *hook = tape_off(ex);
    swd_status s = run(c, ex);
    ex->hook = hook;
    SWD_TRY(s, ex->err);
    for (int i = 0; i < o.n_out; i++)
        if (tensor_present(o.out[i])) SWD_TRY(tape_wrote(t, o.out[i], needs != 0), ex->err);
    return SWD_OK;
}

// saved: q, k, v, o of each stream; the sums stay in the call.
static swd_status attention(tape *t, const op_call *call, swd_exec *ex)
{
    op_call c = *call;
    attention_args *a = &c.attention;
    unsigned needs = 0;
    record *r = NULL;
    if (t->mode != TAPE_OFF)
        for (int i = 0; i < a->n_streams; i++)
            needs |= (unsigned)tape_needs(t, a->q[i]) << (3 * i) |
                     (unsigned)tape_needs(t, a->k[i]) << (3 * i + 1) |
                     (unsigned)tape_needs(t, a->v[i]) << (3 * i + 2);
    for (int i = 0; i < a->n_streams; i++)
        if (tensor_present(a->o[i])) SWD_TRY(tape_writes(t, a->o[i], ex), ex->err);
    size_t mark = exec_mark(ex);
    // also where this call will be run again: who is asked for sums may compute otherwise (a library has none)
    for (int i = 0; i < a->n_streams && needs; i++)
        if (tensor_present(a->q[i]))
            a->lse[i] = exec3(ex, SWD_F32, a->q[i].shape[0], a->q[i].shape[2], a->q[i].shape[1]);
    if (needs && t->mode == TAPE_ON) {
        SWD_TRY(tape_push(&r, t, &c), ex->err);
        r->needs = needs;
    }
    swd_hook *hook = tape_off(ex);
    swd_status s = op_attention(a, ex);
    ex->hook = hook;
    SWD_TRY(s, ex->err);
    for (int i = 0; i < a->n_streams; i++) {
        const swd_tensor keep[] = {a->q[i], a->k[i], a->v[i], a->o[i]};
        for (int k = 0; r && k < 4; k++)
            SWD_TRY(tape_save(t, &r->saved[4 * i + k], keep[k]), ex->err);
        if (tensor_present(a->o[i])) SWD_TRY(tape_wrote(t, a->o[i], needs != 0), ex->err);
    }
    if (!r) exec_rewind(ex, mark);
    return SWD_OK;
}

swd_status tape_call(swd_hook *h, const op_call *c, swd_exec *ex)
{
    tape *t = (tape *)(void *)h;
    SWD_TRY(t->status, ex->err);
    switch (c->op) {
    case OP_LINEAR:
        return tape_linear(t, c, ex);
    case OP_ATTENTION:
        return attention(t, c, ex);
    default:
        return plain_call(t, c, ex);
    }
}
