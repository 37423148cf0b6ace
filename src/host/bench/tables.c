// SPDX-License-Identifier: MIT
#include "bench/tables.h"
#include "base/memory.h"
#include "bench/baseline.h"
#include "bench/source.h"
#include <stdio.h>
#include <string.h>

enum { CELL_MAX = BENCH_NAME_MAX, SIDES_MAX = 16 };

/* ---- cells ---- */

typedef struct column {
    const char *title, *format;
    double (*of)(const bench_entry *e); // 0: nothing to say
    const char *key;                    // or a value of the entry, times scale
    double scale;
} column;

static double median_ms(const bench_entry *e)
{
    return e->wall.median * 1e3;
}
static double p10_ms(const bench_entry *e)
{
    return e->wall.p10 * 1e3;
}
static double p90_ms(const bench_entry *e)
{
    return e->wall.p90 * 1e3;
}
static double runs(const bench_entry *e)
{
    return e->wall.runs;
}
static double tflop(const bench_entry *e)
{
    return e->flop * 1e-12;
}
static double gbyte(const bench_entry *e)
{
    return e->bytes * 1e-9;
}
static double gflop_s(const bench_entry *e)
{
    return bench_flop_s(e) * 1e-9;
}
static double gbyte_s(const bench_entry *e)
{
    return bench_byte_s(e) * 1e-9;
}
static double share(const bench_entry *e)
{
    return bench_share(e) * 100;
}
static double ratio(const bench_entry *e)
{
    return e->first[0] ? e->ratio.median : 0;
}

