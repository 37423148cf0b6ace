// SPDX-License-Identifier: MIT
#include "refuse.h"
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef enum damage_kind {
    ABSENT,
    OTHER_TYPE,
    ONE_MORE,
    ONE_LESS,
    EMPTY,
    LONGER,
    ELEMENTS_APART,
    ROWS_APART,
    N_DAMAGES
} damage_kind;

static const char *const damage_names[] = {
    [ABSENT] = "absent",
    [OTHER_TYPE] = "type",
    [ONE_MORE] = "one_more",             // a leading dimension of 1
    [ONE_LESS] = "one_less",             // without the leading dimension
    [EMPTY] = "empty",                   // a dimension of 0 elements
    [LONGER] = "longer",                 // a dimension by 1
    [ELEMENTS_APART] = "elements_apart", // innermost stride 2
    [ROWS_APART] = "rows_apart",         // a gap between rows
};

// What is well-formed though one operand is changed. fnmatch() patterns.
static const char *const taken[] = {
    // rows of any stride
    "linear.[yx].rows_apart",
    "linear_residual.*.rows_apart",
    "attention.[qkvo][01].rows_apart",
    "layernorm.[yx].rows_apart",
    "layernorm_modulate.*.rows_apart",
    "rms_norm.[yx].rows_apart",
    "layernorm_modulate2.*.rows_apart",
    "qk_norm*.[qk].rows_apart",
    "gate_residual.*.rows_apart",
    "activation.*.rows_apart",
    "gated_gelu.*.rows_apart",
    "axpby.*.rows_apart",
    "guidance_combine.*.rows_apart",
    "copy.*.rows_apart",
    "fill.*.rows_apart",
    "embed.y.rows_apart",
    "timestep_sinusoid.y.rows_apart",
    "add_position.x.rows_apart",
    "patchify.y.rows_apart",
    "unpatchify.y.rows_apart",
    // optional operands
    "linear_residual.gate.absent",
    "conv.residual.absent",
    "attention.bias.absent",
    "layernorm.weight.absent",
    "layernorm.bias.absent",
    "rms_norm.weight.absent",
    "qk_norm*.weight_[qk].absent",
    "gate_residual.gate.absent",
    "axpby.z.absent",
    "resize_renoise.v.absent",
    "resize_renoise.x0.absent",
    "resize_renoise.eps.absent",
    // in place
    "linear_residual.y.over_residual",
    "group_norm*.y.over_x",
    "layernorm.y.over_x",
    "layernorm_modulate*.y.over_x",
    "rms_norm.y.over_x",
    "gate_residual.x.over_y",
    "activation.y.over_x",
    "gated_gelu.y.over_[ab]",
    "axpby.y.over_[xz]",
    "copy.y.over_x",
    "guidance_combine.v.over_cond",
    "guidance_combine.v.over_uncond",
    // dimensions that nothing else fixes
    "fill.y.longer?",
    "fill.y.one_*",
    "noise.y.one_less", // there are 3 x 3 images' worth
    "add_position.x.longer0",
    "embed.table.longer0",
};

static bool is_taken(const char *id)
{
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (fnmatch(taken[i], id, 0) == 0) return true;
    return false;
}

// False where the damage means nothing for this tensor.
static bool damage(swd_tensor *t, damage_kind kind, int dim)
{
    int last = t->ndim - 1;
    switch (kind) {
    case ABSENT:
        *t = tensor_none();
        return dim == 0;
    case OTHER_TYPE:
        t->dtype = t->dtype == SWD_I32 || t->dtype == SWD_U8 ? SWD_F32 : SWD_I32;
        return dim == 0;
    case ONE_MORE:
        memmove(t->shape + 1, t->shape, sizeof *t->shape * (SWD_MAX_DIMS - 1));
        memmove(t->stride + 1, t->stride, sizeof *t->stride * (SWD_MAX_DIMS - 1));
        t->shape[0] = 1;
        t->ndim++;
        return dim == 0 && t->ndim <= SWD_MAX_DIMS;
    case ONE_LESS:
        memmove(t->shape, t->shape + 1, sizeof *t->shape * (SWD_MAX_DIMS - 1));
        memmove(t->stride, t->stride + 1, sizeof *t->stride * (SWD_MAX_DIMS - 1));
        t->ndim--;
        return dim == 0 && t->ndim > 0;
    case EMPTY:
        t->shape[dim] = 0;
        return true;
    case LONGER:
        t->shape[dim]++;
        return true;
    case ELEMENTS_APART:
        t->stride[last] = 2;
        return dim == 0 && t->shape[last] > 1;
    case ROWS_APART:
        for (int i = 0; i < last; i++) t->stride[i] *= 2;
        return dim == 0 && last > 0 && t->shape[last - 1] > 1;
    case N_DAMAGES:
        break;
    }
    return false;
}

