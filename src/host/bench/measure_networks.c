// SPDX-License-Identifier: MIT
#include "bench/measure_networks.h"
#include "base/memory.h"
#include "bench/machine.h"
#include "bench/meter.h"
#include "bench/networks.h"
#include "bench/yardstick.h"
#include "pipeline/prompt.h"
#include <stdio.h>
#include <string.h>

enum { SHORT_GFLOP = 500 };

// A network being measured, with the meter's account of each run that it saw.
typedef struct contest {
    network network;
    meter meter;
    bool metered; // it looks on; on a device that makes each op wait
    double class_s[METER_CLASSES][BENCH_RUNS_MAX];
    double (*call_s)[BENCH_RUNS_MAX]; // [METER_CALLS_MAX], where each op counts; else NULL
    int n_kept;
} contest;

static swd_status run_network(void *arg, swd_err *err)
{
    contest *c = arg;
    if (c->metered) meter_reset(&c->meter);
    SWD_TRY(network_forward(&c->network, err), err);
    if (!c->metered || c->n_kept == BENCH_RUNS_MAX) return SWD_OK;
    for (int i = 0; i < METER_CLASSES; i++) c->class_s[i][c->n_kept] = c->meter.seconds[i];
    for (int i = 0; c->call_s && i < c->meter.n_calls; i++)
        c->call_s[i][c->n_kept] = c->meter.calls[i].seconds;
    c->n_kept++;
    return SWD_OK;
}

// The median of the last runs (as many as there are) of a list of samples, which stays in order.
static double last_median(const double *all, int n, int runs)
{
    double x[BENCH_RUNS_MAX];
    if (runs > n) runs = n;
    memcpy(x, all + n - runs, (size_t)runs * sizeof *x);
    return bench_statistics(x, runs).median;
}

/* ---- measuring one ---- */

// Of the network's arithmetic: its linear layers are a yardstick of their own.
static bool linear_dominates(const meter *m)
{
    return m->flop[METER_LINEAR] > m->flop[METER_CONV];
}

static void report_split(bench *b, int at, const contest *c, const yardstick *y)
{
    char key[BENCH_KEY_MAX];
    const meter *m = &c->meter;
    int runs = bench_at(b, at)->wall.runs;
    for (int i = 0; i < METER_CLASSES; i++) {
        double seconds = last_median(c->class_s[i], c->n_kept, runs);
        if (seconds <= 0) continue;
        snprintf(key, sizeof key, "%s_ms", meter_class_name((meter_class)i));
        bench_value(b, at, key, seconds * 1e3);
        snprintf(key, sizeof key, "%s_gflop_s", meter_class_name((meter_class)i));
        if (m->flop[i] > 0) bench_value(b, at, key, m->flop[i] / seconds * 1e-9);
    }
    if (!y) return;
    if (linear_dominates(m))
        bench_value(b, at, "linear_share",
                    yardstick_seconds(y, runs) /
                        last_median(c->class_s[METER_LINEAR], c->n_kept, runs));
    bench_peak(b, at, yardstick_rate(y, runs), 0, "measured");
}

static swd_status run_group(session *s, contest *c, const char *name, const yardstick *y,
                            swd_err *err)
{
    int at;
    double slab = (double)c->network.slab_bytes,
           held = (double)s->p.backend->weight_bytes(s->p.backend), peak = machine_peak_bytes(0),
           flop = meter_flop(&c->meter);
    bench_case cases[2] = {{.name = name,
                            .precision = session_precision(s),
                            .run = run_network,
                            .arg = c,
                            .flop = flop,
                            .bytes = c->meter.bytes,
                            .always = true}, // the callers know whether it is
                           {.name = "oneDNN's products",
                            .run = yardstick_run,
                            .arg = (void *)(uintptr_t)y,
                            .unlisted = true}};
    bench_set_limits(s->b, (bench_limits){.warmup = 1,
                                          .runs_min = flop < SHORT_GFLOP * 1e9 ? 5 : 3,
                                          .runs_max = BENCH_RUNS_MAX,
                                          .budget_s = 2,
                                          .patience_s = session_patience_s(s)});
    SWD_TRY(bench_run(&at, s->b, cases, y ? 2 : 1, err), err);
    if (s->peak_flop_s > 0) bench_peak(s->b, at, s->peak_flop_s, s->peak_byte_s, "nominal");
    report_split(s->b, at, c, y);
    bench_value(s->b, at, "slab_bytes", slab);
    bench_value(s->b, at, "weight_bytes", held);
    bench_value(s->b, at, "peak_memory_bytes", peak);
    return SWD_OK;
}