static const column columns[] = {
    {"ms", "%.3f", median_ms, NULL, 0},
    {"p10", "%.3f", p10_ms, NULL, 0},
    {"p90", "%.3f", p90_ms, NULL, 0},
    {"runs", "%.0f", runs, NULL, 0},
    {"TFLOP", "%.3g", tflop, NULL, 0},
    {"GB", "%.3g", gbyte, NULL, 0},
    {"GFLOP/s", "%.4g", gflop_s, NULL, 0},
    {"GB/s", "%.3g", gbyte_s, NULL, 0},
    {"% of peak", "%.1f", share, NULL, 0},
    {"x first", "%.3f", ratio, NULL, 0},
    {"linears of oneDNN", "%.3f", NULL, "linear_share", 1},
    {"calls", "%.0f", NULL, "calls", 1},
    {"% of all", "%.1f", NULL, "share_of_whole", 100},
    {"text ms", "%.1f", NULL, "text_ms", 1},
    {"denoise ms", "%.1f", NULL, "denoise_ms", 1},
    {"decode ms", "%.1f", NULL, "decode_ms", 1},
    {"denoise x", "%.3f", NULL, "denoise_ratio", 1},
    {"by FLOP", "%.3f", NULL, "denoise_flop_ratio", 1},
    {"efficiency", "%.3f", NULL, "efficiency", 1},
    {"images/s", "%.4g", NULL, "images_per_s", 1},
    {"p50 ms", "%.1f", NULL, "latency_p50_ms", 1},
    {"p90 ms", "%.1f", NULL, "latency_p90_ms", 1},
    {"peak MB", "%.0f", NULL, "peak_memory_bytes", 1e-6},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

static double value_in(const column *c, const bench_entry *e)
{
    return c->of ? c->of(e) : bench_value_of(e, c->key) * c->scale;
}

static void cell(char out[CELL_MAX], const column *c, const bench_entry *e)
{
    double x = value_in(c, e);
    out[0] = '\0';
    if (x != 0) snprintf(out, CELL_MAX, c->format, x);
}

static void baseline_cell(char out[CELL_MAX], const bench_entry *e)
{
    static const char *const words[] = {"", "same", "FASTER", "SLOWER"};
    out[0] = '\0';
    if (e->before.verdict != BENCH_NEW)
        snprintf(out, CELL_MAX, "%+.1f%% (noise %.1f%%) %s", e->before.change * 100,
                 e->before.noise * 100, words[e->before.verdict]);
}

/* ---- a grid, rendered either way ---- */

typedef struct grid {
    char (*cell)[CELL_MAX]; // [rows][columns], the first row and column are titles
    int rows, columns;
} grid;

static char *at(const grid *g, int row, int col)
{
    return g->cell[row * g->columns + col];
}

static void render(FILE *f, const grid *g, bool markdown)
{
    for (int r = 0; r < g->rows; r++) {
        for (int c = 0; c < g->columns; c++) {
            size_t width = 0;
            for (int k = 0; k < g->rows; k++)
                if (strlen(at(g, k, c)) > width) width = strlen(at(g, k, c));
            if (markdown)
                fprintf(f, "| %s ", at(g, r, c));
            else
                fprintf(f, c ? "  %*s" : "%-*s", (int)width, at(g, r, c));
        }
        fputs(markdown ? "|\n" : "\n", f);
        for (int c = 0; markdown && r == 0 && c < g->columns; c++) fputs(c ? "---:|" : "|---|", f);
        if (markdown && r == 0) fputc('\n', f);
    }
}

static swd_status make_grid(grid *g, int rows, int cols, swd_err *err)
{
    *g = (grid){.rows = rows, .columns = cols};
    return swd_calloc(&g->cell, (size_t)rows * (size_t)cols, sizeof *g->cell, "a table", err);
}

static swd_status print_cases(FILE *f, const bench *b, bool markdown, swd_err *err)
{
    int shown[COLUMNS], n = 0, entries = bench_count(b);
    bool baseline = false;
    for (int c = 0; c < COLUMNS; c++) {
        bool any = false;
        for (int i = 0; i < entries; i++) any |= value_in(&columns[c], bench_at(b, i)) != 0;
        if (any) shown[n++] = c;
    }
    for (int i = 0; i < entries; i++) baseline |= bench_at(b, i)->before.verdict != BENCH_NEW;
    grid g;
    SWD_TRY(make_grid(&g, entries + 1, 2 + n + baseline, err), err);
    snprintf(at(&g, 0, 0), CELL_MAX, "case");
    for (int k = 0; k < n; k++) snprintf(at(&g, 0, 2 + k), CELL_MAX, "%s", columns[shown[k]].title);
    if (baseline) snprintf(at(&g, 0, 2 + n), CELL_MAX, "beside the baseline");
    for (int i = 0; i < entries; i++) {
        const bench_entry *e = bench_at(b, i);
        snprintf(at(&g, i + 1, 0), CELL_MAX, "%s", e->name);
        snprintf(at(&g, i + 1, 1), CELL_MAX, "%s", e->precision);
        for (int k = 0; k < n; k++) cell(at(&g, i + 1, 2 + k), &columns[shown[k]], e);
        if (baseline) baseline_cell(at(&g, i + 1, 2 + n), e);
    }
    render(f, &g, markdown);
    free(g.cell);
    return SWD_OK;
}

/* ---- pictures: seconds by size ---- */

int tables_side(const char **what, const bench_entry *e)
{
    int side = 0, end = 0;
    *what = "";
    if (sscanf(e->name, "%d px: %n", &side, &end) != 1 || !end) return 0;
    *what = e->name + end;
    return side;
}

static int find(const int *list, int n, int x)
{
    for (int i = 0; i < n; i++)
        if (list[i] == x) return i;
    return -1;
}

// The table of the paper: rows are ways to a picture, columns sizes.
static swd_status print_seconds(FILE *f, const bench *b, swd_err *err)
{
    int sides[SIDES_MAX], n_sides = 0, rows = 1;
    const char *what, *other;
    grid g;
    for (int i = 0; i < bench_count(b); i++) {
        int side = tables_side(&what, bench_at(b, i));
        if (!bench_value_of(bench_at(b, i), "denoise_flop")) return SWD_OK; // not of pictures
        if (n_sides < SIDES_MAX && find(sides, n_sides, side) < 0) sides[n_sides++] = side;
    }
    if (!n_sides) return SWD_OK;
    SWD_TRY(make_grid(&g, bench_count(b) + 1, 1 + n_sides, err), err);
    snprintf(at(&g, 0, 0), CELL_MAX, "seconds a picture");
    for (int c = 0; c < n_sides; c++)
        snprintf(at(&g, 0, 1 + c), CELL_MAX, "%dx%d", sides[c], sides[c]);
    for (int i = 0; i < bench_count(b); i++) {
        const bench_entry *e = bench_at(b, i);
        int side = tables_side(&what, e), r = 1;
        while (r < rows && strcmp(at(&g, r, 0), what) != 0) r++;
        if (r == rows) snprintf(at(&g, rows++, 0), CELL_MAX, "%s", what);
        int c = find(sides, n_sides, side);
        if (c < 0) continue;
        const bench_entry *first = e->first[0] ? bench_find(b, e->first, e->precision) : NULL;
        if (first && tables_side(&other, first) == side)
            snprintf(at(&g, r, 1 + c), CELL_MAX, "%.3g (%.2fx)", e->wall.median, e->ratio.median);
        else
            snprintf(at(&g, r, 1 + c), CELL_MAX, "%.3g", e->wall.median);
    }
    g.rows = rows;
    fputc('\n', f);
    render(f, &g, true);
    free(g.cell);
    return SWD_OK;
}

/* ---- the whole ---- */

static const char *fact(const bench *b, const char *key)
{
    const char *s = json_string_value(json_object_get(bench_machine(b), key));
    return s ? s : "";
}

static double fact_number(const bench *b, const char *key)
{
    return json_number_value(json_object_get(bench_machine(b), key));
}

static void print_machine(FILE *f, const bench *b)
{
    bench_limits l = bench_limits_in_force(b);
    fprintf(f, "%s; device %s; %s\n", fact(b, "model"), fact(b, "device"), fact(b, "text"));
    fprintf(f, "%s, %d of %d threads, %s (oneDNN %s: %s), %s, %s; load %.2f; revision %s\n",
            fact(b, "cpu"), (int)fact_number(b, "threads"), (int)fact_number(b, "cpus"),
            fact(b, "isa_own"), fact(b, "onednn"), fact(b, "isa_onednn"), fact(b, "compiler"),
            fact(b, "build"), fact_number(b, "load_at_start"), source_revision());
    static const char *const clocks[][2] = {{"cpu_mhz", "CPU clock %.0f MHz"},
                                            {"gpu_sm_mhz", "GPU clock %.0f MHz"},
                                            {"gpu_sm_mhz_max", "at most %.0f MHz"},
                                            {"gpu_memory_mhz", "GPU memory %.0f MHz"},
                                            {"gpu_power_limit_w", "power limit %.0f W"}};
    for (size_t i = 0, shown = 0; i < sizeof clocks / sizeof *clocks; i++) {
        double x = fact_number(b, clocks[i][0]);
        if (x <= 0) continue;
        if (shown++) fputs(", ", f);
        fprintf(f, clocks[i][1], x);
    }
    fprintf(f,
            "\nmedians of rounds in which the cases take turns: %d to warm up, then at least %d, "
            "and %g s a case",
            l.warmup, l.runs_min, l.budget_s);
    if (l.patience_s > 0) fprintf(f, "; a case that has taken %g s is not repeated", l.patience_s);
    fputs(bench_quick(b) ? "; --quick: no figures to quote\n" : "\n", f);
    if (fact(b, "note")[0]) fprintf(f, "note: %s\n", fact(b, "note"));
    if (fact(b, "baseline")[0])
        fprintf(f, "baseline: %s, revision %s%s%s\n", fact(b, "baseline"),
                fact(b, "baseline_revision"), baseline_warning(b)[0] ? "; " : "",
                baseline_warning(b));
}

swd_status tables_text(char **out, const bench *b, bool markdown, swd_err *err)
{
    size_t size = 0;
    *out = NULL;
    FILE *f = open_memstream(out, &size);
    if (!f) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for the table");
    print_machine(f, b);
    fputc('\n', f);
    swd_status s = print_cases(f, b, markdown, err);
    if (s == SWD_OK && markdown) s = print_seconds(f, b, err);
    if (fclose(f) != 0 && s == SWD_OK) s = SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for the table");
    if (s != SWD_OK) {
        free(*out);
        *out = NULL;
    }
    return s;
}

char *tables_line(const bench_entry *e, char *buf, size_t n)
{
    int used = snprintf(buf, n, "%s%s%s: %.3f ms (%.3f to %.3f, %d run%s)", e->name,
                        e->precision[0] ? " " : "", e->precision, median_ms(e), p10_ms(e),
                        p90_ms(e), e->wall.runs, e->wall.runs == 1 ? "" : "s");
    if (used > 0 && (size_t)used < n && gflop_s(e) > 0)
        used += snprintf(buf + used, n - (size_t)used, ", %.0f GFLOP/s", gflop_s(e));
    if (used > 0 && (size_t)used < n && ratio(e) > 0)
        snprintf(buf + used, n - (size_t)used, ", %.3f of %s", ratio(e), e->first);
    return buf;
}
