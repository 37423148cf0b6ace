// SPDX-License-Identifier: MIT
// The front door of all arithmetic: every documented precondition is checked here, once; the slots trust what they get.
#include "backend/ops_check.h"

static swd_status group_norm(const group_norm_args *a, swd_exec *ex)
{
    REQUIRE(is_act(a->y) && is_act(a->x) && a->x.ndim == 4 && tensor_same_shape(a->y, a->x) &&
                tensor_contiguous(a->x) && tensor_contiguous(a->y),
            "op_group_norm: NHWC maps are contiguous [B, H, W, C]");
    REQUIRE(a->groups > 0 && last(a->x) % a->groups == 0,
            "op_group_norm: %lld channels in %d groups", (long long)last(a->x), a->groups);
    REQUIRE(is_vector(a->gamma, last(a->x)) && is_vector(a->beta, last(a->x)),
            "op_group_norm: gamma and beta are F32 [C]");
    APART_OR_SAME("op_group_norm", a->y, a->x);
    APART("op_group_norm", a->y, a->gamma);
    APART("op_group_norm", a->y, a->beta);
    size_t mark = exec_mark(ex);
    void *ws = scratch(ex, ex->backend->ops.group_norm_workspace(ex->backend, a));
    swd_status s = SLOT(group_norm, a, ws);
    exec_rewind(ex, mark);
    return s;
}

swd_status op_group_norm(swd_tensor y, swd_tensor x, swd_tensor gamma, swd_tensor beta, int groups,
                         float eps, swd_exec *ex)
{
    return group_norm(&(group_norm_args){y, x, gamma, beta, groups, eps, false}, ex);
}

swd_status op_group_norm_silu(swd_tensor y, swd_tensor x, swd_tensor gamma, swd_tensor beta,
                              int groups, float eps, swd_exec *ex)
{
    return group_norm(&(group_norm_args){y, x, gamma, beta, groups, eps, true}, ex);
}

swd_status op_layernorm(swd_tensor y, swd_tensor x, swd_tensor weight, swd_tensor bias, float eps,
                        swd_exec *ex)
{
    REQUIRE(is_act(y) && is_act(x) && tensor_same_shape(y, x),
            "op_layernorm: result and input differ in shape");
    REQUIRE((!tensor_present(weight) || is_vector(weight, last(x))) &&
                (!tensor_present(bias) || is_vector(bias, last(x))),
            "op_layernorm: weight and bias are F32 [D]");
    APART_OR_SAME("op_layernorm", y, x);
    APART("op_layernorm", y, weight);
    APART("op_layernorm", y, bias);
    RECORDED(.op = OP_LAYERNORM, .norm = {y, x, weight, bias, eps});
    return SLOT(layernorm, &(norm_args){y, x, weight, bias, eps});
}

static bool is_modulated(swd_tensor y, swd_tensor x, swd_tensor shift, swd_tensor scale)
{
    return is_act(y) && is_act(x) && x.ndim == 3 && tensor_same_shape(y, x) &&
           is_per_sample(shift, x) && is_per_sample(scale, x);
}

swd_status op_layernorm_modulate(swd_tensor y, swd_tensor x, swd_tensor shift, swd_tensor scale,
                                 float eps, swd_exec *ex)
{
    REQUIRE(is_modulated(y, x, shift, scale),
            "op_layernorm_modulate: x is [B, n, D], shift and scale [B, D]");
    APART_OR_SAME("op_layernorm_modulate", y, x);
    APART("op_layernorm_modulate", y, shift);
    APART("op_layernorm_modulate", y, scale);
    RECORDED(.op = OP_MODULATE,
             .modulate = {.y = {y}, .x = x, .shift = {shift}, .scale = {scale}, .eps = eps});
    return SLOT(layernorm_modulate,
                &(modulate_args){.y = {y}, .x = x, .shift = {shift}, .scale = {scale}, .eps = eps});
}

