// SPDX-License-Identifier: MIT
#include "bench/document.h"
#include "bench/source.h"
#include <stdio.h>
#include <string.h>

static void set_number(json_t *object, const char *key, double x)
{
    if (x > 0) json_object_set_new(object, key, json_real(x));
}

static void set_stats(json_t *object, const char *unit, bench_stats s, double scale)
{
    char name[64];
    const struct {
        const char *what;
        double x;
    } parts[] = {{"median", s.median}, {"p10", s.p10}, {"p90", s.p90}, {"min", s.min}};
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s", parts[i].what, unit);
        json_object_set_new(object, name, json_real(parts[i].x * scale));
    }
}

static json_t *before_json(const bench_before *f)
{
    static const char *const verdicts[] = {"new", "same", "faster", "slower"};
    return json_pack("{s:s, s:f, s:f, s:f}", "verdict", verdicts[f->verdict], "median_ms",
                     f->median_s * 1e3, "change", f->change, "noise", f->noise);
}

static json_t *entry_json(const bench_entry *e)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(e->name));
    if (e->precision[0]) json_object_set_new(o, "precision", json_string(e->precision));
    json_object_set_new(o, "runs", json_integer(e->wall.runs));
    set_stats(o, "_ms", e->wall, 1e3);
    set_number(o, "cpu_ms", e->cpu_s * 1e3);
    set_number(o, "flop", e->flop);
    set_number(o, "bytes", e->bytes);
    set_number(o, "gflop_s", bench_flop_s(e) * 1e-9);
    set_number(o, "gbyte_s", bench_byte_s(e) * 1e-9);
    set_number(o, "peak_gflop_s", e->peak_flop_s * 1e-9);
    set_number(o, "peak_gbyte_s", e->peak_byte_s * 1e-9);
    set_number(o, "share_of_peak", bench_share(e));
    if (e->peak[0]) json_object_set_new(o, "peak", json_string(e->peak));
    if (e->first[0]) {
        json_t *ratio = json_object();
        json_object_set_new(ratio, "to", json_string(e->first));
        set_stats(ratio, "", e->ratio, 1);
        json_object_set_new(o, "ratio", ratio);
    }
    if (e->n_values) {
        json_t *values = json_object();
        for (int i = 0; i < e->n_values; i++)
            json_object_set_new(values, e->values[i].key, json_real(e->values[i].x));
        json_object_set_new(o, "values", values);
    }
    if (e->before.verdict != BENCH_NEW) json_object_set_new(o, "baseline", before_json(&e->before));
    return o;
}

swd_status document_text(char **out, const bench *b, const char *program, swd_err *err)
{
    json_t *results = json_array();
    bench_limits l = bench_limits_in_force(b);
    for (int i = 0; i < bench_count(b); i++)
        json_array_append_new(results, entry_json(bench_at(b, i)));
    json_t *doc = json_pack("{s:i, s:s, s:s, s:b, s:{s:i, s:i, s:f, s:f}, s:O, s:o}", "schema",
                            BENCH_SCHEMA, "program", program, "revision", source_revision(),
                            "quick", bench_quick(b), "stopping", "warmup_rounds", l.warmup,
                            "runs_min", l.runs_min, "time_box_s", l.budget_s, "patience_s",
                            l.patience_s, "machine", bench_machine(b), "results", results);
    *out = doc ? json_dumps(doc, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(doc);
    return *out ? SWD_OK : SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for the document");
}
