// SPDX-License-Identifier: MIT
// Measuring under a clock that only its cases move: statistics, when a loop ends, interleaving, the document, a baseline, tables and
// pictures; other programs as contestants.
#include "bench/baseline.h"
#include "bench/child.h"
#include "bench/document.h"
#include "bench/gpu.h"
#include "bench/harness.h"
#include "bench/pictures.h"
#include "bench/tables.h"
#include "../files.h"
#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static double now_s; // of the fake clock
static char order[2 * BENCH_RUNS_MAX];
static int cases_before[64], n_before;
static swd_err error;

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

static bench *open_bench(const bench_wish *wish)
{
    bench *b;
    now_s = n_before = 0;
    order[0] = '\0';
    swd_err_clear(&error);
    cr_assert_eq(bench_create(&b, 2, wish, &fake_clock, &error), SWD_OK);
    return b;
}

static json_t *document_of(const bench *b)
{
    char *text;
    cr_assert_eq(document_text(&text, b, "swd bench fake", &error), SWD_OK);
    json_t *doc = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    cr_assert_not_null(doc);
    free(text);
    return doc;
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

/* ---- when the loop ends ---- */

static void expect_runs(bench_limits l, int runs, int warmups, const bench_wish *wish)
{
    bench *b = open_bench(wish);
    fake_work w = {'a', 0.125, 1};
    int at;
    bench_set_limits(b, l);
    cr_assert_eq(bench_run(&at, b, &(bench_case){.name = "one", .run = work, .arg = &w}, 1, &error),
                 SWD_OK);
    cr_assert_eq(at, 0);
    cr_assert_eq(bench_at(b, 0)->wall.runs, runs, "%d runs, not %d", bench_at(b, 0)->wall.runs,
                 runs);
    cr_assert_eq((int)strlen(order), runs + warmups);
    bench_destroy(&b);
}

Test(bench, a_loop_ends_when_its_budget_is_spent_but_not_before_its_fewest_runs)
{
    expect_runs((bench_limits){0, 5, 1000, 1.0, 0}, 8, 0, NULL);
    expect_runs((bench_limits){3, 5, 1000, 1.0, 0}, 8, 3, NULL);
    expect_runs((bench_limits){1, 5, 1000, 0.25, 0}, 5, 1, NULL);
    expect_runs((bench_limits){1, 1, 3, 1.0, 0}, 3, 1, NULL);
    expect_runs((bench_limits){1, 0, 1000, 0, 0}, 1, 1, NULL);
    expect_runs((bench_limits){1, 5, 1000, 1e9, 0}, BENCH_RUNS_MAX, 1, NULL);
    expect_runs((bench_limits){1, 5, 1000, 1.0, 0.25}, 2, 1, NULL); // out of patience
}

Test(bench, a_wish_overrides_the_limits)
{
    expect_runs((bench_limits){1, 5, 1000, 1.0, 0}, 16, 1, &(bench_wish){.budget_s = 2});
    expect_runs((bench_limits){1, 5, 1000, 1.0, 0.1}, 12, 1, &(bench_wish){.runs = 12});
    expect_runs((bench_limits){4, 5, 1000, 1.0, 0}, 1, 1, &(bench_wish){.quick = true});
    expect_runs((bench_limits){0, 5, 1000, 1.0, 0}, 1, 0, &(bench_wish){.quick = true});
}

Test(bench, a_long_case_is_left_out_of_further_rounds_and_the_others_go_on)
{
    bench *b = open_bench(NULL);
    fake_work w[3] = {{'a', 0.5, 1}, {'b', 9, 1}, {'c', 0.25, 1}};
    bench_case cases[3] = {{.name = "scales", .run = work, .arg = &w[0]},
                           {.name = "28 steps", .run = work, .arg = &w[1]},
                           {.name = "2 steps", .run = work, .arg = &w[2]}};
    bench_set_limits(b, (bench_limits){0, 3, 100, 1, 5});
    cr_assert_eq(bench_run(NULL, b, cases, 3, &error), SWD_OK);
    cr_assert_str_eq(order, "abccaac");
    cr_assert_eq(bench_at(b, 1)->wall.runs, 1);
    cr_assert_float_eq(bench_at(b, 1)->ratio.median, 18, 1e-9);
    cr_assert_eq(bench_at(b, 2)->wall.runs, 3);
    bench_destroy(&b);
}

/* ---- interleaving and ratios ---- */

static void contest(bench *b)
{
    // The machine slows down by a fifth from run to run; b always takes half as long again as a.
    fake_work w[2] = {{'a', 1, 1.2}, {'b', 1.5, 1.2}};
    bench_case cases[2] = {{.name = "old", .run = work, .arg = &w[0], .precision = "f32"},
                           {.name = "new", .run = work, .arg = &w[1], .flop = 3e9}};
    bench_set_limits(b, (bench_limits){0, 4, 4, 0, 0});
    cr_assert_eq(bench_run(NULL, b, cases, 2, &error), SWD_OK);
}

Test(bench, contestants_alternate_and_are_compared_round_by_round)
{
    bench *b = open_bench(NULL);
    contest(b);
    cr_assert_str_eq(order, "abbaabba");
    const bench_entry *e = bench_at(b, 1);
    cr_assert_float_eq(e->ratio.median, 1.5, 1e-9);
    cr_assert_float_eq(e->ratio.p10, 1.5, 1e-9);
    cr_assert_float_eq(e->ratio.p90, 1.5, 1e-9);
    cr_assert_float_eq(bench_at(b, 0)->wall.median, (1.2 + 1.44) / 2, 1e-9);
    json_t *doc = document_of(b);
    const json_t *first = result_at(doc, 0), *second = result_at(doc, 1);
    cr_assert_null(json_object_get(first, "ratio"));
    const json_t *ratio = json_object_get(second, "ratio");
    cr_assert_str_eq(json_string_value(json_object_get(ratio, "to")), "old");
    cr_assert_float_eq(real_at(ratio, "median"), 1.5, 1e-5);
    cr_assert_float_eq(real_at(second, "gflop_s"), 3 / (1.5 * (1.2 + 1.44) / 2), 1e-4);
    json_decref(doc);
    bench_destroy(&b);
}

/* ---- the document ---- */

static void two_groups(bench *b)
{
    static fake_work w = {'a', 0.5, 1};
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
    double samples[] = {3, 3};
    int at;
    bench_set_limits(b, (bench_limits){1, 2, 2, 0, 0});
    cr_assert_eq(bench_run(NULL, b, &peak, 1, &error), SWD_OK);
    cr_assert_eq(bench_run(&at, b, &op, 1, &error), SWD_OK);
    if (at >= 0) bench_value(b, at, "peak_memory_bytes", 1024);
    bench_case load = {.name = "load", .bytes = 6e9};
    cr_assert_eq(bench_report(b, &load, samples, 2, &error), SWD_OK);
    bench_fact(b, "device", "a fake");
}

Test(bench, the_document_holds_what_was_measured)
{
    bench *b = open_bench(NULL);
    two_groups(b);
    json_t *doc = document_of(b);
    cr_assert_eq(json_integer_value(json_object_get(doc, "schema")), BENCH_SCHEMA);
    cr_assert_str_eq(json_string_value(json_object_get(doc, "program")), "swd bench fake");
    cr_assert(json_is_string(json_object_get(doc, "revision")));
    const json_t *machine = json_object_get(doc, "machine");
    const char *const facts[] = {"cpu", "isa_own", "isa_onednn", "onednn", "compiler", "device"};
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        cr_assert(json_is_string(json_object_get(machine, facts[i])), "no %s", facts[i]);
    cr_assert_eq(json_integer_value(json_object_get(machine, "threads")), 2);
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
    // buffers turn on every run, warm-up too
    cr_assert(n_before == 3 && cases_before[0] == 0 && cases_before[1] == 1 &&
              cases_before[2] == 2);
    json_decref(doc);
    bench_destroy(&b);
}

Test(bench, a_filter_leaves_whole_groups_out)
{
    bench *b = open_bench(&(bench_wish){.filter = "linear"});
    two_groups(b); // bench_report() takes what was measured elsewhere
    cr_assert_eq(bench_count(b), 2);
    cr_assert_str_eq(bench_at(b, 0)->name, "op \"linear\"");
    bench_destroy(&b);
    b = open_bench(&(bench_wish){.filter = "new"});
    contest(b);
    cr_assert_eq(bench_count(b), 2); // with what it is compared to
    bench_destroy(&b);
    b = open_bench(&(bench_wish){.filter = "neither"});
    contest(b);
    cr_assert_eq(bench_count(b), 0);
    cr_assert_str_eq(order, "");
    bench_destroy(&b);
}

static double half_of_cost(void *arg)
{
    return ((fake_work *)arg)->cost_s / 2;
}

Test(bench, a_case_may_time_a_stage_of_itself)
{
    bench *b = open_bench(NULL);
    fake_work w = {'a', 0.5, 1};
    bench_case c = {.name = "stage", .run = work, .own_s = half_of_cost, .arg = &w};
    bench_set_limits(b, (bench_limits){0, 1, 100, 1, 0});
    cr_assert_eq(bench_run(NULL, b, &c, 1, &error), SWD_OK);
    cr_assert_float_eq(bench_at(b, 0)->wall.median, 0.25, 0);
    cr_assert_eq(bench_at(b, 0)->wall.runs, 2); // the budget is of the clock's time
    bench_destroy(&b);
}

Test(bench, a_failure_is_a_status_and_no_result)
{
    bench *b = open_bench(NULL);
    bench_case fire = {.name = "fire", .run = broken}, many[BENCH_GROUP_MAX + 1] = {0};
    cr_assert_eq(bench_run(NULL, b, &fire, 1, &error), SWD_ERR_DEVICE);
    cr_assert_not_null(strstr(error.message, "on fire"));
    cr_assert_eq(bench_run(NULL, b, many, BENCH_GROUP_MAX + 1, &error), SWD_ERR_ARGUMENT);
    cr_assert_eq(bench_count(b), 0);
    bench_destroy(&b);
}

static int third_time(void *user, const char *name)
{
    cr_assert_str_eq(name, "stage");
    return ++*(int *)user == 3;
}

Test(bench, the_caller_may_stop_it_before_any_run)
{
    bench *b = open_bench(NULL);
    fake_work w = {'a', 0.5, 1};
    int asked = 0;
    bench_case c = {.name = "stage", .run = work, .arg = &w};
    bench_on_run(b, third_time, &asked);
    bench_set_limits(b, (bench_limits){1, 5, 100, 1, 0});
    cr_assert_eq(bench_run(NULL, b, &c, 1, &error), SWD_ERR_CANCELLED);
    cr_assert_str_eq(order, "aa");
    cr_assert_eq(bench_count(b), 0);
    bench_destroy(&b);
}

/* ---- beside an earlier run ---- */

static bench *of_times(const char *const names[4], double times[4][3])
{
    bench *b = open_bench(NULL);
    for (int i = 0; i < 4; i++) {
        double samples[3] = {times[i][0], times[i][1], times[i][2]};
        bench_case c = {.name = names[i], .precision = "f32"};
        cr_assert_eq(bench_report(b, &c, samples, 3, &error), SWD_OK);
    }
    return b;
}

Test(bench, changes_beyond_the_noise_of_both_runs_are_marked)
{
    static const char *const then_names[4] = {"steady", "shaky", "faster", "gone"},
                             *const now_names[4] = {"steady", "shaky", "faster", "new"};
    double then[4][3] = {{1, 1, 1}, {1, 1.5, 2}, {2, 2, 2}, {1, 1, 1}},
           now[4][3] = {{1.03, 1.03, 1.03}, {1.6, 2, 2.4}, {1, 1, 1}, {9, 9, 9}};
    char path[64], cpu[128], *text;
    snprintf(path, sizeof path, "/tmp/swd-bench-%ld.json", (long)getpid());
    bench *b = of_times(then_names, then);
    cr_assert_eq(document_text(&text, b, "swd bench fake", &error), SWD_OK);
    write_text(path, text);
    free(text);
    cr_assert_eq(baseline_read(b, path, &error), SWD_OK, "%s", error.message);
    for (int i = 0; i < 4; i++) // the run beside itself
        cr_assert(bench_at(b, i)->before.verdict == BENCH_SAME &&
                  bench_at(b, i)->before.change == 0);
    cr_assert_str_eq(baseline_warning(b), "");
    bench_destroy(&b);
    b = of_times(now_names, now);
    snprintf(cpu, sizeof cpu, "%s", json_string_value(json_object_get(bench_machine(b), "cpu")));
    bench_fact(b, "cpu", "another one");
    cr_assert_eq(baseline_read(b, path, &error), SWD_OK);
    cr_assert_eq(bench_at(b, 0)->before.verdict, BENCH_SLOWER); // 3 % where nothing moves
    cr_assert_float_eq(bench_at(b, 0)->before.noise, 0.02, 1e-9);
    cr_assert_eq(bench_at(b, 1)->before.verdict, BENCH_SAME); // 33 % of noise of 27 + 16 %
    cr_assert_float_eq(bench_at(b, 1)->before.noise, 0.8 / 3 + 0.64 / 4, 1e-5);
    cr_assert_eq(bench_at(b, 2)->before.verdict, BENCH_FASTER);
    cr_assert_float_eq(bench_at(b, 2)->before.change, -0.5, 1e-6);
    cr_assert_eq(bench_at(b, 3)->before.verdict, BENCH_NEW);
    cr_assert_not_null(strstr(baseline_warning(b), "another machine"));
    bench_fact(b, "model", "another one");
    bench_fact(b, "cpu", cpu);
    cr_assert_eq(baseline_read(b, path, &error), SWD_OK);
    cr_assert_not_null(strstr(baseline_warning(b), "another model"), "%s", baseline_warning(b));
    cr_assert_eq(tables_text(&text, b, false, &error), SWD_OK);
    cr_assert_not_null(strstr(text, "-50.0% (noise 2.0%) FASTER"), "%s", text);
    free(text);
    write_text(path, "{\"schema\": 2, \"results\": []}");
    cr_assert_eq(baseline_read(b, path, &error), SWD_ERR_FILE);
    unlink(path);
    cr_assert_eq(baseline_read(b, path, &error), SWD_ERR_FILE);
    bench_destroy(&b);
}

/* ---- tables and pictures ---- */

static bench *of_pictures(void)
{
    static const char *const names[4] = {"64 px: six", "64 px: 6 full steps", "128 px: six",
                                         "128 px: 6 full steps"};
    static fake_work w[4] = {{'a', 1, 1}, {'b', 2, 1}, {'c', 3, 1}, {'d', 7.5, 1}};
    bench *b = open_bench(NULL);
    for (int i = 0; i < 4; i += 2) {
        bench_case cases[2] = {{.name = names[i], .run = work, .arg = &w[i]},
                               {.name = names[i + 1], .run = work, .arg = &w[i + 1]}};
        int at;
        bench_set_limits(b, (bench_limits){0, 1, 1, 0, 0});
        cr_assert_eq(bench_run(&at, b, cases, 2, &error), SWD_OK);
        for (int k = 0; k < 2; k++) {
            bench_value(b, at + k, "denoise_flop", 1e9);
            bench_value(b, at + k, "denoise_ms", 1e3);
        }
    }
    return b;
}

Test(bench, seconds_by_size_are_a_table)
{
    bench *b = of_pictures();
    char *text;
    cr_assert_eq(tables_text(&text, b, true, &error), SWD_OK);
    const char *want = "| seconds a picture | 64x64 | 128x128 |\n|---|---:|---:|\n"
                       "| six | 1 | 3 |\n| 6 full steps | 2 (2.00x) | 7.5 (2.50x) |\n";
    cr_assert_not_null(strstr(text, want), "%s", text);
    free(text);
    bench_destroy(&b);
}

Test(bench, two_sizes_are_two_pictures)
{
    bench *b = of_pictures();
    char path[64], second[64], line[256] = "";
    snprintf(path, sizeof path, "/tmp/swd-bench-%ld.svg", (long)getpid());
    snprintf(second, sizeof second, "/tmp/swd-bench-%ld-sizes.svg", (long)getpid());
    cr_assert_eq(pictures_write(b, path, &error), SWD_OK, "%s", error.message);
    bool found = false;
    FILE *f = fopen(second, "r");
    cr_assert_not_null(f);
    while (fgets(line, sizeof line, f)) found |= strstr(line, "6 full steps") != NULL;
    cr_assert(found);
    fclose(f);
    cr_assert(unlink(path) == 0 && unlink(second) == 0);
    bench_destroy(&b);
    b = open_bench(NULL);
    cr_assert_eq(pictures_write(b, path, &error), SWD_ERR_UNSUPPORTED);
    contest(b); // times alone
    cr_assert_eq(pictures_write(b, path, &error), SWD_OK);
    cr_assert_eq(unlink(path), 0);
    bench_destroy(&b);
}

Test(bench, a_card_is_found_by_the_longest_name)
{
    cr_assert_float_eq(gpu_peak_of("NVIDIA H100 80GB HBM3, sm_90")->flop_s, 989.4e12, 0);
    cr_assert_float_eq(gpu_peak_of("NVIDIA H100 PCIe")->flop_s, 756e12, 0);
    cr_assert_float_eq(gpu_peak_of("NVIDIA A100-PCIE-40GB")->byte_s, 1555e9, 0);
    cr_assert_float_eq(gpu_peak_of("NVIDIA A100-SXM4-40GB")->byte_s, 1555e9, 0);
    cr_assert_float_eq(gpu_peak_of("NVIDIA GeForce RTX 4090")->flop_s, 165.2e12, 0);
    cr_assert_null(gpu_peak_of("NVIDIA GeForce RTX 4090 Laptop GPU")); // a slower one
    cr_assert_null(gpu_peak_of("GeForce 256"));
}

/* ---- other programs ---- */

Test(bench, a_program_that_has_ended_is_an_error_and_no_signal)
{
    child *c;
    char line[64], *const cat[] = {"cat", NULL}, *const done[] = {"true", NULL},
                          *const none[] = {"/nonexistent/program", NULL};
    struct sigaction before, after;
    cr_assert_eq(sigaction(SIGPIPE, NULL, &before), 0);
    cr_assert_eq(child_start(&c, cat, 0, &error), SWD_OK, "%s", error.message);
    cr_assert_eq(child_write(c, "a line", &error), SWD_OK);
    cr_assert_eq(child_read(c, line, sizeof line, &error), SWD_OK);
    cr_assert_str_eq(line, "a line");
    cr_assert_eq(child_stop(&c, 0, &error), SWD_OK);
    cr_assert_eq(child_start(&c, done, 0, &error), SWD_OK);
    cr_assert_eq(child_read(c, line, sizeof line, &error), SWD_ERR_DEVICE); // it is ending
    for (int i = 0; i < 5000 && child_write(c, "a line", &error) == SWD_OK; i++) usleep(1000);
    cr_assert_eq(child_write(c, "a line", &error), SWD_ERR_DEVICE);
    cr_assert_eq(child_stop(&c, 0, &error), SWD_OK);
    cr_assert_eq(sigaction(SIGPIPE, NULL, &after), 0);
    cr_assert(before.sa_handler == SIG_DFL && after.sa_handler == SIG_DFL);
    cr_assert_eq(child_start(&c, none, 1, &error), SWD_OK);
    cr_assert_eq(child_stop(&c, 0, &error), SWD_ERR_DEVICE); // its exit status says so
    cr_assert_null(c);
}