typedef swd_status (*load_fn)(pipeline *p, swd_err *err);

static void look_away(contest *c, session *s)
{
    if (c->metered) meter_detach(s->p.backend);
    c->metered = false;
}

// Loads what the network needs, prepares it and lets it run once, which counts its work.
static swd_status set_up(contest *c, session *s, load_fn load, swd_err *err)
{
    SWD_TRY(load(&s->p, err), err);
    c->network.p = &s->p;
    machine_peak_reset();
    SWD_TRY(network_prepare(&c->network, err), err);
    c->meter.timed = c->meter.by_call = true;
    SWD_TRY(meter_attach(&c->meter, s->p.backend, err), err);
    c->metered = true;
    swd_status st = run_network(c, err);
    if (st != SWD_OK) look_away(c, s);
    return st;
}

static swd_status contest_make(contest **out, network n, swd_err *err)
{
    SWD_TRY(swd_calloc(out, 1, sizeof **out, "a measurement", err), err);
    (*out)->network = n;
    return SWD_OK;
}

static void contest_free(contest **c, session *s)
{
    if ((*c)->network.p) network_release(&(*c)->network);
    look_away(*c, s);
    free((*c)->call_s);
    free(*c);
    *c = NULL;
}

static swd_status measure(session *s, network n, const char *name, load_fn load, swd_err *err)
{
    contest *c;
    yardstick *y = NULL;
    if (!bench_wanted(s->b, name)) return SWD_OK;
    SWD_TRY(contest_make(&c, n, err), err);
    swd_status st = set_up(c, s, load, err);
    if (st == SWD_OK) {
        bool cpu = strcmp(s->p.backend->name, "cpu") == 0;
        if (cpu)
            st = yardstick_create(&y, linear_dominates(&c->meter) ? &c->meter : NULL, s->p.compute,
                                  err);
        if (!cpu) look_away(c, s); // its account is of this one run
        if (!cpu && st == SWD_OK) st = network_record(&c->network, err);
        if (st == SWD_OK) st = run_group(s, c, name, y, err);
    }
    yardstick_destroy(&y);
    contest_free(&c, s);
    return st == SWD_OK ? st : swd_err_frame(err, st, __FILE__, __LINE__, __func__);
}

/* ---- which ones ---- */

static int text_tokens(const session *s)
{
    return prompt_tokens(&s->p, s->max_tokens);
}

static network step_network(const session *s, int side)
{
    return (network){.kind = NETWORK_STEP,
                     .batch = s->batches[0],
                     .side = side / pipeline_vae_factor(&s->p),
                     .text = text_tokens(s)};
}

static network vae_network(const session *s, network_kind kind, int side)
{
    return (network){
        .kind = kind, .batch = s->batches[0], .side = side / pipeline_vae_factor(&s->p)};
}

swd_status measure_step(session *s, swd_err *err)
{
    char name[BENCH_NAME_MAX];
    for (int i = 0; i < s->n_sides; i++) {
        network n = step_network(s, s->sides[i]);
        snprintf(name, sizeof name, "step %d px, batch %d, %d tokens", s->sides[i], (int)n.batch,
                 (int)n.text);
        SWD_TRY(measure(s, n, name, pipeline_load_transformer, err), err);
    }
    return SWD_OK;
}

swd_status measure_vae(session *s, swd_err *err)
{
    char name[BENCH_NAME_MAX];
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < s->n_sides; i++) {
            if (k && s->open.vae_tiny) break; // the tiny one only decodes
            snprintf(name, sizeof name, "%s %d px, batch %d", k ? "encode" : "decode", s->sides[i],
                     s->batches[0]);
            SWD_TRY(measure(s, vae_network(s, k ? NETWORK_ENCODE : NETWORK_DECODE, s->sides[i]),
                            name, k ? pipeline_load_encoder : pipeline_load_decoder, err),
                    err);
        }
    return SWD_OK;
}

