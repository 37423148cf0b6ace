// SPDX-License-Identifier: MIT
// The kinds that live on memory: norms and element-wise ops over rows, the step between scales, layouts, text.
#include "kinds.h"
#include "plan.h"

enum { LATENT_CHANNELS = 16, PATCH = 2, GROUPS = 32 };
static const float eps = 1e-6f;

/* ---- norms ---- */

static void plan_group_norm(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_BF16, DIMS(1, d[0], d[0], d[1]));
    plan_add(p, "x", PART_READ, SWD_BF16, DIMS(1, d[0], d[0], d[1]));
    plan_add(p, "gamma", PART_READ, SWD_F32, DIMS(d[1]));
    plan_add(p, "beta", PART_READ, SWD_F32, DIMS(d[1]));
}

static swd_status run_group_norm(const job *j, swd_exec *ex)
{
    return op_group_norm(j->t[0], j->t[1], j->t[2], j->t[3], GROUPS, eps, ex);
}

static swd_status run_group_norm_silu(const job *j, swd_exec *ex)
{
    return op_group_norm_silu(j->t[0], j->t[1], j->t[2], j->t[3], GROUPS, eps, ex);
}

// clang-format off
const kind kind_group_norm = {"group_norm", "group_norm_partial, _merge, _apply", "", plan_group_norm, run_group_norm, {8, 64}};
const kind kind_group_norm_silu = {"group_norm_silu", "group_norm_partial, _merge, _apply", "SiLU", plan_group_norm, run_group_norm_silu, {8, 64}};
// clang-format on

static void plan_layernorm(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_BF16, DIMS(d[0], d[1]));
    plan_add(p, "x", PART_READ, SWD_F32, DIMS(d[0], d[1]));
    plan_add(p, "weight", PART_READ, SWD_F32, DIMS(d[1]));
    plan_add(p, "bias", PART_READ, SWD_F32, DIMS(d[1]));
}

static swd_status run_layernorm(const job *j, swd_exec *ex)
{
    return op_layernorm(j->t[0], j->t[1], j->t[2], j->t[3], eps, ex);
}

static void plan_modulate(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_BF16, DIMS(1, d[0], d[1]));
    plan_add(p, "x", PART_READ, SWD_F32, DIMS(1, d[0], d[1]));
    plan_add(p, "shift", PART_READ, SWD_F32, DIMS(1, d[1]));
    plan_add(p, "scale", PART_READ, SWD_F32, DIMS(1, d[1]));
}

static swd_status run_modulate(const job *j, swd_exec *ex)
{
    return op_layernorm_modulate(j->t[0], j->t[1], j->t[2], j->t[3], eps, ex);
}

static void plan_modulate2(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_BF16, DIMS(1, d[0], d[1]));
    plan_add(p, "y2", PART_WRITTEN, SWD_BF16, DIMS(1, d[0], d[1]));
    plan_add(p, "x", PART_READ, SWD_F32, DIMS(1, d[0], d[1]));
    static const char *const names[] = {"shift", "scale", "shift2", "scale2"};
    for (int i = 0; i < 4; i++) plan_add(p, names[i], PART_READ, SWD_F32, DIMS(1, d[1]));
}

static swd_status run_modulate2(const job *j, swd_exec *ex)
{
    const swd_tensor *t = j->t, shift[] = {t[3], t[5]}, scale[] = {t[4], t[6]};
    return op_layernorm_modulate2(t, t[2], shift, scale, eps, ex);
}

static void plan_rms_norm(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_BF16, DIMS(d[0], d[1]));
    plan_add(p, "x", PART_READ, SWD_F32, DIMS(d[0], d[1]));
    plan_add(p, "weight", PART_READ, SWD_F32, DIMS(d[1]));
}

static swd_status run_rms_norm(const job *j, swd_exec *ex)
{
    return op_rms_norm(j->t[0], j->t[1], j->t[2], eps, ex);
}

// clang-format off
const kind kind_layernorm = {"layernorm", "norm_rows", "weight, bias", plan_layernorm, run_layernorm, {19, 64}};
const kind kind_modulate = {"layernorm_modulate", "norm_rows", "shift, scale", plan_modulate, run_modulate, {19, 64}};
const kind kind_modulate2 = {"layernorm_modulate2", "norm_rows", "two shifts, two scales", plan_modulate2, run_modulate2, {19, 64}};
const kind kind_rms_norm = {"rms_norm", "norm_rows", "weight", plan_rms_norm, run_rms_norm, {19, 64}};
// clang-format on