swd_status op_layernorm_modulate2(const swd_tensor y[2], swd_tensor x, const swd_tensor shift[2],
                                  const swd_tensor scale[2], float eps, swd_exec *ex)
{
    for (int i = 0; i < 2; i++) {
        REQUIRE(is_modulated(y[i], x, shift[i], scale[i]),
                "op_layernorm_modulate2: x is [B, n, D], shift and scale [B, D]");
        for (int k = 0; k < 2; k++) {
            APART("op_layernorm_modulate2", y[i], shift[k]);
            APART("op_layernorm_modulate2", y[i], scale[k]);
        }
    }
    REQUIRE(y[0].dtype == y[1].dtype, "op_layernorm_modulate2: the results have two dtypes");
    APART_OR_SAME("op_layernorm_modulate2", y[0], x);
    APART("op_layernorm_modulate2", y[1], x);
    APART("op_layernorm_modulate2", y[0], y[1]);
    RECORDED(.op = OP_MODULATE, .modulate = {.y = {y[0], y[1]},
                                             .x = x,
                                             .shift = {shift[0], shift[1]},
                                             .scale = {scale[0], scale[1]},
                                             .eps = eps});
    return SLOT(layernorm_modulate, &(modulate_args){.y = {y[0], y[1]},
                                                     .x = x,
                                                     .shift = {shift[0], shift[1]},
                                                     .scale = {scale[0], scale[1]},
                                                     .eps = eps});
}

swd_status op_rms_norm(swd_tensor y, swd_tensor x, swd_tensor weight, float eps, swd_exec *ex)
{
    REQUIRE(is_act(y) && is_act(x) && tensor_same_shape(y, x),
            "op_rms_norm: result and input differ in shape");
    REQUIRE(!tensor_present(weight) || is_vector(weight, last(x)),
            "op_rms_norm: the weight is F32 [D]");
    APART_OR_SAME("op_rms_norm", y, x);
    APART("op_rms_norm", y, weight);
    RECORDED(.op = OP_RMS_NORM, .norm = {y, x, weight, tensor_none(), eps});
    return SLOT(rms_norm, &(norm_args){y, x, weight, tensor_none(), eps});
}

swd_status op_qk_norm(swd_tensor q, swd_tensor k, swd_tensor weight_q, swd_tensor weight_k,
                      float eps, swd_exec *ex)
{
    return op_qk_norm_rope(q, k, weight_q, weight_k, eps, tensor_none(), tensor_none(), ex);
}

swd_status op_qk_norm_rope(swd_tensor q, swd_tensor k, swd_tensor weight_q, swd_tensor weight_k,
                           float eps, swd_tensor cos, swd_tensor sin, swd_exec *ex)
{
    REQUIRE(is_act(q) && is_act(k) && q.ndim == 4 && q.dtype == k.dtype && tensor_same_shape(q, k),
            "op_qk_norm_rope: q and k are [B, N, H, d] of one dtype");
    REQUIRE((!tensor_present(weight_q) || is_vector(weight_q, q.shape[3])) &&
                (!tensor_present(weight_k) || is_vector(weight_k, q.shape[3])),
            "op_qk_norm_rope: the weights are F32 [d]");
    REQUIRE(tensor_present(cos) == tensor_present(sin), "op_qk_norm_rope: cos without sin");
    REQUIRE(!tensor_present(cos) || (is_f32(cos, 2) && is_f32(sin, 2) &&
                                     tensor_same_shape(cos, sin) && q.shape[3] % 2 == 0 &&
                                     cos.shape[0] == q.shape[1] && cos.shape[1] * 2 == q.shape[3]),
            "op_qk_norm_rope: cos and sin are F32 [N, d / 2]");
    const swd_tensor in[] = {weight_q, weight_k, cos, sin};
    for (int i = 0; i < 4; i++) {
        APART("op_qk_norm_rope", q, in[i]);
        APART("op_qk_norm_rope", k, in[i]);
    }
    APART("op_qk_norm_rope", q, k);
    RECORDED(.op = OP_QK_NORM, .qk_norm = {q, k, weight_q, weight_k, eps, cos, sin});
    return SLOT(qk_norm_rope, &(qk_norm_args){q, k, weight_q, weight_k, eps, cos, sin});
}

swd_status op_gate_residual(swd_tensor x, swd_tensor y, swd_tensor gate, swd_exec *ex)
{
    REQUIRE(is_act(x) && is_act(y) && x.ndim == 3 && tensor_same_shape(x, y),
            "op_gate_residual: x and y are [B, n, D]");
    REQUIRE(!tensor_present(gate) || is_per_sample(gate, x),
            "op_gate_residual: the gate is [B, D]");
    APART_OR_SAME("op_gate_residual", x, y);
    APART("op_gate_residual", x, gate);
    RECORDED(.op = OP_GATE_RESIDUAL, .plain = {.y = x, .x = y, .z = gate});
    return SLOT(gate_residual, x, y, gate);
}

