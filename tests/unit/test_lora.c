// SPDX-License-Identifier: MIT
// Adapters against peft's and diffusers' own merge (tools/reference/make_lora_goldens.py), and what must be refused.
#include "base/memory.h"
#include "../files.h"
#include "io/safetensors_write.h"
#include "weights/lora.h"
#include "weights/lora_pattern.h"
#include "weights/merge.h"
#include "weights/weights.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *golden(const char *name)
{
    return path_in(in_source("tests/goldens/lora"), name);
}

typedef struct fixture {
    weights *base;
    lora *adapters[2];
    safetensors *merged;
    swd_err err;
} fixture;

static void open_fixture(fixture *f, const char *first, float scale_first, const char *second,
                         float scale_second)
{
    const char *names[2] = {first, second};
    float scales[2] = {scale_first, scale_second};
    *f = (fixture){0};
    cr_assert_eq(weights_open(&f->base, golden("base.safetensors"), "", &f->err), SWD_OK, "%s",
                 f->err.message);
    cr_assert_eq(safetensors_open(&f->merged, golden("merged.safetensors"), "", &f->err), SWD_OK);
    for (int i = 0; i < 2 && names[i]; i++) {
        cr_assert_eq(lora_open(&f->adapters[i], golden(names[i]), &f->err), SWD_OK, "%s",
                     f->err.message);
        cr_assert_eq(weights_add_lora(f->base, f->adapters[i], scales[i], &f->err), SWD_OK, "%s",
                     f->err.message);
    }
}

static void close_fixture(fixture *f)
{
    weights_close(&f->base);
    lora_close(&f->adapters[0]);
    lora_close(&f->adapters[1]);
    safetensors_close(&f->merged);
}

// Every merged weight of the case; the sums have at most 7 + 1 terms of size about 1: a few epsilons of float32.
static void compare(fixture *f, const char *prefix, int expected)
{
    int n = 0;
    for (int i = 0; i < safetensors_count(f->merged); i++) {
        const st_tensor *t = safetensors_at(f->merged, i);
        if (!str_starts(t->name, prefix)) continue;
        float *x = malloc(t->bytes), *y = malloc(t->bytes);
        uint16_t *h = malloc(t->bytes);
        memcpy(y, t->data, t->bytes);
        const char *name = t->name + strlen(prefix);
        cr_assert_eq(weights_read(f->base, name, t->shape, t->ndim, x, SWD_F32, &f->err), SWD_OK,
                     "%s", f->err.message);
        cr_assert_eq(weights_read(f->base, name, t->shape, t->ndim, h, SWD_BF16, &f->err), SWD_OK,
                     "%s", f->err.message);
        for (int64_t k = 0; k < t->numel; k++) {
            cr_assert(fabsf(x[k] - y[k]) <= 2e-6f * (1 + fabsf(y[k])), "%s[%d]: %g, not %g",
                      t->name, (int)k, (double)x[k], (double)y[k]);
            cr_assert_eq(h[k], f32_to_bf16(x[k]));
        }
        free(x);
        free(y);
        free(h);
        n++;
    }
    cr_assert_eq(n, expected, "%d tensors of %s", n, prefix);
}

Test(lora, peft_folder_with_patterns)
{
    fixture f;
    open_fixture(&f, "peft", 1, NULL, 0);
    compare(&f, "peft/", lora_count(f.adapters[0]));
    close_fixture(&f);
}

Test(lora, diffusers_file_with_metadata)
{
    fixture f;
    open_fixture(&f, "diffusers/pytorch_lora_weights.safetensors", 1, NULL, 0);
    compare(&f, "diffusers/", lora_count(f.adapters[0]));
    close_fixture(&f);
}

Test(lora, diffusers_folder_without_metadata)
{
    fixture f;
    open_fixture(&f, "plain", 1, NULL, 0);
    compare(&f, "plain/", 4);
    close_fixture(&f);
}

Test(lora, two_adapters_scaled)
{
    fixture f;
    open_fixture(&f, "peft", 0.5f, "plain", -0.75f);
    compare(&f, "both/", lora_count(f.adapters[0]));
    close_fixture(&f);
}

Test(lora, scale_zero_leaves_the_bytes)
{
    fixture f;
    open_fixture(&f, "peft", 0, NULL, 0);
    const int64_t shape[2] = {24, 24};
    swd_tensor a, b;
    weights *plain;
    cr_assert_eq(weights_open(&plain, golden("base.safetensors"), "", &f.err), SWD_OK);
    cr_assert_eq(
        weights_get(f.base, &a, "transformer_blocks.0.attn.to_q.weight", shape, 2, SWD_F32, &f.err),
        SWD_OK);
    cr_assert_eq(
        weights_get(plain, &b, "transformer_blocks.0.attn.to_q.weight", shape, 2, SWD_F32, &f.err),
        SWD_OK);
    cr_assert_eq(memcmp(a.data, b.data, tensor_bytes(a)), 0);
    weights_close(&plain);
    close_fixture(&f);
}