// Queries and keys, two thirds of the packed rows.
static void plan_qk_norm(plan *p, const int64_t *d)
{
    plan_add(p, "qkv", PART_UPDATED, SWD_BF16, DIMS(1, d[0], 3, d[1], d[2]))->share = 2.0 / 3;
    plan_add(p, "weight_q", PART_READ, SWD_F32, DIMS(d[2]));
    plan_add(p, "weight_k", PART_READ, SWD_F32, DIMS(d[2]));
}

static void plan_qk_norm_rope(plan *p, const int64_t *d)
{
    plan_qk_norm(p, d);
    plan_add(p, "cos", PART_READ, SWD_F32, DIMS(d[0], d[2] / 2));
    plan_add(p, "sin", PART_READ, SWD_F32, DIMS(d[0], d[2] / 2));
}

static swd_status run_qk_norm(const job *j, swd_exec *ex)
{
    return op_qk_norm(plan_third(j->t[0], 0), plan_third(j->t[0], 1), j->t[1], j->t[2], eps, ex);
}

static swd_status run_qk_norm_rope(const job *j, swd_exec *ex)
{
    return op_qk_norm_rope(plan_third(j->t[0], 0), plan_third(j->t[0], 1), j->t[1], j->t[2], eps,
                           j->t[3], j->t[4], ex);
}

// clang-format off
const kind kind_qk_norm = {"qk_norm", "qk_norm_rows", "q and k", plan_qk_norm, run_qk_norm, {19, 2, 64}};
const kind kind_qk_norm_rope = {"qk_norm_rope", "qk_norm_rows", "q and k, rotation", plan_qk_norm_rope, run_qk_norm_rope, {19, 2, 64}};
// clang-format on

/* ---- element-wise ---- */

static void plan_gate_residual(plan *p, const int64_t *d)
{
    plan_add(p, "x", PART_UPDATED, SWD_F32, DIMS(1, d[0], d[1]));
    plan_add(p, "y", PART_READ, SWD_BF16, DIMS(1, d[0], d[1]));
    plan_add(p, "gate", PART_READ, SWD_F32, DIMS(1, d[1]));
}

static swd_status run_gate_residual(const job *j, swd_exec *ex)
{
    return op_gate_residual(j->t[0], j->t[1], j->t[2], ex);
}

static void plan_unary(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_BF16, DIMS(d[0], d[1]));
    plan_add(p, "x", PART_READ, SWD_BF16, DIMS(d[0], d[1]));
}

static void plan_binary(plan *p, const int64_t *d)
{
    plan_unary(p, d);
    plan_add(p, "z", PART_READ, SWD_BF16, DIMS(d[0], d[1]));
}

static void plan_copy(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_BF16, DIMS(d[0], d[1]));
    plan_add(p, "x", PART_READ, SWD_F32, DIMS(d[0], d[1]));
}

static void plan_fill(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_BF16, DIMS(d[0], d[1]));
}

static swd_status run_activation(const job *j, swd_exec *ex)
{
    return op_activation(j->t[0], j->t[1], SWD_ACT_SILU, ex);
}

static swd_status run_gated_gelu(const job *j, swd_exec *ex)
{
    return op_gated_gelu(j->t[0], j->t[1], j->t[2], ex);
}

static swd_status run_axpby(const job *j, swd_exec *ex)
{
    return op_axpby(j->t[0], 0.5f, j->t[1], 0.25f, j->t[2], ex);
}

static swd_status run_copy(const job *j, swd_exec *ex)
{
    return op_copy(j->t[0], j->t[1], ex);
}

static swd_status run_fill(const job *j, swd_exec *ex)
{
    return op_fill(j->t[0], 0.5f, ex);
}