swd_status op_activation(swd_tensor y, swd_tensor x, swd_act act, swd_exec *ex)
{
    REQUIRE(is_act(y) && is_act(x) && tensor_same_shape(y, x),
            "op_activation: result and input differ in shape");
    APART_OR_SAME("op_activation", y, x);
    RECORDED(.op = OP_ACTIVATION, .plain = {.y = y, .x = x, .act = act});
    return SLOT(activation, y, x, act);
}

swd_status op_gated_gelu(swd_tensor y, swd_tensor a, swd_tensor b, swd_exec *ex)
{
    REQUIRE(is_act(y) && is_act(a) && is_act(b) && tensor_same_shape(y, a) &&
                tensor_same_shape(y, b),
            "op_gated_gelu: three tensors of one shape");
    APART_OR_SAME("op_gated_gelu", y, a);
    APART_OR_SAME("op_gated_gelu", y, b);
    return SLOT(gated_gelu, y, a, b);
}

swd_status op_axpby(swd_tensor y, float a, swd_tensor x, float b, swd_tensor z, swd_exec *ex)
{
    REQUIRE(is_act(y) && is_act(x) && tensor_same_shape(y, x),
            "op_axpby: result and input differ in shape");
    REQUIRE(!tensor_present(z) || (is_act(z) && tensor_same_shape(y, z)),
            "op_axpby: z differs in shape");
    APART_OR_SAME("op_axpby", y, x);
    APART_OR_SAME("op_axpby", y, z);
    RECORDED(.op = OP_AXPBY, .plain = {.y = y, .a = a, .x = x, .b = b, .z = z});
    return SLOT(axpby, y, a, x, b, z);
}

swd_status op_copy(swd_tensor y, swd_tensor x, swd_exec *ex)
{
    char ty[96], tx[96];
    REQUIRE(is_act(y) && is_act(x) && tensor_same_shape(y, x), "op_copy: %s from %s",
            tensor_describe(y, ty, sizeof ty), tensor_describe(x, tx, sizeof tx));
    APART_OR_SAME("op_copy", y, x);
    RECORDED(.op = OP_COPY, .plain = {.y = y, .x = x});
    return SLOT(copy, y, x);
}

swd_status op_fill(swd_tensor y, float value, swd_exec *ex)
{
    REQUIRE(is_act(y), "op_fill: not an activation");
    RECORDED(.op = OP_FILL, .plain = {.y = y, .a = value});
    return SLOT(fill, y, value);
}

swd_status op_embed(swd_tensor y, swd_tensor table, swd_tensor ids, swd_exec *ex)
{
    REQUIRE(is_act(y) && y.ndim == 3 && is_act(table) && table.ndim == 2 &&
                tensor_contiguous(table) && ids.dtype == SWD_I32 && ids.ndim == 2 &&
                tensor_contiguous(ids) && ids.shape[0] == y.shape[0] &&
                ids.shape[1] == y.shape[1] && table.shape[1] == y.shape[2],
            "op_embed: [B, N, D] from a table [V, D] by I32 ids [B, N]");
    APART("op_embed", y, table);
    APART("op_embed", y, ids);
    return SLOT(embed, y, table, ids);
}

swd_status op_relative_bias(swd_tensor bias, swd_tensor table, int max_distance, swd_exec *ex)
{
    REQUIRE(is_f32(bias, 3) && is_f32(table, 2) && bias.shape[0] == table.shape[1] &&
                bias.shape[1] == bias.shape[2] && table.shape[0] >= 4 && table.shape[0] % 2 == 0 &&
                max_distance > table.shape[0] / 4,
            "op_relative_bias: [H, N, N] from a table [buckets, H]");
    APART("op_relative_bias", bias, table);
    return SLOT(relative_bias, bias, table, max_distance);
}

