// SPDX-License-Identifier: MIT
// What is measured: networks of random weights, whose work the meter counts; a step beside itself, and by a clock that the test winds;
// models without files.
#include "bench/measure.h"
#include "bench/meter.h"
#include "bench/networks.h"
#include "pipeline/generate.h"
#include "pipeline/networks.h"
#include "pipeline/random.h"
#include "weights/shapes.h"
#include "weights/tensor_list.h"
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static swd_err error;

/* ---- networks ---- */

static swd_status run_network(void *arg, swd_err *err)
{
    return network_forward(arg, err);
}

// A step beside itself, in turns: as the ratio is told with its spread, one lies within it.
Test(bench_networks, the_same_beside_itself_differs_within_the_stated_noise)
{
    static network n;
    pipeline p = {.random = shape_find("tiny")};
    swd_open_params open;
    bench *b;
    swd_open_params_default(&open);
    open.device = "cpu";
    cr_assert_eq(pipeline_open(&p, &open, &error), SWD_OK);
    cr_assert_eq(pipeline_load_transformer(&p, &error), SWD_OK, "%s", error.message);
    n = (network){.p = &p, .kind = NETWORK_STEP, .batch = 1, .side = 8, .text = 20};
    cr_assert_eq(network_prepare(&n, &error), SWD_OK);
    cr_assert_eq(bench_create(&b, 2, NULL, NULL, &error), SWD_OK);
    bench_case cases[2] = {{.name = "one", .run = run_network, .arg = &n},
                           {.name = "the same", .run = run_network, .arg = &n}};
    bench_set_limits(b, (bench_limits){2, 25, 25, 0, 0});
    cr_assert_eq(bench_run(NULL, b, cases, 2, &error), SWD_OK);
    bench_stats ratio = bench_at(b, 1)->ratio;
    cr_assert(ratio.p10 <= 1 && 1 <= ratio.p90, "%g to %g", ratio.p10, ratio.p90);
    bench_destroy(&b);
    network_release(&n);
    pipeline_close(&p);
}

static double wall_s, cpu_s;

static double next_wall(void *ctx)
{
    (void)ctx;
    return wall_s += 3;
}

static double next_cpu(void *ctx)
{
    (void)ctx;
    return cpu_s += 5;
}

// Every reading is 3 seconds after the one before: so long takes a run, and two cases (a step and oneDNN's products) fill a time box of 10
// seconds each in four rounds.
Test(bench_networks, times_are_those_of_the_clock)
{
    static const bench_clock clock = {next_wall, next_cpu, NULL};
    const int side = 64;
    swd_bench_params q = {.size = sizeof q,
                          .what = SWD_BENCH_STEP,
                          .arch = "tiny",
                          .sides = &side,
                          .n_sides = 1,
                          .max_tokens = 77,
                          .runs = 2,
                          .time_box_s = 10};
    swd_open_params open;
    bench *b;
    swd_open_params_default(&open);
    open.device = "cpu";
    q.open = &open;
    cr_assert_eq(measure_run(&b, &q, &clock, &error), SWD_OK, "%s", error.message);
    cr_assert_eq(bench_count(b), 1);
    const bench_entry *e = bench_at(b, 0);
    cr_assert_eq(e->wall.runs, 4);
    cr_assert(e->wall.median == 3 && e->wall.p10 == 3 && e->wall.p90 == 3 && e->cpu_s == 5);
    cr_assert(e->flop > 1e6 && bench_flop_s(e) == e->flop / 3);
    bench_destroy(&b);
}