typedef struct trial {
    fixture f;
    const case_walk *w;
    int tried;
} trial;

// Runs dry with damaged operands: they are checked, nothing is computed.
static bool judge(char *message, trial *t, const fixture *f, const char *id)
{
    swd_err err = {0};
    swd_exec ex = {.backend = f->backend, .err = &err, .dry = true};
    swd_status s = t->w->family->run(f, t->w->c, &ex);
    bool want = is_taken(id);
    t->tried++;
    if (want && s == SWD_OK) return true;
    if (!want && s == SWD_ERR_ARGUMENT && strncmp(err.message, "op_", 3) == 0) return true;
    snprintf(message, CHECK_MESSAGE_MAX, "%s must be %s: status %d, \"%s\"", id,
             want ? "taken" : "refused", (int)s, err.message);
    return false;
}

static bool try_damage(char *message, trial *t, int i, damage_kind kind, int dim)
{
    const operand *o = &t->f.operand[i];
    fixture f = t->f;
    if (o->role == WEIGHT || !damage(&f.operand[i].t, kind, dim)) return true;
    for (int k = 0; k < f.n; k++)
        f.operand[k].t.data = NULL; // a longer one must not run into its neighbour
    char id[CASE_ID_MAX];
    int n = snprintf(id, sizeof id, "%s.%s.%s", t->w->family->op, o->name, damage_names[kind]);
    if (kind == EMPTY || kind == LONGER) snprintf(id + n, sizeof id - (size_t)n, "%d", dim);
    return judge(message, t, &f, id);
}

// The result over another operand: an element off, or just so.
static bool try_overlap(char *message, trial *t, int out, int in, bool off)
{
    const operand *a = &t->f.operand[out], *b = &t->f.operand[in];
    if (out == in || a->role == IN || a->role == WEIGHT || b->role == WEIGHT) return true;
    fixture f = t->f;
    swd_tensor *o = &f.operand[out].t;
    if (!off && tensor_same_shape(*o, b->t) && o->dtype == b->t.dtype) *o = b->t;
    o->data = (char *)b->t.data + (off ? dtype_size(b->t.dtype) : 0);
    char id[CASE_ID_MAX];
    snprintf(id, sizeof id, "%s.%s.%s_%s", t->w->family->op, a->name, off ? "over_part_of" : "over",
             b->name);
    return judge(message, t, &f, id);
}

static bool all_damages(char *message, trial *t)
{
    for (int i = 0; i < t->f.n; i++)
        for (int kind = 0; kind < N_DAMAGES; kind++)
            for (int dim = 0; dim < t->f.operand[i].t.ndim; dim++)
                if (!try_damage(message, t, i, (damage_kind)kind, dim)) return false;
    for (int i = 0; i < t->f.n * t->f.n; i++)
        if (!try_overlap(message, t, i / t->f.n, i % t->f.n, true) ||
            !try_overlap(message, t, i / t->f.n, i % t->f.n, false))
            return false;
    return true;
}

static bool operands(char *message, const op_family *family, swd_backend *b)
{
    case_walk w = {0};
    trial t = {.w = &w};
    swd_err err = {0};
    while (case_next(&w) && w.family != family) continue;
    bool good = case_make(&t.f, &w, b, 0, &err) == SWD_OK && fixture_upload(&t.f, &err) == SWD_OK;
    if (!good) snprintf(message, CHECK_MESSAGE_MAX, "%s", err.message);
    good = good && all_damages(message, &t);
    if (good && t.tried < 4) {
        snprintf(message, CHECK_MESSAGE_MAX, "only %d damages tried", t.tried);
        good = false;
    }
    fixture_close(&t.f);
    return good;
}

// ---- by hand ----

#define F32(...) tensor_make(NULL, SWD_F32, SHAPE(__VA_ARGS__))
#define NONE tensor_none()