swd_status op_timestep_sinusoid(swd_tensor y, swd_tensor t, swd_exec *ex)
{
    REQUIRE(is_act(y) && y.ndim == 2 && y.shape[1] % 2 == 0 && is_vector(t, y.shape[0]),
            "op_timestep_sinusoid: [B, even] from F32 [B]");
    APART("op_timestep_sinusoid", y, t);
    RECORDED(.op = OP_TIMESTEP_SINUSOID, .plain = {.y = y, .x = t});
    return SLOT(timestep_sinusoid, y, t);
}

static bool is_patched(swd_tensor y, swd_tensor x, int patch)
{
    return patch >= 1 && is_act(y) && y.ndim == 3 && is_f32(x, 4) && x.shape[2] % patch == 0 &&
           x.shape[3] % patch == 0 && y.shape[0] == x.shape[0] &&
           y.shape[1] == (x.shape[2] / patch) * (x.shape[3] / patch) &&
           y.shape[2] == (int64_t)patch * patch * x.shape[1];
}

swd_status op_patchify(swd_tensor y, swd_tensor x, int patch, swd_exec *ex)
{
    char ty[96], tx[96];
    REQUIRE(is_patched(y, x, patch), "op_patchify: %s from %s in patches of %d",
            tensor_describe(y, ty, sizeof ty), tensor_describe(x, tx, sizeof tx), patch);
    APART("op_patchify", y, x);
    RECORDED(.op = OP_PATCHIFY, .plain = {.y = y, .x = x, .n = patch});
    return SLOT(patchify, y, x, patch);
}

swd_status op_unpatchify(swd_tensor x, swd_tensor y, int patch, swd_exec *ex)
{
    char ty[96], tx[96];
    REQUIRE(is_patched(y, x, patch), "op_unpatchify: %s from %s in patches of %d",
            tensor_describe(x, tx, sizeof tx), tensor_describe(y, ty, sizeof ty), patch);
    APART("op_unpatchify", x, y);
    RECORDED(.op = OP_UNPATCHIFY, .plain = {.y = x, .x = y, .n = patch});
    return SLOT(unpatchify, x, y, patch);
}

swd_status op_add_position(swd_tensor x, swd_tensor table, int grid_h, int grid_w, swd_exec *ex)
{
    int64_t max = 0;
    if (table.ndim == 2)
        while (max * max < table.shape[0]) max++;
    REQUIRE(is_act(x) && x.ndim == 3 && is_f32(table, 2) && max * max == table.shape[0] &&
                table.shape[1] == x.shape[2] && grid_h >= 1 && grid_w >= 1 &&
                x.shape[1] == (int64_t)grid_h * grid_w && grid_h <= max && grid_w <= max,
            "op_add_position: a grid of %d x %d in a table of %lld x %lld positions", grid_h,
            grid_w, (long long)max, (long long)max);
    APART("op_add_position", x, table);
    RECORDED(.op = OP_ADD_POSITION, .plain = {.y = x, .x = table, .n = grid_h, .m = grid_w});
    return SLOT(add_position, x, table, grid_h, grid_w);
}

swd_status op_guidance_combine(swd_tensor v, swd_tensor cond, swd_tensor uncond, float guidance,
                               swd_exec *ex)
{
    REQUIRE(is_act(v) && is_act(cond) && is_act(uncond) && tensor_same_shape(v, cond) &&
                tensor_same_shape(v, uncond),
            "op_guidance_combine: three tensors of one shape");
    APART_OR_SAME("op_guidance_combine", v, cond);
    APART_OR_SAME("op_guidance_combine", v, uncond);
    RECORDED(.op = OP_GUIDANCE_COMBINE, .plain = {.y = v, .x = cond, .z = uncond, .a = guidance});
    return SLOT(guidance_combine, v, cond, uncond, guidance);
}

static bool is_steps(swd_tensor t, int64_t batch)
{
    return t.dtype == SWD_U8 && t.ndim == 2 && tensor_contiguous(t) && t.shape[0] == batch &&
           t.shape[1] == (int64_t)sizeof(renoise_step) && (uintptr_t)t.data % 8 == 0;
}

