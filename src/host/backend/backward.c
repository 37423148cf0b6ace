// SPDX-License-Identifier: MIT
// The front door of the ops of training: checks once, then one slot of the backend's table.
#include "backend/backward.h"
#include "backend/ops_check.h"

#define BACKWARD(name, ...)                                                                        \
    (ex->dry ? SWD_OK                                                                              \
             : (range_begin(ex->backend, RANGE_OP, #name),                                         \
                range_ended(ex->backend, ex->backend->backward->name(ex->backend, __VA_ARGS__,     \
                                                                     ex->stream, ex->err))))
#define REQUIRE_TRAINING(op)                                                                       \
    do {                                                                                           \
        if (!ex->backend->backward)                                                                \
            return SWD_FAIL(ex->err, SWD_ERR_UNSUPPORTED, op ": the backend %s does not train",    \
                            ex->backend->name);                                                    \
    } while (0)

static bool is_matrix(swd_tensor t)
{
    return (t.dtype == SWD_F32 || t.dtype == SWD_BF16) && t.ndim == 2 && t.shape[0] > 0 &&
           t.shape[1] > 0 && (t.stride[0] == 1 || t.stride[1] == 1);
}

// A call that sums rows of d, with its workspace.
#define SUMS(name, d, per_sample, ...)                                                             \
    do {                                                                                           \
        size_t mark = exec_mark(ex);                                                               \
        void *ws = scratch(ex, ex->backend->backward->sums_workspace(ex->backend, d, per_sample)); \
        swd_status s = BACKWARD(name, __VA_ARGS__, ws);                                            \
        exec_rewind(ex, mark);                                                                     \
        return s;                                                                                  \
    } while (0)

// Absent, or shaped as t.
static bool is_grad(swd_grad g, swd_tensor t)
{
    return !tensor_present(g.t) || (is_act(g.t) && tensor_same_shape(g.t, t));
}

swd_status op_gemm(const gemm_args *a, swd_exec *ex)
{
    char ta[96], tb[96], tc[96];
    REQUIRE_TRAINING("op_gemm");
    REQUIRE(is_matrix(a->a) && is_matrix(a->b) && a->a.dtype == a->b.dtype && is_act(a->c) &&
                a->c.ndim == 2 && (a->c.dtype == SWD_F32 || a->c.dtype == a->a.dtype) &&
                a->a.shape[1] == a->b.shape[0] && a->c.shape[0] == a->a.shape[0] &&
                a->c.shape[1] == a->b.shape[1],
            "op_gemm: %s from %s and %s", tensor_describe(a->c, tc, sizeof tc),
            tensor_describe(a->a, ta, sizeof ta), tensor_describe(a->b, tb, sizeof tb));
    REQUIRE(!tensor_present(a->bias) || (is_vector(a->bias, a->c.shape[1]) && !a->add),
            "op_gemm: a bias is F32 [n], and then nothing is added to");
    APART("op_gemm", a->c, a->a);
    APART("op_gemm", a->c, a->b);
    size_t mark = exec_mark(ex);
    void *ws = scratch(ex, ex->backend->backward->gemm_workspace(ex->backend, a));
    swd_status s = BACKWARD(gemm, a, ws);
    exec_rewind(ex, mark);
    return s;
}

swd_status op_attention_backward(const attention_backward_args *a, swd_exec *ex)
{
    const attention_args *f = &a->forward;
    REQUIRE_TRAINING("op_attention_backward");
    if (f->causal || tensor_present(f->bias) || f->samples)
        return SWD_FAIL(ex->err, SWD_ERR_UNSUPPORTED,
                        "op_attention_backward: attention with a mask, a bias or samples of "
                        "different lengths has no gradient");
    RUN(attention_check(f, ex));
    for (int i = 0; i < f->n_streams; i++) {
        REQUIRE(is_grad(a->dk[i], f->k[i]) && is_grad(a->dv[i], f->v[i]),
                "op_attention_backward: gradients of the keys and values of stream %d", i);
        REQUIRE(!tensor_present(f->q[i]) ||
                    (tensor_present(f->lse[i]) && is_act(a->d_o[i]) &&
                     tensor_same_shape(a->d_o[i], f->o[i]) && is_grad(a->dq[i], f->q[i])),
                "op_attention_backward: sums and gradients of the queries of stream %d", i);
    }
    size_t mark = exec_mark(ex);
    void *ws = scratch(ex, ex->backend->backward->attention_workspace(ex->backend, a));
    swd_status s = BACKWARD(attention, a, ws);
    exec_rewind(ex, mark);
    return s;
}

swd_status op_norm_backward(const norm_backward_args *a, swd_exec *ex)
{
    REQUIRE_TRAINING("op_norm_backward");
    REQUIRE(is_act(a->x) && is_grad(a->dx, a->x) && (!a->per_sample || a->x.ndim == 3),
            "op_norm_backward: dx is shaped as x; factors per sample go with [B, n, D]");
    for (int i = 0; i < 2; i++) {
        const swd_tensor per_row[] = {a->factor[i], a->dfactor[i].t, a->dshift[i].t};
        REQUIRE((i && !tensor_present(a->dy[i])) ||
                    (is_act(a->dy[i]) && tensor_same_shape(a->dy[i], a->x)),
                "op_norm_backward: dy is shaped as x");
        for (int k = 0; k < 3; k++)
            REQUIRE(!tensor_present(per_row[k]) ||
                        (a->per_sample ? is_per_sample(per_row[k], a->x)
                                       : is_vector(per_row[k], last(a->x))),
                    "op_norm_backward: factors are F32 [D], or [B, D] per sample");
    }
    size_t mark = exec_mark(ex);
    void *ws = scratch(ex, ex->backend->backward->norm_workspace(ex->backend, a));
    swd_status s = BACKWARD(norm, a, ws);
    exec_rewind(ex, mark);
    return s;
}

swd_status op_activation_backward(swd_grad dx, swd_tensor x, swd_tensor dy, swd_act act,
                                  swd_exec *ex)
{
    REQUIRE_TRAINING("op_activation_backward");
    REQUIRE(is_act(x) && is_act(dx.t) && is_act(dy) && tensor_same_shape(dx.t, x) &&
                tensor_same_shape(dy, x),
            "op_activation_backward: three tensors of one shape");
    APART("op_activation_backward", dx.t, x);
    APART_OR_SAME("op_activation_backward", dx.t, dy);
    return BACKWARD(activation, dx, x, dy, act);
}

swd_status op_gate_backward(swd_grad dy, swd_grad dgate, swd_tensor d, swd_tensor y,
                            swd_tensor gate, swd_exec *ex)
{
    REQUIRE_TRAINING("op_gate_backward");
    REQUIRE(is_act(d) && is_grad(dy, d) && (!tensor_present(gate) || is_per_sample(gate, d)) &&
                (!tensor_present(dgate.t) ||
                 (is_per_sample(dgate.t, d) && is_act(y) && tensor_same_shape(y, d))),
            "op_gate_backward: d and y are [B, n, D], the gate is [B, D]");
    if (!tensor_present(dgate.t)) return BACKWARD(gate, dy, dgate, d, y, gate, NULL);
    SUMS(gate, d, true, dy, dgate, d, y, gate);
}

swd_status op_column_sums(swd_grad sums, swd_tensor d, swd_exec *ex)
{
    REQUIRE_TRAINING("op_column_sums");
    REQUIRE(is_act(d) && is_vector(sums.t, last(d)), "op_column_sums: F32 [D] from [.., D]");
    SUMS(column_sums, d, false, sums, d);
}

static bool is_patched(swd_tensor tokens, swd_tensor latents, int patch)
{
    return patch >= 1 && is_act(tokens) && tokens.ndim == 3 && is_f32(latents, 4) &&
           latents.shape[2] % patch == 0 && latents.shape[3] % patch == 0 &&
           tokens.shape[0] == latents.shape[0] &&
           tokens.shape[1] == (latents.shape[2] / patch) * (latents.shape[3] / patch) &&
           tokens.shape[2] == (int64_t)patch * patch * latents.shape[1];
}

swd_status op_patchify_backward(swd_grad dx, swd_tensor dy, int patch, swd_exec *ex)
{
    REQUIRE_TRAINING("op_patchify_backward");
    REQUIRE(is_patched(dy, dx.t, patch), "op_patchify_backward: latents from tokens");
    return BACKWARD(patchify, dx, dy, patch);
}

swd_status op_unpatchify_backward(swd_grad dy, swd_tensor dx, int patch, swd_exec *ex)
{
    REQUIRE_TRAINING("op_unpatchify_backward");
    REQUIRE(is_patched(dy.t, dx, patch), "op_unpatchify_backward: tokens from latents");
    return BACKWARD(unpatchify, dy, dx, patch);
}

swd_status op_mean_tokens(swd_tensor y, swd_tensor x, swd_exec *ex)
{
    REQUIRE_TRAINING("op_mean_tokens");
    REQUIRE(is_act(x) && is_per_sample(y, x), "op_mean_tokens: [B, D] from [B, n, D]");
    APART("op_mean_tokens", y, x);
    RECORDED(.op = OP_MEAN_TOKENS, .plain = {.y = y, .x = x});
    SUMS(mean_tokens, x, true, y, x);
}

swd_status op_mean_tokens_backward(swd_grad dx, swd_tensor dy, swd_exec *ex)
{
    REQUIRE_TRAINING("op_mean_tokens_backward");
    REQUIRE(is_act(dx.t) && is_per_sample(dy, dx.t),
            "op_mean_tokens_backward: [B, n, D] from [B, D]");
    return BACKWARD(mean_tokens_backward, dx, dy);
}

swd_status op_resize_renoise_backward(swd_grad dx, swd_grad dv, const resize_renoise_args *a,
                                      swd_tensor dy, swd_exec *ex)
{
    REQUIRE_TRAINING("op_resize_renoise_backward");
    REQUIRE(is_f32(dy, 4) && is_f32(a->x, 4) && dy.shape[0] == a->x.shape[0] &&
                dy.shape[1] == a->x.shape[1] && is_grad(dx, a->x) && is_grad(dv, a->x),
            "op_resize_renoise_backward: latents are F32 [B, C, h, w]");
    return BACKWARD(resize, dx, dv, a, dy);
}

swd_status op_adamw(const adamw_args *a, swd_exec *ex)
{
    REQUIRE_TRAINING("op_adamw");
    REQUIRE(is_f32(a->p, 1) && is_vector(a->m, a->p.shape[0]) && is_vector(a->v, a->p.shape[0]) &&
                is_vector(a->g, a->p.shape[0]) && a->step >= 1,
            "op_adamw: four F32 [n], steps from 1");
    return BACKWARD(adamw, a);
}

swd_status op_sum_squares(double *out, swd_tensor x, swd_exec *ex)
{
    *out = 0;
    REQUIRE_TRAINING("op_sum_squares");
    REQUIRE(is_act(x) && x.dtype == SWD_F32 && tensor_contiguous(x),
            "op_sum_squares: F32, contiguous");
    return BACKWARD(sum_squares, out, x);
}