// clang-format off
const kind kind_gate_residual = {"gate_residual", "binary", "", plan_gate_residual, run_gate_residual, {19, 64}};
const kind kind_activation = {"activation", "unary", "", plan_unary, run_activation, {19, 64}};
const kind kind_gated_gelu = {"gated_gelu", "binary", "product", plan_binary, run_gated_gelu, {19, 64}};
const kind kind_axpby = {"axpby", "binary", "", plan_binary, run_axpby, {19, 64}};
const kind kind_copy = {"copy", "unary", "conversion", plan_copy, run_copy, {19, 64}};
const kind kind_fill = {"fill", "unary", "", plan_fill, run_fill, {19, 64}};
// clang-format on

/* ---- latents ---- */

#define LATENTS(n, side) DIMS(n, LATENT_CHANNELS, side, side)

static void plan_guidance(plan *p, const int64_t *d)
{
    plan_add(p, "v", PART_WRITTEN, SWD_F32, LATENTS(d[0], d[1]));
    plan_add(p, "cond", PART_READ, SWD_F32, LATENTS(d[0], d[1]));
    plan_add(p, "uncond", PART_READ, SWD_F32, LATENTS(d[0], d[1]));
}

static swd_status run_guidance(const job *j, swd_exec *ex)
{
    return op_guidance_combine(j->t[0], j->t[1], j->t[2], 4.5f, ex);
}

static void plan_noise(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_F32, LATENTS(d[0], d[1]));
    plan_add(p, "steps", PART_STEPS, SWD_U8, DIMS(d[0], (int64_t)sizeof(renoise_step)));
}

static swd_status run_noise(const job *j, swd_exec *ex)
{
    return op_noise(j->t[0], j->t[1], ex);
}

static void plan_resize(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_F32, LATENTS(d[0], d[2]));
    plan_add(p, "x", PART_READ, SWD_F32, LATENTS(d[0], d[1]));
    plan_add(p, "v", PART_READ, SWD_F32, LATENTS(d[0], d[1]));
    plan_add(p, "steps", PART_STEPS, SWD_U8, DIMS(d[0], (int64_t)sizeof(renoise_step)));
}

static swd_status run_resize(const job *j, swd_exec *ex)
{
    const resize_renoise_args a = {.y = j->t[0], .x = j->t[1], .v = j->t[2], .steps = j->t[3]};
    return op_resize_renoise(&a, ex);
}

// clang-format off
const kind kind_guidance = {"guidance_combine", "binary", "", plan_guidance, run_guidance, {1, 8}};
const kind kind_noise = {"noise", "resize_renoise", "Philox, Box-Muller", plan_noise, run_noise, {2, 8}};
const kind kind_resize = {"resize_renoise", "resize_renoise", "x - sigma v, bicubic, noise", plan_resize, run_resize, {2, 8, 12}};
// clang-format on

/* ---- layouts ---- */

static void plan_patches(plan *p, const int64_t *d, part_role latents, part_role tokens)
{
    const int64_t n = d[0] / PATCH * (d[0] / PATCH), width = PATCH * PATCH * LATENT_CHANNELS;
    plan_add(p, "x", latents, SWD_F32, LATENTS(1, d[0]));
    plan_add(p, "y", tokens, SWD_BF16, DIMS(1, n, width));
}

static void plan_patchify(plan *p, const int64_t *d)
{
    plan_patches(p, d, PART_READ, PART_WRITTEN);
}

static void plan_unpatchify(plan *p, const int64_t *d)
{
    plan_patches(p, d, PART_WRITTEN, PART_READ);
}

static swd_status run_patchify(const job *j, swd_exec *ex)
{
    return op_patchify(j->t[1], j->t[0], PATCH, ex);
}

static swd_status run_unpatchify(const job *j, swd_exec *ex)
{
    return op_unpatchify(j->t[0], j->t[1], PATCH, ex);
}

// SD3.5-M's table is 384 x 384 positions; its centre is read.
static void plan_add_position(plan *p, const int64_t *d)
{
    const int64_t max = 3 * d[0];
    plan_add(p, "x", PART_UPDATED, SWD_F32, DIMS(1, d[0] * d[0], d[1]));
    plan_add(p, "table", PART_READ, SWD_F32, DIMS(max * max, d[1]))->share = 1.0 / 9;
}

static swd_status run_add_position(const job *j, swd_exec *ex)
{
    int side = (int)j->shape->d[0];
    return op_add_position(j->t[0], j->t[1], side, side, ex);
}

static void plan_to_nhwc(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_BF16, DIMS(1, d[0], d[0], d[1]));
    plan_add(p, "x", PART_READ, SWD_F32, DIMS(1, d[1], d[0], d[0]));
}

