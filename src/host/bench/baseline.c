// SPDX-License-Identifier: MIT
#include "bench/baseline.h"
#include "bench/document.h"
#include "io/json.h"
#include <math.h>
#include <string.h>

static const double NOISE_LEAST = 0.02;

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static double half_width(double p10, double p90, double median)
{
    return (p90 - p10) / (2 * median);
}

static void compare(bench_entry *e, const json_t *then)
{
    double median = number(then, "median_ms") * 1e-3;
    if (!(median > 0) || !(e->wall.median > 0)) return;
    double noise = half_width(e->wall.p10, e->wall.p90, e->wall.median) +
                   half_width(number(then, "p10_ms") * 1e-3, number(then, "p90_ms") * 1e-3, median);
    bench_before f = {.median_s = median,
                      .change = e->wall.median / median - 1,
                      .noise = noise > NOISE_LEAST ? noise : NOISE_LEAST};
    f.verdict = fabs(f.change) <= f.noise ? BENCH_SAME : f.change < 0 ? BENCH_FASTER : BENCH_SLOWER;
    e->before = f;
}

swd_status baseline_read(bench *b, const char *file, swd_err *err)
{
    swd_json doc;
    SWD_TRY(json_open(&doc, file, err), err);
    json_t *root = doc.root, *results = json_object_get(root, "results"),
           *machine = json_object_get(root, "machine");
    swd_status s = SWD_OK;
    if (json_integer_value(json_object_get(root, "schema")) != BENCH_SCHEMA ||
        !json_is_array(results))
        s = SWD_FAIL(err, SWD_ERR_FILE, "%s: no document of swd bench --json, schema %d", file,
                     BENCH_SCHEMA);
    for (size_t i = 0; s == SWD_OK && i < json_array_size(results); i++) {
        const json_t *then = json_array_get(results, i);
        bench_entry *e = bench_find(b, text(then, "name"), text(then, "precision"));
        if (e) compare(e, then);
    }
    if (s == SWD_OK) {
        static const char *const keys[][2] = {
            {"model", "another model: the changes say nothing of the program"},
            {"cpu", "another machine: the changes say nothing of the program"},
            {"device", "another machine: the changes say nothing of the program"}};
        const char *warning = "";
        for (int i = 0; i < 3; i++)
            if (strcmp(text(machine, keys[i][0]), text(bench_machine(b), keys[i][0])) != 0)
                warning = keys[i][1];
        if (number(machine, "threads") != number(bench_machine(b), "threads"))
            warning = "another number of threads: the changes say nothing of the program";
        bench_fact(b, "baseline", file);
        bench_fact(b, "baseline_revision", text(root, "revision"));
        bench_fact(b, "baseline_warning", warning);
    }
    json_close(&doc);
    return s;
}

const char *baseline_warning(const bench *b)
{
    return text(bench_machine(b), "baseline_warning");
}
