// SPDX-License-Identifier: MIT
// The harness of the bench programs under a clock that only its cases move: statistics, when a loop ends, interleaving, the JSON.
#include "harness.h"
#include "pipeline/generate.h"
#include "pipeline/random.h"
#include "weights/shapes.h"
#include "weights/tensor_list.h"
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static double now_s; // of the fake clock
static char order[2 * BENCH_RUNS_MAX];
static int cases_before[64], n_before;

static double fake_wall(void *ctx)
{
    (void)ctx;
    return now_s;
}

static double fake_cpu(void *ctx)
{
    (void)ctx;
    return 2 * now_s; // two busy threads
}

static const bench_clock fake_clock = {fake_wall, fake_cpu, NULL};

typedef struct fake_work {
    char letter;
    double cost_s, growth; // every run is `growth` times as long as the one before
} fake_work;

static swd_status work(void *arg, swd_err *err)
{
    (void)err;
    fake_work *w = arg;
    size_t n = strlen(order);
    if (n + 1 < sizeof order) order[n] = w->letter, order[n + 1] = '\0';
    now_s += w->cost_s;
    w->cost_s *= w->growth;
    return SWD_OK;
}

static swd_status broken(void *arg, swd_err *err)
{
    (void)arg;
    return SWD_FAIL(err, SWD_ERR_DEVICE, "the device is on fire");
}

static void note_run(void *arg, int run)
{
    (void)arg;
    now_s += 100; // must not be timed
    if (n_before < 64) cases_before[n_before++] = run;
}

/* ---- statistics ---- */

Test(bench, quantiles_between_samples_are_interpolated)
{
    double five[] = {5, 1, 3, 2, 4}, one[] = {7}, two[] = {3, 1};
    bench_stats s = bench_statistics(five, 5);
    cr_assert_eq(s.runs, 5);
    cr_assert_float_eq(s.median, 3, 1e-12);
    cr_assert_float_eq(s.p10, 1.4, 1e-12);
    cr_assert_float_eq(s.p90, 4.6, 1e-12);
    cr_assert_float_eq(s.min, 1, 0);
    s = bench_statistics(one, 1);
    cr_assert(s.median == 7 && s.p10 == 7 && s.p90 == 7 && s.min == 7);
    s = bench_statistics(two, 2);
    cr_assert_float_eq(s.median, 2, 1e-12);
    cr_assert_float_eq(s.p90, 2.8, 1e-12);
}

Test(bench, a_rotation_overflows_the_cache_within_its_bounds)
{
    cr_assert_eq(bench_rotation((size_t)1 << 50, 16), 2);
    cr_assert_eq(bench_rotation(1, 16), 16);
    cr_assert_eq(bench_rotation(0, 16), 2);
}

/* ---- running a body as a program would ---- */

static swd_status (*inner)(bench *b, swd_err *err);
static bench_result results[4];
static char json_path[64];

static swd_status body(bench *b, swd_err *err)
{
    return inner(b, err);
}

// Exit status of the program with these arguments; what it wrote is in *doc (NULL: nothing).
static int run_program(json_t **doc, swd_status (*fn)(bench *, swd_err *), int n, char **args)
{
    char *argv[16] = {"bench_fake"};
    inner = fn;
    now_s = n_before = 0;
    order[0] = '\0';
    snprintf(json_path, sizeof json_path, "/tmp/swd-bench-%ld.json", (long)getpid());
    unlink(json_path);
    for (int i = 0; i < n; i++) argv[i + 1] = args[i];
    argv[n + 1] = "--json";
    argv[n + 2] = json_path;
    int status = bench_main(
        &(bench_program){
            .name = "bench_fake", .about = "a test", .body = body, .clock = &fake_clock},
        n + 3, argv);
    *doc = json_load_file(json_path, JSON_REJECT_DUPLICATES, NULL);
    unlink(json_path);
    return status;
}

static double real_at(const json_t *o, const char *key)
{
    const json_t *x = json_object_get(o, key);
    cr_assert(json_is_real(x), "%s is missing", key);
    return json_real_value(x);
}

static const json_t *result_at(const json_t *doc, size_t i)
{
    return json_array_get(json_object_get(doc, "results"), i);
}

/* ---- when the loop ends ---- */

static bench_limits limits;

static swd_status one_case(bench *b, swd_err *err)
{
    fake_work w = {'a', 0.125, 1};
    bench_set_limits(b, limits);
    return bench_run(results, b, &(bench_case){.name = "one", .run = work, .arg = &w}, 1, err);
}

static void expect_runs(bench_limits l, int runs, int n_args, char **args)
{
    json_t *doc;
    limits = l;
    cr_assert_eq(run_program(&doc, one_case, n_args, args), 0);
    cr_assert_eq(results[0].wall.runs, runs, "%d runs, not %d", results[0].wall.runs, runs);
    int warmup = n_args && strcmp(args[0], "--quick") == 0 && l.warmup > 1 ? 1 : l.warmup;
    cr_assert_eq((int)strlen(order), runs + warmup);
    json_decref(doc);
}