static void plan_to_nchw(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_F32, DIMS(1, d[1], d[0], d[0]));
    plan_add(p, "x", PART_READ, SWD_BF16, DIMS(1, d[0], d[0], d[1]));
}

static swd_status run_to_nhwc(const job *j, swd_exec *ex)
{
    return op_nchw_to_nhwc(j->t[0], j->t[1], 0.65f, 0.06f, ex);
}

static swd_status run_to_nchw(const job *j, swd_exec *ex)
{
    return op_nhwc_to_nchw(j->t[0], j->t[1], 1.53f, -0.06f, ex);
}

static void plan_to_rgb8(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_U8, DIMS(1, d[0], d[0], 3));
    plan_add(p, "x", PART_READ, SWD_BF16, DIMS(1, d[0], d[0], 3));
}

static void plan_from_rgb8(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_BF16, DIMS(1, d[0], d[0], 3));
    plan_add(p, "x", PART_READ, SWD_U8, DIMS(1, d[0], d[0], 3));
}

static swd_status run_to_rgb8(const job *j, swd_exec *ex)
{
    return op_to_rgb8(j->t[0], j->t[1], 0.5f, 0.5f, ex);
}

static swd_status run_from_rgb8(const job *j, swd_exec *ex)
{
    return op_from_rgb8(j->t[0], j->t[1], 2.0f, -1.0f, ex);
}

// clang-format off
const kind kind_patchify = {"patchify", "patchify", "conversion", plan_patchify, run_patchify, {8}};
const kind kind_unpatchify = {"unpatchify", "unpatchify", "conversion", plan_unpatchify, run_unpatchify, {8}};
const kind kind_add_position = {"add_position", "add_position", "window", plan_add_position, run_add_position, {4, 64}};
const kind kind_to_nhwc = {"nchw_to_nhwc", "relayout", "scale, shift", plan_to_nhwc, run_to_nhwc, {8, 16}};
const kind kind_to_nchw = {"nhwc_to_nchw", "relayout", "scale, shift", plan_to_nchw, run_to_nchw, {8, 16}};
const kind kind_to_rgb8 = {"to_rgb8", "rgb8", "scale, shift, rounding", plan_to_rgb8, run_to_rgb8, {8}};
const kind kind_from_rgb8 = {"from_rgb8", "rgb8", "scale, shift", plan_from_rgb8, run_from_rgb8, {8}};
// clang-format on

/* ---- text ---- */

static void plan_embed(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_F32, DIMS(1, d[0], d[2]));
    plan_add(p, "table", PART_READ, SWD_BF16, DIMS(d[1], d[2]))->share =
        (double)d[0] / (double)d[1];
    plan_add(p, "ids", PART_IDS, SWD_I32, DIMS(1, d[0]))->limit = d[1];
}

static swd_status run_embed(const job *j, swd_exec *ex)
{
    return op_embed(j->t[0], j->t[1], j->t[2], ex);
}

static void plan_relative_bias(plan *p, const int64_t *d)
{
    const int64_t buckets = 32;
    plan_add(p, "bias", PART_WRITTEN, SWD_F32, DIMS(d[1], d[0], d[0]));
    plan_add(p, "table", PART_READ, SWD_F32, DIMS(buckets, d[1]));
}

static swd_status run_relative_bias(const job *j, swd_exec *ex)
{
    return op_relative_bias(j->t[0], j->t[1], 128, ex);
}

static void plan_sinusoid(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_F32, DIMS(d[0], d[1]));
    plan_add(p, "t", PART_READ, SWD_F32, DIMS(d[0]));
}

static swd_status run_sinusoid(const job *j, swd_exec *ex)
{
    return op_timestep_sinusoid(j->t[0], j->t[1], ex);
}

// clang-format off
const kind kind_embed = {"embed", "embed", "conversion", plan_embed, run_embed, {9, 40, 64}};
const kind kind_relative_bias = {"relative_bias", "relative_bias", "buckets", plan_relative_bias, run_relative_bias, {19, 2}};
const kind kind_sinusoid = {"timestep_sinusoid", "sinusoid", "", plan_sinusoid, run_sinusoid, {2, 64}};
// clang-format on
