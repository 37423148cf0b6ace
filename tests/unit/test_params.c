// SPDX-License-Identifier: MIT
// What learns: all weights of a network against torch's gradients, adapters and their files, the optimizer's steps.
#include "base/memory.h"
#include "../files.h"
#include "train_bench.h"
#include "weights/lora.h"
#include "weights/shapes.h"
#include "weights/tensor_list.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double TOLERANCE = 1e-5; // of test_train.c: the same chain

// Every weight of the network learns: flow matching, every 7th number of the gradient.
static void full(const char *name)
{
    bench bench_, *b = &bench_;
    bench_open(b, name, SWD_F32);
    weights *w = bench_weights(b);
    OK(params_full(&b->full, b->be, denoiser_holdings(b->net), w, &b->err));
    int64_t files = weights_parameters(w), n, places = 12 * 12 * (int64_t)b->config.sd3.inner_dim;
    weights_close(&w);
    cr_expect_eq(params_numbers(b->full), files - places, "all but the table of positions");
    b->d.student.learnt = b->full;
    distill_batch batch = golden_batch(b->io, b->io, "");
    const float *want = golden_values(b->io, "flow/full", &n);
    float *first = NULL;
    for (int i = 0; i < 2; i++) {
        double loss;
        tape_checkpoint(b->t, i);
        OK(params_zero_gradients(b->full, &b->err));
        OK(distill_flow(&loss, &b->d, batch.target, &batch.mmd, &batch.text, &b->err));
        float *got = flattened(b->full, true);
        if (i) {
            cr_expect_eq(memcmp(first, got, (size_t)params_numbers(b->full) * sizeof *got), 0);
        } else {
            first = malloc((size_t)params_numbers(b->full) * sizeof *first);
            memcpy(first, got, (size_t)params_numbers(b->full) * sizeof *first);
            cr_assert_eq((params_numbers(b->full) + 6) / 7, n);
            for (int64_t k = 0; k < n; k++) got[k] = got[7 * k];
            double d = distance(got, want, n);
            printf("# %s flow/full: %.2e\n", name, d);
            cr_expect(d <= TOLERANCE, "%g", d);
        }
        free(got);
    }
    free(first);
    bench_close(b);
}

Test(params, full_sd3)
{
    full("sd3");
}

Test(params, full_sd35m)
{
    full("sd35m");
}

// The parameters of adapters of rank 64, from the list of a model's tensors.
static int64_t lora_numbers(const char *shape)
{
    tensor_list l = {0};
    swd_err err = {0};
    lora_config c = lora_config_default();
    int64_t n = 0;
    cr_assert_eq(tensors_transformer(&l, &shape_find(shape)->transformer, &err), SWD_OK);
    for (size_t i = 0; i < l.n; i++) {
        char *end = strrchr(l.at[i].name, '.');
        if (!end || strcmp(end, ".weight") != 0) continue;
        *end = 0;
        if (lora_config_matches(&c, l.at[i].name))
            n += c.rank * (l.at[i].shape[0] + l.at[i].shape[1]);
    }
    free(l.at);
    return n;
}

Test(params, numbers_of_adapters)
{
    cr_expect_eq(lora_numbers("sd3.5-medium"), 75300864);
    cr_expect_eq(lora_numbers("sd3.5-large"), 164052992);
    bench bench_, *b = &bench_;
    bench_open(b, "sd35m", SWD_F32); // and as many as the set has
    const config_sd3 *s = &b->config.sd3;
    int64_t d = s->inner_dim, blocks = s->num_layers, image = 4 * 2 * d + 2 * 5 * d;
    int64_t want = RANK * (blocks * image + s->n_dual * 4 * 2 * d + (blocks - 1) * 2 * 5 * d);
    cr_expect_eq(params_numbers(b->student), want, "%lld, not %lld",
                 (long long)params_numbers(b->student), (long long)want);
    static const char *const unknown[] = {"to_q", "to_p"};
    lora_config c = {.rank = 2, .alpha = 2, .targets = unknown, .n_targets = 2};
    params *p;
    cr_expect_eq(params_lora(&p, b->be, denoiser_holdings(b->net), &c, 0, &b->err),
                 SWD_ERR_ARGUMENT);
    cr_expect_not_null(strstr(b->err.message, "to_p"));
    cr_expect_null(p);
    bench_close(b);
}