// In memory: an adapter written here, parsed, and added to the golden base.
typedef struct made {
    const char *name;
    int64_t rows, columns;
} made;

static swd_status add_made(const made *list, int n, const char *config, const float *fill,
                           swd_err *err)
{
    static float data[4096];
    st_write_tensor t[8];
    char path[] = "/tmp/swd-test-lora-XXXXXX";
    for (int i = 0; i < 4096; i++) data[i] = fill ? *fill : 0.25f;
    for (int i = 0; i < n; i++) {
        t[i] = (st_write_tensor){.name = list[i].name,
                                 .dtype = SWD_F32,
                                 .ndim = list[i].columns ? 2 : 1,
                                 .shape = {list[i].rows, list[i].columns},
                                 .data = data};
    }
    close(mkstemp(path));
    cr_assert_eq(safetensors_write(path, t, n, NULL, 0, err), SWD_OK, "%s", err->message);
    FILE *f = fopen(path, "rb");
    static unsigned char bytes[1 << 16];
    size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    unlink(path);
    lora *l = NULL;
    weights *w = NULL;
    swd_status s = lora_parse(&l, "made", config, config ? strlen(config) : 0, bytes, size, err);
    if (s == SWD_OK) {
        cr_assert_eq(weights_open(&w, golden("base.safetensors"), "", err), SWD_OK);
        s = weights_add_lora(w, l, 1, err);
    }
    float x[24 * 24];
    if (s == SWD_OK)
        s = weights_read(w, "transformer_blocks.0.attn.to_q.weight", (int64_t[]){24, 24}, 2, x,
                         SWD_F32, err);
    weights_close(&w);
    lora_close(&l);
    return s;
}

#define Q "transformer_blocks.0.attn.to_q"
#define P "base_model.model."

static void refused(const made *list, int n, const char *config, const float *fill,
                    swd_status status, const char *text)
{
    swd_err err = {0};
    swd_status s = add_made(list, n, config, fill, &err);
    cr_assert_eq(s, status, "status %d: %s", (int)s, err.message);
    cr_assert_not_null(strstr(err.message, text), "\"%s\" not in: %s", text, err.message);
}

Test(lora, what_is_accepted)
{
    swd_err err = {0};
    cr_assert_eq(add_made((made[]){{Q ".lora.down.weight", 2, 24}, {Q ".lora.up.weight", 24, 2}}, 2,
                          NULL, NULL, &err),
                 SWD_OK, "%s", err.message);
    cr_assert_eq(add_made((made[]){{"transformer." Q ".lora_A.weight", 2, 24},
                                   {"transformer." Q ".lora_B.weight", 24, 2},
                                   {"transformer." Q ".alpha", 1, 0}},
                          3, NULL, NULL, &err),
                 SWD_OK, "%s", err.message);
    cr_assert_eq(add_made((made[]){{P Q ".lora_A.weight", 2, 24}, {P Q ".lora_B.weight", 24, 2}}, 2,
                          "{\"r\": 2}", NULL, &err),
                 SWD_OK, "%s", err.message);
}