// 2 per multiply-add of every product of a convolution, a linear layer and an attention, counted one by one.
Test(bench_networks, the_meter_counts_what_the_ops_do)
{
    static meter m;
    static network n;
    pipeline p = {.random = shape_find("tiny")};
    swd_open_params open;
    swd_open_params_default(&open);
    open.device = "cpu";
    cr_assert_eq(pipeline_open(&p, &open, &error), SWD_OK);
    cr_assert_eq(pipeline_load_decoder(&p, &error), SWD_OK);
    n = (network){.p = &p, .kind = NETWORK_DECODE, .batch = 1, .side = 4};
    cr_assert_eq(network_prepare(&n, &error), SWD_OK);
    cr_assert_eq(meter_attach(&m, p.backend, &error), SWD_OK);
    cr_assert_eq(network_forward(&n, &error), SWD_OK);
    meter_detach(p.backend);
    // widths 16 16 32 32 of the tiny decoder, from the inside out: 16 pixels at 32 channels, 64 at 32, 256 at 16, 1024 at 16
    double flop = 0, px[4] = {16, 64, 256, 1024}, w[4] = {32, 32, 16, 16}, in = 32;
    flop += px[0] * 9 * 16 * 32;                                  // conv_in
    flop += px[0] * 4 * 9 * 32 * 32;                              // two resnets in the middle
    double middle = px[0] * 4 * 32 * 32 + 2 * px[0] * px[0] * 32; // its attention
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 2; j++, in = w[i])
            flop += px[i] * 9 * (in + w[i]) * w[i] + (in != w[i] ? px[i] * in * w[i] : 0);
        if (i < 3) flop += px[i + 1] * 9 * w[i] * w[i];
    }
    flop += px[3] * 9 * 16 * 3; // conv_out
    cr_assert_float_eq(m.flop[METER_CONV], 2 * flop, 1);
    cr_assert_float_eq(m.flop[METER_LINEAR] + m.flop[METER_ATTENTION], 2 * middle, 1);
    cr_assert_gt(m.bytes, 1024 * 3);
    network_forward(&n, &error); // a detached meter counts nothing
    cr_assert_float_eq(meter_flop(&m), 2 * (flop + middle), 1);
    network_release(&n);
    pipeline_close(&p);
}

/* ---- models of random weights, without files ---- */

// Parameters that adapters of rank 64 add to attention projections and MLPs, image and text stream: printed for the published students.
static int64_t lora_parameters(const char *shape)
{
    static const char *const targets[] = {"attn.to_", "attn2.to_", "ff.net.0.proj.weight",
                                          "ff.net.2.", "ff_context.net"};
    tensor_list l = {0};
    int64_t sum = 0;
    cr_assert_eq(tensors_transformer(&l, &shape_find(shape)->transformer, NULL), SWD_OK);
    for (size_t i = 0; i < l.n; i++)
        for (size_t k = 0; k < sizeof targets / sizeof *targets; k++)
            if (l.at[i].ndim == 2 && strstr(l.at[i].name, targets[k]) &&
                !strstr(l.at[i].name, "to_add_out"))
                sum += 64 * (l.at[i].shape[0] + l.at[i].shape[1]);
    free(l.at);
    return sum;
}

Test(bench_networks, the_shapes_have_the_parameters_of_the_published_models)
{
    cr_assert_eq(lora_parameters("sd3.5-medium"), 75300864);
    cr_assert_eq(lora_parameters("sd3.5-large"), 164052992);
    cr_assert_null(shape_find("sd4"));
    // those of diffusers' classes
    static const struct {
        const char *name;
        int64_t n;
    } all[] = {{"flux-dev", 11901408320}, {"flux-schnell", 11891178560}};
    for (int i = 0; i < 2; i++) {
        tensor_list l = {0};
        cr_assert_eq(tensors_transformer(&l, &shape_find(all[i].name)->transformer, NULL), SWD_OK);
        cr_expect_eq(tensor_list_parameters(&l), all[i].n, "%s", all[i].name);
        free(l.at);
    }
}

static weights *open_synthetic(void)
{
    tensor_list l = {0};
    weights *w = NULL;
    swd_err err = {0};
    cr_assert_eq(tensors_clip(&l, &shape_find("demo")->clip[0], &err), SWD_OK);
    cr_assert_eq(weights_open_synthetic(&w, &l, "random", &err), SWD_OK, "%s", err.message);
    return w;
}

