// SPDX-License-Identifier: MIT
// Ops whose every element depends on the same element of each operand:
//
//     gate_residual    x += gate[b] y                 gated_gelu         y = gelu_tanh(a) b
//     activation       y = act(x)                     axpby              y = a x + b z
//     guidance_combine v = u + g (c - u)              copy, fill         y = x, y = value
#include "families.h"
#include "number.h"
#include <math.h>

typedef struct rows_case {
    op_case head;
    int64_t b, n, d; // [b, n, d]; b = 0: [n, d]; n = 0, too: [d]
    int64_t parts;   // of d, where not 0: [b, n, parts, d / parts]
    bool turned;     // copy: x lies in memory as [n, b, d]
    operand_view view;
    fill fill;
    bool bare;     // without the optional operand: the gate, z
    bool in_place; // y is x (a, of gated_gelu)
    swd_act act;
    float a, b2; // axpby's a and b, the guidance, fill's value
} rows_case;

// clang-format off
#define MIX "ff fb bf bb fh hf hh" // of the 16-bit types one at a time: the CUDA row kernels take no mix of the two
#define MIX_ALL MIX " bh hb" // which only copies have to take
static const rows_case gate_cases[] = {
    {{"d19", SMALL, "fff fbf bff bbb bfb fhf hff hhh hfh"}, .b = 2, .n = 3, .d = 19},
    {{"d1", SMALL, "fff bbb hhh"}, .b = 2, .n = 3, .d = 1, .view = STRIDED},
    {{"d3", SMALL, "fff fbb fhh"}, .b = 2, .n = 1, .d = 3, .view = ODD},
    {{"d99", SMALL, "fff fbf bfb bbb fhf hfh hhh"}, .b = 2, .n = 3, .d = 99, .view = ODD},
    {{"d111", SMALL, "ff fb bb fh hh"}, .b = 2, .n = 3, .d = 111, .view = STRIDED, .bare = true},
    {{"d1030", SMALL, "fff fbf bfb bbb fhf hfh hhh"}, .b = 2, .n = 3, .d = 1030, .view = STRIDED},
    {{"scales", SMALL, "fff bbb hhh"}, .b = 1, .n = 3, .d = 333, .fill = FILL_SCALES},
    {{"many", MEDIUM, "fff fbf bbb fhf hhh"}, .b = 3, .n = 333, .d = 768},
    {{"sd35m_1024", REAL, "fff fbf bbb"}, .b = 1, .n = 1024, .d = 1536},
};

#define EACH_ACT(name, kind) \
    {{name, SMALL, MIX}, .b = 2, .n = 3, .d = 99, .view = ODD, .act = kind, .fill = FILL_WIDE}, \
    {{name "_special", SMALL, MIX}, .b = 2, .n = 1, .d = 111, .act = kind, .fill = FILL_SPECIAL}, \
    {{name "_in_place", SMALL, "ff bb hh"}, .b = 1, .n = 3, .d = 1030, .view = STRIDED, .act = kind, .fill = FILL_WIDE, .in_place = true}
static const rows_case activation_cases[] = {
    EACH_ACT("silu", SWD_ACT_SILU),
    EACH_ACT("none", SWD_ACT_NONE),
    EACH_ACT("gelu_tanh", SWD_ACT_GELU_TANH),
    EACH_ACT("gelu_erf", SWD_ACT_GELU_ERF),
    EACH_ACT("quick_gelu", SWD_ACT_QUICK_GELU),
    EACH_ACT("relu", SWD_ACT_RELU),
    EACH_ACT("tanh", SWD_ACT_TANH),
    {{"silu_d1", SMALL, MIX}, .b = 2, .n = 3, .d = 1, .view = ODD, .act = SWD_ACT_SILU},
    {{"silu_parts", SMALL, MIX}, .b = 2, .n = 3, .d = 96, .parts = 4, .view = ODD, .act = SWD_ACT_SILU},
    {{"silu_vector", SMALL, MIX}, .d = 333, .act = SWD_ACT_SILU},
    {{"silu_scales", SMALL, MIX}, .b = 1, .n = 3, .d = 333, .act = SWD_ACT_SILU, .fill = FILL_SCALES},
    {{"silu_many", MEDIUM, "ff bb hh"}, .b = 3, .n = 333, .d = 768, .act = SWD_ACT_SILU},
    {{"relu_taef2_512", REAL, "ff bb"}, .b = 1, .n = 262144, .d = 64, .act = SWD_ACT_RELU, .in_place = true},
};