Test(lora, what_is_refused)
{
    const made good[] = {{P Q ".lora_A.weight", 2, 24}, {P Q ".lora_B.weight", 24, 2}};
    const float nan = NAN;
    refused(good, 2, NULL, NULL, SWD_ERR_FILE, "adapter_config.json");
    refused(good, 2, "{\"r\": 3}", NULL, SWD_ERR_FILE, "has rank 2");
    refused(good, 2, "{\"r\": 2, \"use_rslora\": true}", NULL, SWD_ERR_UNSUPPORTED, "use_rslora");
    refused(good, 2, "{\"r\": 2, \"use_dora\": true}", NULL, SWD_ERR_UNSUPPORTED, "use_dora");
    refused(good, 2, "{\"r\": 2, \"peft_type\": \"LOHA\"}", NULL, SWD_ERR_UNSUPPORTED, "LOHA");
    refused(good, 2, "{\"r\": 2, \"init_lora_weights\": \"pissa_niter_4\"}", NULL,
            SWD_ERR_UNSUPPORTED, "pissa");
    refused(good, 2, "{\"r\": \"two\"}", NULL, SWD_ERR_FILE, "\"r\"");
    refused(good, 2, "{\"r\": 2, \"rank_pattern\": {\"x(?=y)\": 2}}", NULL, SWD_ERR_UNSUPPORTED,
            "x(?=y)");
    refused(good, 2, "{\"r\": 2}", &nan, SWD_ERR_FILE, "NaN");
    refused(good, 1, "{\"r\": 2}", NULL, SWD_ERR_FILE, "no lora_B");
    refused((made[]){{P Q ".lora_A.weight", 2, 23}, {P Q ".lora_B.weight", 24, 2}}, 2, "{\"r\": 2}",
            NULL, SWD_ERR_FILE, "do not fit");
    refused((made[]){{P Q ".lora_A.weight", 2, 24}, {P Q ".lora_B.weight", 24, 3}}, 2, "{\"r\": 2}",
            NULL, SWD_ERR_FILE, "A [2,24] and B [24,3]");
    refused((made[]){{P "nowhere.lora_A.weight", 2, 24}, {P "nowhere.lora_B.weight", 24, 2}}, 2,
            "{\"r\": 2}", NULL, SWD_ERR_FILE, "nowhere");
    refused((made[]){{P Q ".lora_A.bias", 2, 24}, {P Q ".lora_B.weight", 24, 2}}, 2, "{\"r\": 2}",
            NULL, SWD_ERR_FILE, "lora_A.bias");
    refused((made[]){{"text_encoder.x.lora_A.weight", 2, 24}}, 1, NULL, NULL, SWD_ERR_UNSUPPORTED,
            "text encoders");
    refused((made[]){{"transformer.x.dora_scale", 2, 24}}, 1, NULL, NULL, SWD_ERR_UNSUPPORTED,
            "DoRA");
    refused((made[]){{"lora_unet_x.lora_down.weight", 2, 24}}, 1, NULL, NULL, SWD_ERR_UNSUPPORTED,
            "kohya");
    refused((made[]){{Q ".lora_A.weight", 2, 24}, {"transformer." Q ".lora_A.weight", 2, 24}}, 2,
            NULL, NULL, SWD_ERR_FILE, "the same matrix");
}

Test(lora, patterns_match_as_in_python)
{
    static const struct {
        const char *pattern, *module;
        bool match;
    } cases[] = {
        {"to_q", "a.to_q", true},
        {"to_q", "to_q", true},
        {"to_q", "a.add_to_q", false},
        {"attn.to_q", "b.attn.to_q", true},
        {"attn.to_q", "b.attnxto_q", true},
        {"to_q", "a.to_q.b", false},
        {"^a.to_q", "a.to_q", true},
        {"^a.to_q", "x.a.to_q", false},
        {".*to_(q|k)", "x.add_to_k", true},
        {"blocks\\.\\d+\\.ff", "t.blocks.12.ff", true},
        {"blocks\\.\\d+\\.ff", "t.blocks.x.ff", false},
        {"(?:a|b)+?c", "x.abc", true},
        {"[\\d]x", "m.3x", true},
        {"a|b", "x.b", true},
    };
    swd_err err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool match;
        cr_assert_eq(lora_pattern_match(&match, cases[i].pattern, cases[i].module, "p", "f", &err),
                     SWD_OK, "%s", err.message);
        cr_assert_eq(match, cases[i].match, "%s against %s", cases[i].pattern, cases[i].module);
    }
}

Test(lora, merge_at_odd_sizes)
{
    static const int64_t sizes[][3] = {{1, 1, 1}, {3, 63, 2}, {4, 64, 5}, {5, 65, 1}, {9, 200, 17}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int64_t n = sizes[s][0], k = sizes[s][1], r = sizes[s][2];
        float *w = calloc((size_t)(n * k + 2), sizeof *w), *a = malloc((size_t)(r * k) * sizeof *a),
              *b = malloc((size_t)(n * r) * sizeof *b);
        for (int64_t i = 0; i < r * k; i++) a[i] = (float)(i * 37 % 101) / 50 - 1;
        for (int64_t i = 0; i < n * r; i++) b[i] = (float)(i * 53 % 97) / 48 - 1;
        for (int64_t i = 0; i < n * k + 2; i++) w[i] = 1;
        merge_low_rank(w + 1, a, b, 0.5f, n, k, r);
        cr_assert_eq(w[0], 1);
        cr_assert_eq(w[n * k + 1], 1);
        for (int64_t i = 0; i < n * k; i++) {
            double sum = 0;
            for (int64_t j = 0; j < r; j++)
                sum += (double)b[i / k * r + j] * (double)a[j * k + i % k];
            cr_assert(fabs((double)w[1 + i] - (1 + 0.5 * sum)) <= 1e-6 * (double)(r + 2));
        }
        free(w);
        free(a);
        free(b);
    }
}