swd_status op_resize_renoise(const resize_renoise_args *a, swd_exec *ex)
{
    REQUIRE(is_f32(a->y, 4) && is_f32(a->x, 4) && a->y.shape[0] == a->x.shape[0] &&
                a->y.shape[1] == a->x.shape[1],
            "op_resize_renoise: latents are F32 [B, C, h, w]");
    REQUIRE((!tensor_present(a->v) || (is_f32(a->v, 4) && tensor_same_shape(a->v, a->x))) &&
                (!tensor_present(a->x0) || (is_f32(a->x0, 4) && tensor_same_shape(a->x0, a->x))),
            "op_resize_renoise: velocity and x0 are shaped as the latents");
    REQUIRE(!tensor_present(a->eps) || (is_f32(a->eps, 4) && tensor_same_shape(a->eps, a->y)),
            "op_resize_renoise: the noise is shaped as the result");
    REQUIRE(is_steps(a->steps, a->x.shape[0]),
            "op_resize_renoise: a renoise_step for each image, aligned to 8 bytes");
    APART("op_resize_renoise", a->y, a->x);
    APART("op_resize_renoise", a->y, a->v);
    APART("op_resize_renoise", a->y, a->eps);
    APART("op_resize_renoise", a->y, a->x0);
    APART("op_resize_renoise", a->y, a->steps);
    APART("op_resize_renoise", a->x0, a->x);
    APART("op_resize_renoise", a->x0, a->v);
    APART("op_resize_renoise", a->x0, a->eps);
    APART("op_resize_renoise", a->x0, a->steps);
    RECORDED(.op = OP_RESIZE_RENOISE, .resize = *a);
    return SLOT(resize_renoise, a);
}

swd_status op_noise(swd_tensor y, swd_tensor steps, swd_exec *ex)
{
    REQUIRE(is_act(y) && y.dtype == SWD_F32 && tensor_contiguous(y) && is_steps(steps, y.shape[0]),
            "op_noise: F32 [B, ...] and a renoise_step for each B, aligned to 8 bytes");
    APART("op_noise", y, steps);
    RECORDED(.op = OP_NOISE, .plain = {.y = y, .x = steps});
    return SLOT(noise, y, steps);
}

static bool is_relayout(swd_tensor nchw, swd_tensor nhwc)
{
    return is_act(nchw) && is_act(nhwc) && nchw.ndim == 4 && nhwc.ndim == 4 &&
           tensor_contiguous(nchw) && tensor_contiguous(nhwc) && nchw.shape[0] == nhwc.shape[0] &&
           nchw.shape[1] == nhwc.shape[3] && nchw.shape[2] == nhwc.shape[1] &&
           nchw.shape[3] == nhwc.shape[2];
}

swd_status op_nchw_to_nhwc(swd_tensor y, swd_tensor x, float scale, float shift, swd_exec *ex)
{
    REQUIRE(is_relayout(x, y), "op_nchw_to_nhwc: the shapes do not agree");
    APART("op_nchw_to_nhwc", y, x);
    return SLOT(nchw_to_nhwc, y, x, scale, shift);
}

swd_status op_nhwc_to_nchw(swd_tensor y, swd_tensor x, float scale, float shift, swd_exec *ex)
{
    REQUIRE(is_relayout(y, x), "op_nhwc_to_nchw: the shapes do not agree");
    APART("op_nhwc_to_nchw", y, x);
    return SLOT(nhwc_to_nchw, y, x, scale, shift);
}

static bool is_rgb8(swd_tensor rgb, swd_tensor map)
{
    return rgb.dtype == SWD_U8 && rgb.ndim == 4 && rgb.shape[3] == 3 && tensor_contiguous(rgb) &&
           is_act(map) && tensor_contiguous(map) && tensor_same_shape(rgb, map);
}

swd_status op_to_rgb8(swd_tensor y, swd_tensor x, float scale, float shift, swd_exec *ex)
{
    REQUIRE(is_rgb8(y, x), "op_to_rgb8: U8 [B, H, W, 3] from activations of that shape");
    APART("op_to_rgb8", y, x);
    return SLOT(to_rgb8, y, x, scale, shift);
}

swd_status op_from_rgb8(swd_tensor y, swd_tensor x, float scale, float shift, swd_exec *ex)
{
    REQUIRE(is_rgb8(x, y), "op_from_rgb8: activations from U8 [B, H, W, 3] of that shape");
    APART("op_from_rgb8", y, x);
    return SLOT(from_rgb8, y, x, scale, shift);
}