static const rows_case gated_cases[] = {
    {{"d19", SMALL, "fff fbf bff bbb ffb fhf hff hhh ffh"}, .b = 2, .n = 3, .d = 19, .fill = FILL_WIDE},
    {{"d1", SMALL, "fff bbb hhh"}, .b = 2, .n = 3, .d = 1, .fill = FILL_WIDE, .view = ODD},
    {{"d99", SMALL, "fff bbb bfb hhh hfh"}, .b = 2, .n = 3, .d = 99, .fill = FILL_WIDE, .view = ODD},
    {{"d1030", SMALL, "fff bbb hhh"}, .b = 2, .n = 3, .d = 1030, .fill = FILL_WIDE, .view = STRIDED},
    {{"in_place", SMALL, "fff bbb hhh"}, .b = 1, .n = 3, .d = 111, .fill = FILL_WIDE, .in_place = true},
    {{"large", SMALL, "fff bbb hhh"}, .b = 1, .n = 3, .d = 111, .fill = FILL_LARGE},
    {{"rows", SMALL, "fff bbb hhh"}, .n = 3, .d = 96, .parts = 2, .fill = FILL_WIDE, .view = STRIDED},
    {{"zeros", SMALL, "fff bbb hhh"}, .b = 1, .n = 3, .d = 19, .fill = FILL_ZERO},
    {{"t5xxl_512", REAL, "fff bbb"}, .b = 1, .n = 512, .d = 10240, .in_place = true},
};

static const rows_case axpby_cases[] = {
    {{"d19", SMALL, "fff fbf bff bbb bfb fhf hff hhh hfh"}, .b = 2, .n = 3, .d = 19, .a = 0.75f, .b2 = -3},
    {{"d1", SMALL, "fff bbb hhh"}, .b = 2, .n = 3, .d = 1, .a = 0.3f, .b2 = 2, .view = ODD},
    {{"d99", SMALL, "fff fbf bbb fhf hhh"}, .b = 2, .n = 3, .d = 99, .a = -0.3f, .b2 = 0.7f, .view = ODD},
    {{"d1030", SMALL, "fff bbb hhh"}, .b = 2, .n = 3, .d = 1030, .a = -0.3f, .b2 = 7, .view = STRIDED},
    {{"parts", SMALL, "fff bbb hhh"}, .b = 2, .n = 3, .d = 96, .parts = 3, .a = 0.5f, .b2 = 0.7f, .view = ODD},
    {{"vector", SMALL, "fff bbb hhh"}, .d = 333, .a = 0.5f, .b2 = 0.7f},
    {{"no_z", SMALL, MIX}, .b = 2, .n = 3, .d = 111, .a = -0.3f, .bare = true},
    {{"in_place", SMALL, "fff bbb hhh"}, .b = 2, .n = 3, .d = 111, .a = 2, .b2 = -1, .in_place = true},
    {{"no_z_in_place", SMALL, "ff bb hh"}, .b = 2, .n = 3, .d = 33, .a = 3, .bare = true, .in_place = true},
    {{"cancels", SMALL, "fff bbb hhh"}, .b = 1, .n = 3, .d = 333, .a = 1, .b2 = -1, .fill = FILL_OFFSET},
    {{"scales", SMALL, "fff bbb hhh"}, .b = 1, .n = 3, .d = 333, .a = 1.5f, .b2 = -0.1f, .fill = FILL_SCALES},
    {{"latents_128", REAL, "fff"}, .b = 1, .n = 16, .d = 16384, .a = 1, .b2 = -0.1f, .in_place = true},
};