static const float zeros[64];

static swd_tensor host(swd_dtype type, const int64_t *shape, int ndim)
{
    return tensor_make((void *)(uintptr_t)zeros, type, shape, ndim);
}
#define HOST(type, ...) host(type, SHAPE(__VA_ARGS__))

// linear_create with these; 0 where it takes them.
static swd_status pack(swd_exec *ex, swd_tensor w, swd_tensor bias)
{
    swd_linear *packed = NULL;
    swd_status s = ex->backend->linear_create(ex->backend, &packed, w, bias, SWD_F32, ex->err);
    if (packed) ex->backend->linear_destroy(ex->backend, &packed);
    return s;
}

static swd_status pack_kernel(swd_exec *ex, swd_tensor w, swd_tensor bias, int stride, int before,
                              int after)
{
    swd_conv *packed = NULL;
    swd_status s = ex->backend->conv_create(ex->backend, &packed, w, bias, stride, before, after,
                                            false, SWD_F32, ex->err);
    if (packed) ex->backend->conv_destroy(ex->backend, &packed);
    return s;
}

static swd_tensor apart(swd_tensor t)
{
    t.stride[0]++;
    return t;
}

static swd_status by_weight(swd_exec *ex, swd_tensor y, swd_tensor x, swd_tensor residual,
                            swd_tensor gate, bool with_residual)
{
    swd_linear *w;
    swd_status s =
        ex->backend->linear_create(ex->backend, &w, HOST(SWD_F32, 4, 8), NONE, SWD_F32, ex->err);
    if (s != SWD_OK) return SWD_ERR_MEMORY;
    s = with_residual ? op_linear_residual(y, residual, gate, x, w, ex)
                      : op_linear(y, x, w, SWD_ACT_NONE, ex);
    ex->backend->linear_destroy(ex->backend, &w);
    return s;
}

typedef enum conv_op { CONV, UPSAMPLE, RGB8 } conv_op;

static swd_status by_kernel(swd_exec *ex, swd_tensor y, swd_tensor x, conv_op op)
{
    swd_conv *w;
    swd_status s = ex->backend->conv_create(ex->backend, &w, HOST(SWD_F32, 2, 3, 3, 3), NONE, 1, 1,
                                            1, false, SWD_F32, ex->err);
    if (s != SWD_OK) return SWD_ERR_MEMORY;
    s = op == CONV   ? op_conv(y, x, w, SWD_ACT_NONE, NONE, ex)
        : op == RGB8 ? op_conv_rgb8(y, x, w, 1, 0, ex)
                     : op_upsample_conv(y, x, w, ex);
    ex->backend->conv_destroy(ex->backend, &w);
    return s;
}

static swd_status attend(swd_exec *ex, int streams, int64_t d, bool causal, swd_tensor bias)
{
    swd_tensor t = F32(1, 3, 2, d);
    attention_args a = {.n_streams = streams, .scale = 1, .causal = causal, .bias = bias};
    for (int i = 0; i < 2; i++) a.q[i] = a.k[i] = a.v[i] = a.o[i] = t;
    return op_attention(&a, ex);
}

// Two samples in the three rows of a stream.
static swd_status attend_samples(swd_exec *ex, int32_t first, int32_t second, int32_t third,
                                 bool causal)
{
    const int32_t starts[] = {first, second, third};
    const attention_samples samples = {
        .n = 2, .starts = {starts}, .on_device = {tensor1(NULL, SWD_I32, 3)}};
    swd_tensor t = F32(1, 3, 2, 16);
    attention_args a = {.n_streams = 1, .scale = 1, .causal = causal, .samples = &samples};
    a.q[0] = a.k[0] = a.v[0] = a.o[0] = t;
    return op_attention(&a, ex);
}

static swd_status modulate2(swd_exec *ex, swd_dtype second)
{
    const swd_tensor x = F32(1, 2, 8), row = F32(1, 8), rows[] = {row, row};
    const swd_tensor y[] = {x, tensor3(NULL, second, 1, 2, 8)};
    return op_layernorm_modulate2(y, x, rows, rows, 1e-6f, ex);
}

static swd_status rope(swd_exec *ex, swd_tensor qk, swd_tensor angles)
{
    return op_qk_norm_rope(qk, qk, NONE, NONE, 1e-6f, angles, angles, ex);
}