// A new adapter: A normal with deviation 1 / rank, B zero, so that the student is the teacher; written and read again.
Test(params, new_adapter)
{
    bench bench_, *b = &bench_;
    bench_open(b, "sd35m", SWD_F32);
    lora_config c = lora_config_default();
    params *p, *q;
    char dir[64];
    make_temporary(dir);
    OK(params_lora(&p, b->be, denoiser_holdings(b->net), &c, 7, &b->err));
    OK(params_lora(&q, b->be, denoiser_holdings(b->net), &c, 8, &b->err));
    double sum = 0, n = 0;
    for (int i = 0; i < params_count(p); i++) {
        const param *t = params_at(p, i);
        const float *x = t->value.data;
        bool is_b = strstr(t->name, ".lora_B.") != NULL;
        for (int64_t k = 0; k < tensor_numel(t->value); k++) {
            if (is_b) cr_assert_eq(x[k], 0);
            if (!is_b) sum += (double)x[k] * (double)x[k], n++;
        }
    }
    cr_expect_float_eq(sqrt(sum / n) * c.rank, 1, 0.01, "deviation %g", sqrt(sum / n));
    float *x = params_values(p).data;
    for (int64_t i = 0; i < 100; i++) x[i] = (float)i;
    OK(params_write_peft(p, dir, &c, "a/model", NULL, &b->err));
    OK(params_read_peft(q, dir, &b->err));
    cr_expect_eq(
        memcmp(params_values(p).data, params_values(q).data, tensor_bytes(params_values(p))), 0);
    lora *l;
    OK(lora_open(&l, dir, &b->err));
    cr_expect_eq(2 * lora_count(l), params_count(p));
    cr_expect_eq(lora_at(l, 0)->scale, 1);
    lora_close(&l);
    params_destroy(&q);
    lora_config other = c;
    other.rank = 8;
    OK(params_lora(&q, b->be, denoiser_holdings(b->net), &other, 8, &b->err));
    cr_expect_eq(params_read_peft(q, dir, &b->err), SWD_ERR_FILE);
    params_destroy(&p);
    params_destroy(&q);
    for (int i = 0; i < 2; i++) {
        char *path = bench_join(dir, i ? "adapter_config.json" : "adapter_model.safetensors");
        cr_expect_eq(unlink(path), 0);
        free(path);
    }
    cr_expect_eq(rmdir(dir), 0, "something else was left in %s", dir);
    bench_close(b);
}

// Every tensor that peft writes and no other, in its shape; of the configuration the same values, but for the order of target_modules (a
// set), and nothing that peft's file does not have. Diffusers finds all of it in the header, where alpha would be the rank otherwise.
Test(params, as_peft_writes_it)
{
    bench bench_, *b = &bench_;
    bench_open(b, "sd35m", SWD_F32);
    lora_config c = lora_config_default();
    c.rank = RANK, c.alpha = ALPHA;
    char dir[64], *files[3], key[128];
    make_temporary(dir);
    OK(params_write_peft(b->student, dir, &c, NULL, NULL, &b->err));
    files[0] = bench_join(dir, "adapter_config.json");
    files[1] = bench_join(dir, "adapter_model.safetensors");
    files[2] = bench_join(b->golden, "peft.json");
    safetensors *tensors;
    OK(safetensors_open(&tensors, files[1], NULL, &b->err));
    json_t *golden = json_load_file(files[2], 0, NULL), *ours = json_load_file(files[0], 0, NULL),
           *header = json_loads(safetensors_metadata(tensors, "lora_adapter_metadata"), 0, NULL),
           *config = json_object_get(golden, "config"), *shapes = json_object_get(golden, "shapes"),
           *v, *size;
    cr_assert(golden && ours && header);
    const char *name;
    size_t i;
    cr_expect_eq(safetensors_count(tensors), (int)json_object_size(shapes));
    json_object_foreach(shapes, name, v)
    {
        const st_tensor *t = safetensors_find(tensors, name);
        cr_assert_not_null(t, "%s", name);
        cr_expect_eq(t->dtype, SWD_F32);
        cr_expect_eq(t->ndim, (int)json_array_size(v));
        json_array_foreach(v, i, size)
            cr_expect_eq(t->shape[i], json_integer_value(size), "%s", name);
    }
    json_object_foreach(ours, name, v)
    {
        snprintf(key, sizeof key, "base_model.model.%s", name);
        cr_expect(json_equal(json_object_get(header, key), v), "%s", key);
        if (strcmp(name, "base_model_name_or_path") == 0) {
            cr_expect(json_is_null(v)); // where peft has a path
        } else if (strcmp(name, "target_modules") == 0) {
            const json_t *want = json_object_get(config, name);
            cr_expect_eq(json_array_size(v), json_array_size(want));
            json_array_foreach(want, i, size)
            {
                size_t at = 0;
                while (at < json_array_size(v) && !json_equal(json_array_get(v, at), size)) at++;
                cr_expect_lt(at, json_array_size(v), "%s", json_string_value(size));
            }
        } else {
            cr_expect(json_equal(json_object_get(config, name), v), "%s", name);
        }
    }
    cr_expect_eq(json_object_size(header), json_object_size(ours));
    json_decref(golden), json_decref(ours), json_decref(header);
    safetensors_close(&tensors);
    for (int k = 0; k < 2; k++) cr_expect_eq(unlink(files[k]), 0);
    for (int k = 0; k < 3; k++) free(files[k]);
    cr_expect_eq(rmdir(dir), 0);
    bench_close(b);
}