static const rows_case guidance_cases[] = {
    {{"d19", SMALL, "fff fbf bff bbb ffb fhf hff hhh ffh"}, .b = 2, .n = 3, .d = 19, .a = 4.5f},
    {{"d1", SMALL, "fff bbb hhh"}, .b = 2, .n = 3, .d = 1, .a = 7, .view = ODD},
    {{"d99", SMALL, "fff bbb hhh"}, .b = 2, .n = 3, .d = 99, .a = 4.5f, .view = ODD},
    {{"d1030", SMALL, "fff bbb hhh"}, .b = 2, .n = 3, .d = 1030, .a = 1.5f, .view = STRIDED},
    {{"parts", SMALL, "fff bbb hhh"}, .b = 2, .n = 3, .d = 96, .parts = 3, .a = 5, .view = STRIDED},
    {{"none", SMALL, "fff bbb hhh"}, .n = 3, .d = 111, .a = 1},
    {{"unconditional", SMALL, "fff bbb hhh"}, .b = 1, .n = 3, .d = 111, .a = 0},
    {{"large", SMALL, "fff bbb hhh"}, .b = 1, .n = 3, .d = 111, .a = 7, .fill = FILL_LARGE},
    {{"latents_128", REAL, "fff"}, .b = 1, .n = 16, .d = 16384, .a = 4.5f},
};

static const rows_case copy_cases[] = {
    {{"d19", SMALL, MIX_ALL}, .b = 2, .n = 3, .d = 19, .fill = FILL_BITS},
    {{"d1", SMALL, MIX_ALL}, .b = 2, .n = 3, .d = 1, .fill = FILL_BITS, .view = ODD},
    {{"d3", SMALL, MIX_ALL}, .b = 2, .n = 3, .d = 3, .fill = FILL_BITS, .view = STRIDED},
    {{"d99", SMALL, MIX_ALL}, .b = 2, .n = 3, .d = 99, .fill = FILL_BITS, .view = ODD},
    {{"d1030", SMALL, MIX_ALL}, .b = 2, .n = 3, .d = 1030, .fill = FILL_BITS, .view = STRIDED},
    {{"rows_in", SMALL, MIX_ALL}, .b = 3, .n = 5, .d = 19, .fill = FILL_BITS, .view = STRIDED_IN},
    {{"rows_out", SMALL, MIX_ALL}, .b = 3, .n = 5, .d = 19, .fill = FILL_BITS, .view = STRIDED_OUT},
    {{"turned", SMALL, MIX_ALL}, .b = 3, .n = 5, .d = 19, .fill = FILL_BITS, .view = STRIDED, .turned = true},
    {{"parts", SMALL, MIX_ALL}, .b = 2, .n = 3, .d = 96, .parts = 8, .fill = FILL_BITS, .view = ODD},
    {{"vector", SMALL, MIX_ALL}, .d = 333, .fill = FILL_BITS, .view = ODD},
    {{"special", SMALL, MIX_ALL}, .b = 1, .n = 1, .d = 111, .fill = FILL_SPECIAL},
    {{"subnormal", SMALL, MIX_ALL}, .b = 1, .n = 3, .d = 111, .fill = FILL_SUBNORMAL},
    {{"many", MEDIUM, MIX_ALL}, .b = 3, .n = 333, .d = 768, .fill = FILL_BITS, .view = STRIDED},
    {{"sd35m_1024", REAL, MIX}, .b = 1, .n = 1024, .d = 1536},
};

static const rows_case fill_cases[] = {
    {{"tenth", SMALL, "f b h"}, .b = 2, .n = 3, .d = 99, .a = 0.1f, .view = ODD},
    {{"d1", SMALL, "f b h"}, .b = 2, .n = 3, .d = 1, .a = -7, .view = STRIDED},
    {{"parts", SMALL, "f b h"}, .b = 2, .n = 3, .d = 96, .parts = 4, .a = 1.1f, .view = ODD},
    {{"vector", SMALL, "f b h"}, .d = 333, .a = 1.1f},
    {{"minus_zero", SMALL, "f b h"}, .b = 1, .n = 1, .d = 1030, .a = -0.0f},
    {{"infinity", SMALL, "f b h"}, .b = 2, .n = 3, .d = 19, .a = INFINITY, .view = STRIDED},
    {{"largest", SMALL, "f b h"}, .b = 1, .n = 3, .d = 19, .a = 3.4028235e38f},
    {{"nan", SMALL, "f b h"}, .b = 1, .n = 3, .d = 19, .a = NAN},
    {{"subnormal", SMALL, "f b h"}, .b = 1, .n = 3, .d = 19, .a = 1e-40f},
    {{"latents_128", REAL, "f b"}, .b = 1, .n = 16, .d = 16384, .a = 0.1f},
};
// clang-format on