swd_status measure_text(session *s, swd_err *err)
{
    static const char *const title[] = {"CLIP-L", "CLIP-G", "T5"};
    char name[BENCH_NAME_MAX];
    SWD_TRY(pipeline_load_text(&s->p, err), err);
    for (int i = 0; i < 3; i++) {
        network n = {.kind = (network_kind)(NETWORK_CLIP_L + i),
                     .text = i == 2 ? s->max_tokens : prompt_clip_tokens(&s->p)};
        if (i < 2 ? !s->p.clip[i] : !s->p.t5) continue;
        snprintf(name, sizeof name, "text %s, %d tokens", title[i], (int)n.text);
        SWD_TRY(measure(s, n, name, pipeline_load_text, err), err);
    }
    return SWD_OK;
}

/* ---- op by op ---- */

typedef struct ranked {
    double seconds;
    int call;
} ranked;

static int by_time(const void *a, const void *b)
{
    double x = ((const ranked *)a)->seconds, y = ((const ranked *)b)->seconds;
    return (x < y) - (x > y);
}

static void name_call(char name[BENCH_NAME_MAX], const char *whole, const meter_call *call)
{
    char op[96];
    snprintf(name, BENCH_NAME_MAX, "%s: %s", whole, meter_describe(call, op, sizeof op));
}

static bool any_call_wanted(const bench *b, const char *whole, const meter *m)
{
    char name[BENCH_NAME_MAX];
    for (int i = 0; i < m->n_calls; i++) {
        name_call(name, whole, &m->calls[i]);
        if (bench_wanted(b, name)) return true;
    }
    return false;
}

// Runs are those of the loop; each op's time is its total in a run, and a call's is that over their number.
static swd_status report_calls(session *s, contest *c, const char *whole, int at, swd_err *err)
{
    ranked order[METER_CALLS_MAX];
    int runs = bench_at(s->b, at)->wall.runs, n = c->meter.n_calls;
    double total = bench_at(s->b, at)->wall.median;
    for (int i = 0; i < n; i++) order[i] = (ranked){last_median(c->call_s[i], c->n_kept, runs), i};
    qsort(order, (size_t)n, sizeof *order, by_time);
    for (int k = 0; k < n; k++) {
        const meter_call *call = &c->meter.calls[order[k].call];
        double *samples = c->call_s[order[k].call] + c->n_kept - runs;
        char name[BENCH_NAME_MAX];
        name_call(name, whole, call);
        if (!bench_wanted(s->b, name)) continue;
        for (int r = 0; r < runs; r++) samples[r] /= call->count;
        bench_case one = {.name = name,
                          .precision = dtype_name(call->dtype),
                          .flop = call->flop / call->count,
                          .bytes = call->bytes / call->count};
        SWD_TRY(bench_report(s->b, &one, samples, runs, err), err);
        int entry = bench_count(s->b) - 1;
        bench_value(s->b, entry, "calls", call->count);
        bench_value(s->b, entry, "share_of_whole", order[k].seconds / total);
        if (s->peak_flop_s > 0)
            bench_peak(s->b, entry, call->flop > 0 ? s->peak_flop_s : 0, s->peak_byte_s, "nominal");
    }
    return SWD_OK;
}

static swd_status measure_calls(session *s, network n, const char *name, load_fn load, swd_err *err)
{
    contest *c;
    SWD_TRY(contest_make(&c, n, err), err);
    swd_status st = swd_calloc(&c->call_s, METER_CALLS_MAX, sizeof *c->call_s, "samples", err);
    if (st == SWD_OK) st = set_up(c, s, load, err);
    if (st == SWD_OK && any_call_wanted(s->b, name, &c->meter)) {
        int at = bench_count(s->b);
        st = run_group(s, c, name, NULL, err);
        if (st == SWD_OK) st = report_calls(s, c, name, at, err);
    }
    contest_free(&c, s);
    return st == SWD_OK ? st : swd_err_frame(err, st, __FILE__, __LINE__, __func__);
}

swd_status measure_ops(session *s, swd_err *err)
{
    char name[BENCH_NAME_MAX];
    for (int i = 0; i < s->n_sides; i++) {
        snprintf(name, sizeof name, "step %d px", s->sides[i]);
        SWD_TRY(
            measure_calls(s, step_network(s, s->sides[i]), name, pipeline_load_transformer, err),
            err);
        snprintf(name, sizeof name, "decode %d px", s->sides[i]);
        SWD_TRY(measure_calls(s, vae_network(s, NETWORK_DECODE, s->sides[i]), name,
                              pipeline_load_decoder, err),
                err);
    }
    return SWD_OK;
}