/* ---- optimizer ---- */

static params *one_vector(bench *b, int64_t n)
{
    params *p;
    int index;
    OK(params_create(&p, b->be, &b->err));
    OK(params_add(&index, p, "x", &n, 1, &b->err));
    OK(params_layout(p, SWD_F32, &b->err));
    return p;
}

Test(params, optimizer)
{
    bench bench_ = {0}, *b = &bench_;
    OK(backend_cpu_create(&b->be, 1, &b->err));
    params *p = one_vector(b, 5);
    optimizer_config c = adamw();
    c.rate = 0.1, c.weight_decay = 0.5, c.clip = 1, c.ema = 0.75, c.kind = RATE_COSINE;
    c.warmup = 2, c.steps = 6;
    static const double rates[] = {
        0.05, 0.1, 0.1, 0.1 * 0.8535533905932737, 0.05, 0.1 * 0.14644660940672627, 0, 0};
    for (int i = 0; i < 8; i++)
        cr_expect_float_eq(optimizer_rate(&c, i + 1), rates[i], 1e-9, "step %d: %g", i + 1,
                           optimizer_rate(&c, i + 1));
    optimizer *o;
    OK(optimizer_create(&o, p, &c, &b->err));
    float *x = params_values(p).data, *g = params_gradients(p).data;
    const float *ema = optimizer_state_of(o).ema.data;
    double m = 0, v = 0, want = 0, mean = 0;
    for (int step = 1; step <= 3; step++) {
        double size;
        for (int i = 0; i < 5; i++) g[i] = 2 * 2.0f * (float)step; // two micro-batches
        OK(optimizer_step(o, 2, &size, &b->err));
        cr_expect_float_eq(size, 2 * step * sqrt(5), 1e-5);
        double grad = 1 / sqrt(5); // clipped
        m = 0.9 * m + 0.1 * grad, v = 0.999 * v + 0.001 * grad * grad;
        want = want * (1 - 0.5 * rates[step - 1]) - rates[step - 1] * (m / (1 - pow(0.9, step))) /
                                                        (sqrt(v / (1 - pow(0.999, step))) + 1e-8);
        mean = 0.75 * mean + 0.25 * want;
        for (int i = 0; i < 5; i++) {
            cr_expect_float_eq((double)x[i], want, 1e-6, "step %d: %g, not %g", step, (double)x[i],
                               want);
            cr_expect_float_eq((double)ema[i], mean, 1e-6);
            cr_expect_eq(g[i], 0);
        }
    }
    g[3] = NAN;
    cr_expect_eq(optimizer_step(o, 1, NULL, &b->err), SWD_ERR_DEVICE);
    cr_expect_eq(g[3], 0);
    cr_expect_float_eq((double)x[3], want, 1e-6, "a NaN got through");
    cr_expect_eq(*optimizer_state_of(o).step, 3);
    optimizer_destroy(&o);
    params_destroy(&p);
    backend_destroy(&b->be);
}