static swd_status resize(swd_exec *ex, swd_tensor steps)
{
    return op_resize_renoise(
        &(resize_renoise_args){.y = F32(2, 2, 5, 5), .x = F32(2, 2, 3, 3), .steps = steps}, ex);
}

// Not dry: ids are looked at where they are used, and a device tells of them when it is waited for.
static swd_status embed(swd_exec *ex, double id)
{
    fixture f;
    fixture_open(&f, ex->backend, "embed", 0);
    operand_add(&f, "y", OUT, SWD_F32, PLAIN, FILL_ZERO, SHAPE(1, 2, 4));
    operand_add(&f, "table", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(3, 4));
    operand_set(operand_add(&f, "ids", IN, SWD_I32, PLAIN, FILL_ZERO, SHAPE(1, 2)), 1, id);
    swd_status s = fixture_upload(&f, ex->err);
    if (s == SWD_OK) {
        ex->dry = false;
        s = op_embed(tensor_of(&f, "y"), tensor_of(&f, "table"), tensor_of(&f, "ids"), ex);
        if (s == SWD_OK) s = ex->backend->synchronize(ex->backend, NULL, ex->err);
    }
    fixture_close(&f);
    return s;
}

// clang-format off
#define CALL(name, call) static swd_status name(swd_exec *ex) { return call; }
CALL(linear_without_weight, op_linear(F32(2, 4), F32(2, 8), NULL, SWD_ACT_NONE, ex))
CALL(linear_of_another_width, by_weight(ex, F32(2, 4), F32(2, 7), NONE, NONE, false))
CALL(linear_to_another_width, by_weight(ex, F32(2, 5), F32(2, 8), NONE, NONE, false))
CALL(linear_of_four_dimensions, by_weight(ex, F32(1, 1, 2, 4), F32(1, 1, 2, 8), NONE, NONE, false))
CALL(residual_absent, by_weight(ex, F32(2, 4), F32(2, 8), NONE, NONE, true))
CALL(gate_of_other_samples, by_weight(ex, F32(2, 3, 4), F32(2, 3, 8), F32(2, 3, 4), F32(3, 4), true))
CALL(gate_without_samples, by_weight(ex, F32(2, 4), F32(2, 8), F32(2, 4), F32(2, 4), true))
CALL(conv_without_weight, op_conv(F32(1, 3, 3, 2), F32(1, 3, 3, 3), NULL, SWD_ACT_NONE, NONE, ex))
CALL(conv_of_other_channels, by_kernel(ex, F32(1, 5, 5, 2), F32(1, 5, 5, 4), CONV))
CALL(conv_to_another_size, by_kernel(ex, F32(1, 5, 6, 2), F32(1, 5, 5, 3), CONV))
CALL(upsample_by_a_plain_weight, by_kernel(ex, F32(1, 5, 5, 2), F32(1, 5, 5, 3), UPSAMPLE))
CALL(upsample_without_weight, op_upsample_conv(F32(1, 6, 6, 2), F32(1, 3, 3, 3), NULL, ex))
CALL(attention_d12, attend(ex, 1, 12, false, NONE))
CALL(attention_d520, attend(ex, 1, 520, false, NONE))
CALL(attention_no_stream, attend(ex, 0, 16, false, NONE))
CALL(attention_three_streams, attend(ex, 3, 16, false, NONE))
CALL(attention_causal_joint, attend(ex, 2, 16, true, NONE))
CALL(attention_bias_joint, attend(ex, 2, 16, false, F32(2, 3, 3)))
CALL(attention_bias_of_one_head, attend(ex, 1, 16, false, F32(1, 3, 3)))
CALL(attention_samples_from_1, attend_samples(ex, 1, 2, 3, false))
CALL(attention_samples_without_rows, attend_samples(ex, 0, 3, 3, false))
CALL(attention_samples_beyond, attend_samples(ex, 0, 2, 4, false))
CALL(attention_samples_causal, attend_samples(ex, 0, 2, 3, true))
CALL(group_norm_no_group, op_group_norm(F32(1, 2, 2, 6), F32(1, 2, 2, 6), F32(6), F32(6), 0, 1e-6f, ex))
CALL(group_norm_uneven, op_group_norm_silu(F32(1, 2, 2, 6), F32(1, 2, 2, 6), F32(6), F32(6), 4, 1e-6f, ex))
CALL(modulate2_of_two_types, modulate2(ex, SWD_BF16))
CALL(qk_of_two_types, op_qk_norm(F32(1, 2, 1, 8), tensor4(NULL, SWD_BF16, 1, 2, 1, 8), NONE, NONE, 1e-6f, ex))
CALL(rope_odd, rope(ex, F32(1, 2, 1, 7), F32(2, 3)))
CALL(rope_of_another_width, rope(ex, F32(1, 2, 1, 8), F32(2, 3)))
CALL(rope_of_other_positions, rope(ex, F32(1, 2, 1, 8), F32(3, 4)))
CALL(relative_bias_near, op_relative_bias(F32(2, 3, 3), F32(32, 2), 8, ex))
CALL(relative_bias_two_buckets, op_relative_bias(F32(2, 3, 3), F32(2, 2), 128, ex))
CALL(relative_bias_odd_buckets, op_relative_bias(F32(2, 3, 3), F32(31, 2), 128, ex))
CALL(sinusoid_odd, op_timestep_sinusoid(F32(2, 7), F32(2), ex))
CALL(patch_of_none, op_patchify(F32(1, 4, 4), F32(1, 1, 4, 4), 0, ex))
CALL(patch_uneven, op_patchify(F32(1, 4, 4), F32(1, 1, 5, 4), 2, ex))
CALL(unpatch_uneven, op_unpatchify(F32(1, 1, 4, 5), F32(1, 4, 4), 2, ex))
CALL(position_over_the_table, op_add_position(F32(1, 8, 3), F32(9, 3), 4, 2, ex))
CALL(position_no_grid, op_add_position(F32(1, 4, 3), F32(9, 3), 0, 2, ex))
CALL(position_of_another_grid, op_add_position(F32(1, 4, 3), F32(9, 3), 3, 2, ex))
CALL(position_table_not_square, op_add_position(F32(1, 4, 3), F32(8, 3), 2, 2, ex))
CALL(resize_steps_off_alignment, resize(ex, tensor2((void *)(uintptr_t)68, SWD_U8, 2, sizeof(renoise_step))))
CALL(resize_steps_of_one_image, resize(ex, tensor2(NULL, SWD_U8, 1, sizeof(renoise_step))))
CALL(noise_steps_off_alignment, op_noise(F32(2, 3), tensor2((void *)(uintptr_t)68, SWD_U8, 2, sizeof(renoise_step)), ex))
CALL(weight_of_integers, pack(ex, HOST(SWD_I32, 4, 8), NONE))
CALL(weight_of_three_dimensions, pack(ex, HOST(SWD_F32, 1, 4, 8), NONE))
CALL(weight_apart, pack(ex, apart(HOST(SWD_F32, 4, 8)), NONE))
CALL(weight_empty, pack(ex, HOST(SWD_F32, 0, 8), NONE))
CALL(weight_bias_long, pack(ex, HOST(SWD_F32, 4, 8), HOST(SWD_F32, 8)))
CALL(weight_bias_bf16, pack(ex, HOST(SWD_F32, 4, 8), HOST(SWD_BF16, 4)))
CALL(kernel_of_integers, pack_kernel(ex, HOST(SWD_I32, 2, 3, 3, 3), NONE, 1, 1, 1))
CALL(kernel_of_three_dimensions, pack_kernel(ex, HOST(SWD_F32, 2, 3, 3), NONE, 1, 1, 1))
CALL(kernel_apart, pack_kernel(ex, apart(HOST(SWD_F32, 2, 3, 3, 3)), NONE, 1, 1, 1))
CALL(kernel_empty, pack_kernel(ex, HOST(SWD_F32, 2, 3, 0, 3), NONE, 1, 1, 1))
CALL(kernel_bias_long, pack_kernel(ex, HOST(SWD_F32, 2, 3, 3, 3), HOST(SWD_F32, 3), 1, 1, 1))
CALL(kernel_stride_0, pack_kernel(ex, HOST(SWD_F32, 2, 3, 3, 3), NONE, 0, 1, 1))
CALL(kernel_padding_negative, pack_kernel(ex, HOST(SWD_F32, 2, 3, 3, 3), NONE, 1, -1, 1))
CALL(embed_id_over_the_table, embed(ex, 3))
CALL(embed_id_negative, embed(ex, -1))
CALL(rgb8_of_two_channels, by_kernel(ex, tensor4(NULL, SWD_U8, 1, 4, 4, 2), F32(1, 4, 4, 3), RGB8))
CALL(rgb8_without_weight, op_conv_rgb8(tensor4(NULL, SWD_U8, 1, 4, 4, 3), F32(1, 4, 4, 3), NULL, 1, 0, ex))
CALL(conv_to_bytes, by_kernel(ex, tensor4(NULL, SWD_U8, 1, 4, 4, 2), F32(1, 4, 4, 3), CONV))
CALL(rgb_of_four_channels, op_to_rgb8(tensor4(NULL, SWD_U8, 1, 2, 2, 4), F32(1, 2, 2, 4), 1, 0, ex))

