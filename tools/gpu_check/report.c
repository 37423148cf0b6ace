// SPDX-License-Identifier: MIT
#include "report.h"
#include "base/memory.h"
#include "bench/source.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCHEMA = 1, NAME_WIDTH = 44 };

struct report {
    const char *program;
    json_t *doc, *machine, *checks, *results; // the last three belong to doc
    bool table_begun;
};

swd_status report_open(report **out, const char *program, bool quick, swd_err *err)
{
    report *r;
    *out = NULL;
    SWD_TRY(swd_calloc(&r, 1, sizeof *r, "a report", err), err);
    r->program = program;
    r->machine = json_object();
    r->checks = json_object();
    r->results = json_array();
    r->doc = json_pack("{s:i, s:s, s:s, s:b, s:o, s:o, s:o}", "schema", SCHEMA, "program", program,
                       "revision", source_revision(), "quick", quick, "machine", r->machine,
                       "checks", r->checks, "results", r->results);
    if (!r->doc) {
        free(r);
        return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a report");
    }
    *out = r;
    return SWD_OK;
}

void report_close(report **r)
{
    if (!*r) return;
    json_decref((*r)->doc);
    free(*r);
    *r = NULL;
}

void report_fact(report *r, const char *key, const char *value)
{
    json_object_set_new(r->machine, key, json_string(value));
}

void report_number(report *r, const char *key, double value)
{
    bool whole = value == (double)(json_int_t)value;
    json_object_set_new(r->machine, key,
                        whole ? json_integer((json_int_t)value) : json_real(value));
}

/* ---- checks ---- */

static json_t *section_of(report *r, const char *name)
{
    json_t *s = json_object_get(r->checks, name);
    if (s) return s;
    s = json_pack("{s:i, s:i, s:[], s:[]}", "checked", 0, "failed", 0, "failures", "skipped");
    json_object_set_new(r->checks, name, s);
    return s;
}

static int count_of(const json_t *section, const char *key)
{
    return (int)json_integer_value(json_object_get(section, key));
}

static void add_one(json_t *section, const char *key)
{
    json_object_set_new(section, key, json_integer(count_of(section, key) + 1));
}

void report_check(report *r, const char *section, const char *name, const char *message)
{
    json_t *s = section_of(r, section);
    add_one(s, "checked");
    if (!message) return;
    add_one(s, "failed");
    json_array_append_new(json_object_get(s, "failures"),
                          json_pack("{s:s, s:s}", "name", name, "message", message));
    printf("FAILED %s: %s\n", name, message);
}

void report_skip(report *r, const char *section, const char *why)
{
    json_array_append_new(json_object_get(section_of(r, section), "skipped"), json_string(why));
    printf("%s: skipped: %s\n", section, why);
}

void report_summary(const report *r, const char *section)
{
    const json_t *s = json_object_get(r->checks, section);
    int failed = count_of(s, "failed");
    printf("%s: %d checked, %d failed\n", section, count_of(s, "checked"), failed);
    fflush(stdout);
}

static int sum_of(const report *r, const char *key)
{
    const char *name;
    json_t *s;
    int n = 0;
    json_object_foreach(r->checks, name, s) n += count_of(s, key);
    return n;
}

int report_checks(const report *r)
{
    return sum_of(r, "checked");
}

int report_failures(const report *r)
{
    return sum_of(r, "failed");
}

/* ---- times ---- */