Test(bench_networks, random_weights_have_their_statistics_and_are_the_same_every_time)
{
    enum { ROWS = 2048, COLUMNS = 96, N = ROWS * COLUMNS };
    static const char name[] = "text_model.embeddings.token_embedding.weight",
                      matrix[] = "text_model.encoder.layers.1.mlp.fc2.weight";
    static float wide[N], again[N], other[N];
    static uint16_t narrow[N];
    const int64_t shape[] = {ROWS, COLUMNS}, fc2[] = {96, 384};
    swd_err err = {0};
    weights *w = open_synthetic(), *v = open_synthetic();
    cr_assert_eq(weights_read(w, name, shape, 2, wide, SWD_F32, &err), SWD_OK);
    cr_assert_eq(weights_read(w, name, shape, 2, narrow, SWD_BF16, &err), SWD_OK);
    cr_assert_eq(weights_read(v, name, shape, 2, again, SWD_F32, &err), SWD_OK);
    cr_assert_eq(memcmp(wide, again, sizeof wide), 0);
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        cr_assert_eq(bf16_to_f32(narrow[i]), wide[i]);
        sum += wide[i];
        squares += (double)wide[i] * wide[i];
    }
    cr_assert_float_eq(sum / N, 0, 0.02); // five standard deviations of a mean over one block
    cr_assert_float_eq(sqrt(squares / N), 1, 0.02);
    cr_assert_eq(weights_read(w, matrix, fc2, 2, other, SWD_F32, &err), SWD_OK);
    squares = 0;
    for (int i = 0; i < 96 * 384; i++) squares += (double)other[i] * other[i];
    cr_assert_float_eq(sqrt(squares / (96 * 384)) * sqrt(384), 1, 0.03);
    int same = 0;
    for (int i = 0; i < 384; i++) same += other[i] == other[384 + i];
    cr_assert_lt(same, 40); // two rows are two rows
    cr_assert_eq(weights_read(w, "nowhere", fc2, 2, other, SWD_F32, &err), SWD_ERR_FILE);
    cr_assert_eq(weights_read(w, matrix, shape, 2, other, SWD_F32, &err), SWD_ERR_FILE);
    cr_assert_eq(weights_check_unused(w, NULL, &err), SWD_ERR_FILE);
    weights_close(&w);
    weights_close(&v);
}

static swd_result *generate_random(pipeline *p, const char *shape)
{
    const char *const prompt = "a red apple";
    swd_open_params open;
    swd_generate_params params;
    swd_result *r = NULL;
    swd_err err = {0};
    swd_open_params_default(&open);
    open.device = "cpu";
    *p = (pipeline){.random = shape_find(shape)};
    cr_assert_eq(pipeline_open(p, &open, &err), SWD_OK, "%s", err.message);
    swd_generate_params_default(&params);
    params.prompts = &prompt;
    params.random_seed = 0;
    params.preset = "sd3.5-medium-6";
    params.max_tokens = 16;
    params.width = params.height = 64;
    cr_assert_eq(generate(&r, &params, p, &err), SWD_OK, "%s", err.message);
    return r;
}

Test(bench_networks, random_weights_take_no_adapters)
{
    swd_err err = {0};
    swd_open_params o;
    pipeline p = {.random = shape_find("tiny")};
    swd_open_params_default(&o);
    o.n_loras = 1000; // more than a pipeline has room for
    cr_expect_eq(pipeline_open(&p, &o, &err), SWD_ERR_ARGUMENT);
    cr_expect(strstr(err.message, "adapters"), "%s", err.message);
    pipeline_close(&p);
}

Test(bench_networks, a_model_of_random_weights_makes_a_picture)
{
    static const char *const shapes[] = {"tiny", "demo"};
    for (int i = 0; i < 2; i++) {
        pipeline p, q;
        swd_result *a = generate_random(&p, shapes[i]), *b = generate_random(&q, shapes[i]);
        size_t n = 64 * 64 * 3;
        int different = 0;
        cr_assert_eq(memcmp(a->images[0].rgb, b->images[0].rgb, n), 0);
        for (size_t k = 3; k < n; k++) different += a->images[0].rgb[k] != a->images[0].rgb[k % 3];
        cr_assert_gt(different, 1000); // neither NaN nor one colour
        result_free(&a);
        result_free(&b);
        pipeline_close(&p);
        pipeline_close(&q);
    }
}