#define NAMED(name) {#name, name}
static const struct {
    const char *name;
    swd_status (*call)(swd_exec *ex);
} calls[] = {
    NAMED(linear_without_weight), NAMED(linear_of_another_width), NAMED(linear_to_another_width),
    NAMED(linear_of_four_dimensions), NAMED(residual_absent), NAMED(gate_of_other_samples), NAMED(gate_without_samples), NAMED(conv_without_weight),
    NAMED(conv_of_other_channels), NAMED(conv_to_another_size), NAMED(upsample_by_a_plain_weight), NAMED(upsample_without_weight),
    NAMED(attention_d12), NAMED(attention_d520), NAMED(attention_no_stream), NAMED(attention_three_streams),
    NAMED(attention_causal_joint), NAMED(attention_bias_joint), NAMED(attention_bias_of_one_head),
    NAMED(attention_samples_from_1), NAMED(attention_samples_without_rows), NAMED(attention_samples_beyond), NAMED(attention_samples_causal), NAMED(group_norm_no_group),
    NAMED(group_norm_uneven), NAMED(modulate2_of_two_types), NAMED(qk_of_two_types), NAMED(rope_odd), NAMED(rope_of_another_width), NAMED(rope_of_other_positions), NAMED(relative_bias_near), NAMED(relative_bias_two_buckets),
    NAMED(relative_bias_odd_buckets), NAMED(sinusoid_odd), NAMED(patch_of_none), NAMED(patch_uneven), NAMED(unpatch_uneven),
    NAMED(position_over_the_table), NAMED(position_no_grid), NAMED(position_of_another_grid), NAMED(position_table_not_square),
    NAMED(resize_steps_off_alignment), NAMED(resize_steps_of_one_image), NAMED(noise_steps_off_alignment),
    NAMED(weight_of_integers), NAMED(weight_of_three_dimensions), NAMED(weight_apart), NAMED(weight_empty),
    NAMED(weight_bias_long), NAMED(weight_bias_bf16), NAMED(kernel_of_integers), NAMED(kernel_of_three_dimensions),
    NAMED(kernel_apart), NAMED(kernel_empty), NAMED(kernel_bias_long), NAMED(kernel_stride_0), NAMED(kernel_padding_negative),
    NAMED(embed_id_over_the_table), NAMED(embed_id_negative), NAMED(rgb8_of_two_channels), NAMED(rgb8_without_weight), NAMED(conv_to_bytes), NAMED(rgb_of_four_channels),
};
// clang-format on
enum { N_CALLS = sizeof calls / sizeof *calls };

int refuse_count(void)
{
    return n_op_families + N_CALLS;
}

void refuse_name(char id[CASE_ID_MAX], int i)
{
    if (i < n_op_families)
        snprintf(id, CASE_ID_MAX, "refuse.%s.operands", op_families[i]->op);
    else
        snprintf(id, CASE_ID_MAX, "refuse.%s", calls[i - n_op_families].name);
}

bool refuse_check(char message[CHECK_MESSAGE_MAX], int i, swd_backend *b)
{
    if (i < n_op_families) return operands(message, op_families[i], b);
    swd_err err = {0};
    swd_exec ex = {.backend = b, .err = &err, .dry = true};
    swd_status s = calls[i - n_op_families].call(&ex);
    if (s == SWD_ERR_ARGUMENT && err.message[0]) return true;
    snprintf(message, CHECK_MESSAGE_MAX, "status %d, \"%s\"", (int)s, err.message);
    return false;
}