static void set_number(json_t *o, const char *key, double x)
{
    if (x > 0) json_object_set_new(o, key, json_real(x));
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

// Of the roofline: the share of the peak that is nearer.
static double share_of(const report_time *t)
{
    double flop = t->peak_flop_s > 0 ? t->flop / t->s.median / t->peak_flop_s : 0,
           byte = t->peak_byte_s > 0 ? t->bytes / t->s.median / t->peak_byte_s : 0;
    return larger(flop, byte);
}

static void print_time(report *r, const report_time *t)
{
    if (!r->table_begun)
        printf("%-*s %5s %10s %10s %10s %5s %8s %8s %6s %8s\n", NAME_WIDTH, "case", "", "median us",
               "p10", "p90", "runs", "TFLOP/s", "GB/s", "share", "x beside");
    r->table_begun = true;
    printf("%-*s %5s %10.2f %10.2f %10.2f %5d %8.1f %8.1f %6.3f", NAME_WIDTH, t->name,
           t->precision ? t->precision : "", t->s.median * 1e6, t->s.p10 * 1e6, t->s.p90 * 1e6,
           t->s.runs, t->flop / t->s.median * 1e-12, t->bytes / t->s.median * 1e-9, share_of(t));
    if (t->beside) printf(" %8.3f", t->ratio.median);
    puts("");
    fflush(stdout);
}

void report_result(report *r, const report_time *t)
{
    json_t *o = json_pack("{s:s, s:i, s:f, s:f, s:f, s:f}", "name", t->name, "runs", t->s.runs,
                          "median_ms", t->s.median * 1e3, "p10_ms", t->s.p10 * 1e3, "p90_ms",
                          t->s.p90 * 1e3, "min_ms", t->s.min * 1e3);
    if (t->precision) json_object_set_new(o, "precision", json_string(t->precision));
    set_number(o, "flop", t->flop);
    set_number(o, "bytes", t->bytes);
    if (t->s.median > 0) {
        set_number(o, "gflop_s", t->flop / t->s.median * 1e-9);
        set_number(o, "gbyte_s", t->bytes / t->s.median * 1e-9);
        set_number(o, "share_of_peak", share_of(t));
    }
    set_number(o, "peak_gflop_s", t->peak_flop_s * 1e-9);
    set_number(o, "peak_gbyte_s", t->peak_byte_s * 1e-9);
    if (t->beside)
        json_object_set_new(o, "ratio",
                            json_pack("{s:s, s:f, s:f, s:f, s:f}", "to", t->beside, "median",
                                      t->ratio.median, "p10", t->ratio.p10, "p90", t->ratio.p90,
                                      "min", t->ratio.min));
    json_array_append_new(r->results, o);
    print_time(r, t);
}

void report_value(report *r, const char *key, double value)
{
    size_t n = json_array_size(r->results);
    if (n == 0) return;
    json_t *o = json_array_get(r->results, n - 1), *values = json_object_get(o, "values");
    if (!values) json_object_set_new(o, "values", values = json_object());
    json_object_set_new(values, key, json_real(value));
}

int report_results(const report *r)
{
    return (int)json_array_size(r->results);
}

/* ---- the page ---- */

static double number_of(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

// Text of a table's cell: what would end the cell or the line is replaced.
static void put_cell(FILE *f, const char *text)
{
    for (; *text; text++) fputc(*text == '|' ? '/' : *text == '\n' ? ' ' : *text, f);
}

static void put_machine(FILE *f, json_t *machine)
{
    const char *key;
    json_t *v;
    fputs("| machine | |\n|---|---|\n", f);
    json_object_foreach(machine, key, v)
    {
        fprintf(f, "| %s | ", key);
        if (json_is_string(v))
            put_cell(f, json_string_value(v));
        else if (json_is_integer(v))
            fprintf(f, "%lld", (long long)json_integer_value(v));
        else
            fprintf(f, "%.6g", json_number_value(v));
        fputs(" |\n", f);
    }
}

static void put_checks(FILE *f, json_t *checks)
{
    const char *name;
    json_t *s, *one;
    size_t i;
    fputs("\n| checks | checked | failed |\n|---|---:|---:|\n", f);
    json_object_foreach(checks, name, s)
        fprintf(f, "| %s | %d | %d |\n", name, count_of(s, "checked"), count_of(s, "failed"));
    json_object_foreach(checks, name, s)
    {
        json_array_foreach(json_object_get(s, "skipped"), i, one)
            fprintf(f, "\n%s: skipped: %s\n", name, json_string_value(one));
        if (count_of(s, "failed") == 0) continue;
        fprintf(f, "\n## Failures: %s\n\n", name);
        json_array_foreach(json_object_get(s, "failures"), i, one)
            fprintf(f, "* `%s`: %s\n", json_string_value(json_object_get(one, "name")),
                    json_string_value(json_object_get(one, "message")));
    }
}

static void put_results(FILE *f, json_t *results)
{
    json_t *o;
    size_t i;
    if (json_array_size(results) == 0) return;
    fputs("\n## Times\n\nShare: of the nearer peak of the roofline. Last "
          "column: time / time of the case before it.\n\n"
          "| case | | median us | p10 | p90 | runs | TFLOP/s | GB/s | share | x beside |\n"
          "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
          f);
    json_array_foreach(results, i, o)
    {
        const json_t *precision = json_object_get(o, "precision"),
                     *ratio = json_object_get(o, "ratio");
        fputs("| ", f);
        put_cell(f, json_string_value(json_object_get(o, "name")));
        fprintf(f, " | %s | %.2f | %.2f | %.2f | %d | %.1f | %.1f | %.3f |",
                precision ? json_string_value(precision) : "", number_of(o, "median_ms") * 1e3,
                number_of(o, "p10_ms") * 1e3, number_of(o, "p90_ms") * 1e3,
                (int)number_of(o, "runs"), number_of(o, "gflop_s") * 1e-3, number_of(o, "gbyte_s"),
                number_of(o, "share_of_peak"));
        if (ratio) fprintf(f, " %.3f", number_of(ratio, "median"));
        fputs(" |\n", f);
    }
}

static void put_page(FILE *f, const report *r)
{
    fprintf(f, "# %s, revision %s\n\n", r->program, source_revision());
    put_machine(f, r->machine);
    put_checks(f, r->checks);
    put_results(f, r->results);
}

/* ---- files ---- */

static void put_document(FILE *f, const report *r)
{
    json_dumpf(r->doc, f, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    fputc('\n', f);
}

static swd_status write_file(const char *folder, const char *suffix, const report *r,
                             void (*put)(FILE *, const report *), swd_err *err)
{
    char *path = NULL, *temporary = NULL, name[64];
    snprintf(name, sizeof name, "%s.%s", r->program, suffix);
    swd_status st = path_join(&path, folder, name, err);
    if (st == SWD_OK) st = swd_asprintf(&temporary, err, "%s.%ld", path, (long)getpid());
    FILE *f = st == SWD_OK ? fopen(temporary, "w") : NULL;
    if (f) {
        put(f, r);
        bool bad = ferror(f) | (fflush(f) != 0);
        bad |= fsync(fileno(f)) != 0;
        bad |= fclose(f) != 0;
        if (bad || rename(temporary, path) != 0) {
            st = SWD_FAIL(err, SWD_ERR_FILE, "%s: %s", path, strerror(errno));
            (void)unlink(temporary);
        }
    } else if (st == SWD_OK) {
        st = SWD_FAIL(err, SWD_ERR_FILE, "%s: %s", temporary, strerror(errno));
    }
    free(path), free(temporary);
    return st;
}

swd_status report_write(const report *r, const char *folder, swd_err *err)
{
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: %s", folder, strerror(errno));
    SWD_TRY(write_file(folder, "json", r, put_document, err), err);
    return write_file(folder, "md", r, put_page, err);
}