static operand *add(fixture *f, const char *name, operand_role role, int letter, const rows_case *k)
{
    const int64_t shape[] = {k->b, k->n, k->d};
    int skip = k->b ? 0 : k->n ? 1 : 2;
    operand *o =
        operand_add(f, name, role, type_of(f, letter), k->view, k->fill, shape + skip, 3 - skip);
    if (k->parts) o->t = tensor_split_last(o->t, k->d / k->parts);
    return o;
}

// y and its first input, by letters 0 and 1; one and the same where the case is in place.
static void add_result(fixture *f, const char *y, const char *x, const rows_case *k)
{
    if (!k->in_place) add(f, y, OUT, 0, k);
    add(f, x, k->in_place ? INOUT : IN, 1, k);
}

static operand *written(const fixture *f, const char *y, const char *x)
{
    operand *o = operand_of(f, y);
    return o ? o : operand_of(f, x);
}

static swd_status make_gate(fixture *f, const void *c, swd_err *err)
{
    const rows_case *k = c;
    (void)err;
    add(f, "x", INOUT, 0, k);
    add(f, "y", IN, 1, k);
    if (!k->bare) operand_add(f, "gate", IN, type_of(f, 2), k->view, k->fill, SHAPE(k->b, k->d));
    return SWD_OK;
}

static swd_status run_gate(const fixture *f, const void *c, swd_exec *ex)
{
    (void)c;
    return op_gate_residual(tensor_of(f, "x"), tensor_of(f, "y"), tensor_of(f, "gate"), ex);
}

static void reference_gate(fixture *f, const void *c)
{
    const rows_case *k = c;
    operand *x = operand_of(f, "x"), *y = operand_of(f, "y"), *gate = operand_of(f, "gate");
    for (int64_t i = 0; i < tensor_numel(x->t); i++) {
        double g = gate ? value_of(gate, i / (k->n * k->d) * k->d + i % k->d) : 1,
               added = g * value_of(y, i), want = value_of(x, i) + added;
        expect_near(x, i, want, fabs(added) + fabs(want), 1);
    }
}

static swd_status make_activation(fixture *f, const void *c, swd_err *err)
{
    (void)err;
    add_result(f, "y", "x", c);
    return SWD_OK;
}

static swd_status run_activation(const fixture *f, const void *c, swd_exec *ex)
{
    const rows_case *k = c;
    return op_activation(written(f, "y", "x")->t, tensor_of(f, "x"), k->act, ex);
}

static void reference_activation(fixture *f, const void *c)
{
    const rows_case *k = c;
    operand *x = operand_of(f, "x"), *y = written(f, "y", "x");
    for (int64_t i = 0; i < tensor_numel(x->t); i++) {
        double v = value_of(x, i), slack = act_slack(v, k->act);
        if (v == 0) slack = 0;                                 // zero keeps its sign
        if (k->act == SWD_ACT_RELU && v <= 0) slack = FLUSHED; // but here
        expect(y, i, act_exact(v, k->act), slack);
    }
}

static swd_status make_gated(fixture *f, const void *c, swd_err *err)
{
    (void)err;
    add_result(f, "y", "a", c);
    add(f, "b", IN, 2, c);
    return SWD_OK;
}

static swd_status run_gated(const fixture *f, const void *c, swd_exec *ex)
{
    (void)c;
    return op_gated_gelu(written(f, "y", "a")->t, tensor_of(f, "a"), tensor_of(f, "b"), ex);
}

static void reference_gated(fixture *f, const void *c)
{
    (void)c;
    operand *a = operand_of(f, "a"), *b = operand_of(f, "b"), *y = written(f, "y", "a");
    for (int64_t i = 0; i < tensor_numel(y->t); i++) {
        double v = value_of(a, i), g = act_exact(v, SWD_ACT_GELU_TANH), want = g * value_of(b, i);
        expect(y, i, want,
               act_slack(v, SWD_ACT_GELU_TANH) * fabs(value_of(b, i)) + UNIT * fabs(want) +
                   FLUSHED);
    }
}

static swd_status make_axpby(fixture *f, const void *c, swd_err *err)
{
    const rows_case *k = c;
    (void)err;
    add_result(f, "y", "x", c);
    if (!k->bare) add(f, "z", IN, 2, c);
    return SWD_OK;
}