Test(bench, a_loop_ends_when_its_budget_is_spent_but_not_before_its_fewest_runs)
{
    expect_runs((bench_limits){0, 5, 1000, 1.0}, 8, 0, NULL);
    expect_runs((bench_limits){3, 5, 1000, 1.0}, 8, 0, NULL);
    expect_runs((bench_limits){1, 5, 1000, 0.25}, 5, 0, NULL);
    expect_runs((bench_limits){1, 1, 3, 1.0}, 3, 0, NULL);
    expect_runs((bench_limits){1, 0, 1000, 0}, 1, 0, NULL);
    expect_runs((bench_limits){1, 5, 1000, 1e9}, BENCH_RUNS_MAX, 0, NULL);
}

Test(bench, the_command_line_overrides_the_limits)
{
    expect_runs((bench_limits){1, 5, 1000, 1.0}, 16, 2, (char *[]){"--budget", "2"});
    expect_runs((bench_limits){1, 5, 1000, 1.0}, 12, 2, (char *[]){"--runs", "12"});
    expect_runs((bench_limits){4, 5, 1000, 1.0}, 1, 1, (char *[]){"--quick"});
}

/* ---- interleaving and ratios ---- */

static swd_status contest(bench *b, swd_err *err)
{
    // The machine slows down by a fifth from run to run; b always takes half as long again as a.
    fake_work w[2] = {{'a', 1, 1.2}, {'b', 1.5, 1.2}};
    bench_case cases[2] = {{.name = "old", .run = work, .arg = &w[0], .precision = "f32"},
                           {.name = "new", .run = work, .arg = &w[1], .flop = 3e9}};
    bench_set_limits(b, (bench_limits){0, 4, 4, 0});
    return bench_run(results, b, cases, 2, err);
}

Test(bench, contestants_alternate_and_are_compared_round_by_round)
{
    json_t *doc;
    cr_assert_eq(run_program(&doc, contest, 0, NULL), 0);
    cr_assert_str_eq(order, "abbaabba");
    cr_assert_float_eq(results[1].ratio.median, 1.5, 1e-9);
    cr_assert_float_eq(results[1].ratio.p10, 1.5, 1e-9);
    cr_assert_float_eq(results[1].ratio.p90, 1.5, 1e-9);
    cr_assert_float_eq(results[0].wall.median, (1.2 + 1.44) / 2, 1e-9);
    const json_t *first = result_at(doc, 0), *second = result_at(doc, 1);
    cr_assert_null(json_object_get(first, "ratio"));
    const json_t *ratio = json_object_get(second, "ratio");
    cr_assert_str_eq(json_string_value(json_object_get(ratio, "to")), "old");
    cr_assert_float_eq(real_at(ratio, "median"), 1.5, 1e-5);
    cr_assert_float_eq(real_at(second, "gflop_s"), 3 / (1.5 * (1.2 + 1.44) / 2), 1e-4);
    json_decref(doc);
}

/* ---- the document ---- */

static swd_status two_groups(bench *b, swd_err *err)
{
    fake_work w = {'a', 0.5, 1};
    bench_case peak = {.name = "product", .run = work, .arg = &w, .flop = 4e9},
               op = {.name = "op \"linear\"",
                     .precision = "bf16",
                     .run = work,
                     .before = note_run,
                     .arg = &w,
                     .flop = 1e9,
                     .bytes = 2e9,
                     .peak_flop_s = 8e9,
                     .peak_byte_s = 5e9};
    bench_set_limits(b, (bench_limits){1, 2, 2, 0});
    SWD_TRY(bench_run(NULL, b, &peak, 1, err), err);
    SWD_TRY(bench_run(results, b, &op, 1, err), err);
    bench_value(b, op.name, "peak_memory_bytes", 1024);
    bench_value(b, "not there", "x", 1);
    bench_report(b, &(bench_case){.name = "load", .bytes = 6e9}, 3);
    bench_fact(b, "device", "a fake");
    return SWD_OK;
}

