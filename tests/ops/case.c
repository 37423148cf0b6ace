// SPDX-License-Identifier: MIT
#include "case.h"
#include "families.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

const op_family *const op_families[] = {
    &linear_family,
    &linear_residual_family,
    &conv_family,
    &upsample_conv_family,
    &conv_rgb8_family,
    &attention_family,
    &joint_attention_family,
    &samples_attention_family,
    &group_norm_family,
    &group_norm_silu_family,
    &layernorm_family,
    &modulate_family,
    &modulate2_family,
    &rms_norm_family,
    &qk_norm_family,
    &qk_norm_rope_family,
    &gate_residual_family,
    &activation_family,
    &gated_gelu_family,
    &axpby_family,
    &copy_family,
    &fill_family,
    &guidance_family,
    &embed_family,
    &relative_bias_family,
    &sinusoid_family,
    &add_position_family,
    &patchify_family,
    &unpatchify_family,
    &nchw_to_nhwc_family,
    &nhwc_to_nchw_family,
    &to_rgb8_family,
    &from_rgb8_family,
    &resize_renoise_family,
    &noise_family,
};
const int n_op_families = sizeof op_families / sizeof *op_families;

static swd_dtype letter_type(char letter)
{
    assert(letter == 'f' || letter == 'b' || letter == 'h');
    return letter == 'f' ? SWD_F32 : letter == 'b' ? SWD_BF16 : SWD_F16;
}

// The next word of the current case; a case of fixed types has one, empty.
static bool next_word(case_walk *w)
{
    const char *types = case_at(op_families[w->i_family], w->i_case)->types;
    const char *at = w->word ? w->word : types;
    if (w->word && !*w->word) return false;
    at += strspn(at, " ");
    w->n_types = 0;
    for (; *at && *at != ' '; at++) {
        assert(w->n_types < TYPES_MAX);
        w->type[w->n_types++] = letter_type(*at);
    }
    w->word = at;
    return true;
}

bool case_next(case_walk *w)
{
    while (w->i_family < n_op_families) {
        const op_family *family = op_families[w->i_family];
        if (w->i_case >= family->n) {
            w->i_family++;
            w->i_case = 0;
        } else if (!next_word(w)) {
            w->i_case++;
            w->word = NULL;
        } else {
            w->family = family;
            w->c = case_at(family, w->i_case);
            snprintf(w->id, sizeof w->id, "%s.%s%s%.*s", family->op, w->c->name,
                     w->n_types ? "." : "", w->n_types, w->word - w->n_types);
            return true;
        }
    }
    return false;
}

swd_status case_make(fixture *f, const case_walk *w, swd_backend *b, uint64_t seed, swd_err *err)
{
    fixture_open(f, b, w->id, seed);
    f->n_types = w->n_types;
    memcpy(f->type, w->type, sizeof f->type);
    return w->family->make(f, w->c, err);
}

swd_status case_measure(size_t *slab_bytes, size_t *left, const fixture *f, const case_walk *w,
                        swd_err *err)
{
    fixture empty = *f;
    for (int i = 0; i < empty.n; i++) empty.operand[i].t.data = NULL;
    swd_exec dry = {.backend = f->backend, .err = err, .dry = true};
    SWD_TRY(w->family->run(&empty, w->c, &dry), err);
    *slab_bytes = dry.peak;
    *left = dry.used;
    return SWD_OK;
}