static swd_status run_axpby(const fixture *f, const void *c, swd_exec *ex)
{
    const rows_case *k = c;
    return op_axpby(written(f, "y", "x")->t, k->a, tensor_of(f, "x"), k->b2, tensor_of(f, "z"), ex);
}

static void reference_axpby(fixture *f, const void *c)
{
    const rows_case *k = c;
    operand *x = operand_of(f, "x"), *z = operand_of(f, "z"), *y = written(f, "y", "x");
    for (int64_t i = 0; i < tensor_numel(x->t); i++) {
        double p = (double)k->a * value_of(x, i), q = z ? (double)k->b2 * value_of(z, i) : 0;
        expect_near(y, i, p + q, fabs(p) + fabs(q) + fabs(p + q), 1);
    }
}

static swd_status make_guidance(fixture *f, const void *c, swd_err *err)
{
    (void)err;
    add(f, "v", OUT, 0, c);
    add(f, "cond", IN, 1, c);
    add(f, "uncond", IN, 2, c);
    return SWD_OK;
}

static swd_status run_guidance(const fixture *f, const void *c, swd_exec *ex)
{
    const rows_case *k = c;
    return op_guidance_combine(tensor_of(f, "v"), tensor_of(f, "cond"), tensor_of(f, "uncond"),
                               k->a, ex);
}

static void reference_guidance(fixture *f, const void *c)
{
    const rows_case *k = c;
    operand *cond = operand_of(f, "cond"), *uncond = operand_of(f, "uncond"),
            *v = operand_of(f, "v");
    for (int64_t i = 0; i < tensor_numel(v->t); i++) {
        double u = value_of(uncond, i), step = (double)k->a * (value_of(cond, i) - u);
        expect_near(v, i, u + step, 2 * fabs(step) + fabs(u + step), 1);
    }
}

static swd_status make_copy(fixture *f, const void *c, swd_err *err)
{
    const rows_case *k = c;
    (void)err;
    add(f, "y", OUT, 0, k);
    if (k->turned) {
        operand *x =
            operand_add(f, "x", IN, type_of(f, 1), k->view, k->fill, SHAPE(k->n, k->b, k->d));
        const int64_t stride = x->t.stride[0];
        x->t.shape[0] = k->b, x->t.stride[0] = x->t.stride[1];
        x->t.shape[1] = k->n, x->t.stride[1] = stride;
    } else {
        add(f, "x", IN, 1, k);
    }
    return SWD_OK;
}

static swd_status run_copy(const fixture *f, const void *c, swd_exec *ex)
{
    (void)c;
    return op_copy(tensor_of(f, "y"), tensor_of(f, "x"), ex);
}

static void reference_copy(fixture *f, const void *c)
{
    (void)c;
    operand *x = operand_of(f, "x"), *y = operand_of(f, "y");
    for (int64_t i = 0; i < tensor_numel(x->t); i++) expect_exactly(y, i, value_of(x, i));
}

static swd_status make_fill(fixture *f, const void *c, swd_err *err)
{
    (void)err;
    add(f, "y", OUT, 0, c);
    return SWD_OK;
}

static swd_status run_fill(const fixture *f, const void *c, swd_exec *ex)
{
    const rows_case *k = c;
    return op_fill(tensor_of(f, "y"), k->a, ex);
}

static void reference_fill(fixture *f, const void *c)
{
    const rows_case *k = c;
    operand *y = operand_of(f, "y");
    for (int64_t i = 0; i < tensor_numel(y->t); i++) expect_exactly(y, i, (double)k->a);
}

#define FAMILY(name, op_, letters_, kind)                                                          \
    const op_family name = {.op = op_,                                                             \
                            .letters = letters_,                                                   \
                            CASES(kind##_cases),                                                   \
                            .make = make_##kind,                                                   \
                            .run = run_##kind,                                                     \
                            .reference = reference_##kind}
FAMILY(gate_residual_family, "gate_residual", "x y gate", gate);
FAMILY(activation_family, "activation", "y x", activation);
FAMILY(gated_gelu_family, "gated_gelu", "y a b", gated);
FAMILY(axpby_family, "axpby", "y x z", axpby);
FAMILY(guidance_family, "guidance_combine", "v cond uncond", guidance);
FAMILY(copy_family, "copy", "y x", copy);
FAMILY(fill_family, "fill", "y", fill);