Test(bench, the_document_holds_what_was_measured)
{
    json_t *doc;
    cr_assert_eq(run_program(&doc, two_groups, 0, NULL), 0);
    cr_assert(json_is_object(doc));
    cr_assert_eq(json_integer_value(json_object_get(doc, "schema")), BENCH_SCHEMA);
    cr_assert_str_eq(json_string_value(json_object_get(doc, "program")), "bench_fake");
    cr_assert(json_is_string(json_object_get(doc, "revision")));
    const json_t *machine = json_object_get(doc, "machine");
    const char *const facts[] = {"cpu", "isa_own", "isa_onednn", "onednn", "compiler", "device"};
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        cr_assert(json_is_string(json_object_get(machine, facts[i])), "no %s", facts[i]);
    cr_assert_geq(json_integer_value(json_object_get(machine, "threads")), 1);
    cr_assert_eq(json_array_size(json_object_get(doc, "results")), 3);
    const json_t *op = result_at(doc, 1), *load = result_at(doc, 2);
    cr_assert_str_eq(json_string_value(json_object_get(op, "name")), "op \"linear\"");
    cr_assert_str_eq(json_string_value(json_object_get(op, "precision")), "bf16");
    cr_assert_float_eq(real_at(op, "median_ms"), 500, 1e-3);
    cr_assert_float_eq(real_at(op, "cpu_ms"), 1000, 1e-3);
    cr_assert_float_eq(real_at(op, "gflop_s"), 2, 1e-4);
    cr_assert_float_eq(real_at(op, "gbyte_s"), 4, 1e-4);
    cr_assert_float_eq(real_at(op, "share_of_peak"), 0.8, 1e-5); // of the bytes: the nearer roof
    cr_assert_float_eq(real_at(json_object_get(op, "values"), "peak_memory_bytes"), 1024, 0);
    cr_assert_float_eq(real_at(load, "gbyte_s"), 2, 1e-4);
    cr_assert_eq(json_integer_value(json_object_get(load, "runs")), 1);
    // buffers turn on every run, warm-up too
    cr_assert(n_before == 3 && cases_before[0] == 0 && cases_before[1] == 1 &&
              cases_before[2] == 2);
    json_decref(doc);
}

Test(bench, a_filter_leaves_whole_groups_out)
{
    json_t *doc;
    cr_assert_eq(run_program(&doc, two_groups, 2, (char *[]){"--filter", "linear"}), 0);
    cr_assert_str_eq(json_string_value(json_object_get(result_at(doc, 0), "name")),
                     "op \"linear\"");
    json_decref(doc);
    cr_assert_eq(run_program(&doc, contest, 2, (char *[]){"--filter", "new"}), 0);
    cr_assert_eq(json_array_size(json_object_get(doc, "results")), 2);
    json_decref(doc);
    cr_assert_eq(run_program(&doc, contest, 2, (char *[]){"--filter", "neither"}), 0);
    cr_assert_eq(json_array_size(json_object_get(doc, "results")), 0);
    cr_assert(!results[0].measured && results[0].wall.runs == 0);
    json_decref(doc);
}

static double half_of_cost(void *arg)
{
    return ((fake_work *)arg)->cost_s / 2;
}

static swd_status own_account(bench *b, swd_err *err)
{
    fake_work w = {'a', 0.5, 1};
    bench_set_limits(b, (bench_limits){0, 2, 100, 1});
    return bench_run(results, b,
                     &(bench_case){.name = "stage", .run = work, .own_s = half_of_cost, .arg = &w},
                     1, err);
}

Test(bench, a_case_may_time_a_stage_of_itself)
{
    json_t *doc;
    cr_assert_eq(run_program(&doc, own_account, 0, NULL), 0);
    cr_assert_float_eq(results[0].wall.median, 0.25, 0);
    cr_assert_eq(results[0].wall.runs, 4); // the budget is of what is measured
    json_decref(doc);
}

/* ---- failures ---- */

static swd_status failing(bench *b, swd_err *err)
{
    return bench_run(NULL, b, &(bench_case){.name = "fire", .run = broken}, 1, err);
}

static swd_status too_many(bench *b, swd_err *err)
{
    bench_case cases[BENCH_GROUP_MAX + 1] = {0};
    return bench_run(NULL, b, cases, BENCH_GROUP_MAX + 1, err);
}

Test(bench, a_failure_is_a_status_and_no_document)
{
    json_t *doc;
    cr_assert_eq(run_program(&doc, failing, 0, NULL), 1);
    cr_assert_null(doc);
    cr_assert_eq(run_program(&doc, too_many, 0, NULL), 1);
    cr_assert_null(doc);
}

Test(bench, a_wrong_call_is_status_2)
{
    json_t *doc;
    cr_assert_eq(run_program(&doc, contest, 1, (char *[]){"--fast"}), 2);
    cr_assert_eq(run_program(&doc, contest, 2, (char *[]){"--threads", "0"}), 2);
    cr_assert_eq(run_program(&doc, contest, 2, (char *[]){"--budget", "soon"}), 2);
    cr_assert_null(doc);
    cr_assert_eq(run_program(&doc, contest, 1, (char *[]){"--help"}), 0);
    cr_assert_null(doc);
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

Test(bench, the_shapes_have_the_parameters_of_the_published_models)
{
    cr_assert_eq(lora_parameters("sd3.5-medium"), 75300864);
    cr_assert_eq(lora_parameters("sd3.5-large"), 164052992);
    cr_assert_null(shape_find("sd4"));
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

Test(bench, random_weights_have_their_statistics_and_are_the_same_every_time)
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

Test(bench, a_model_of_random_weights_makes_a_picture)
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
