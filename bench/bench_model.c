// SPDX-License-Identifier: MIT
// Times the networks of a model folder (tools/random_model makes one): a step of the transformer at several sizes, the text
// encoders, the decoder of the autoencoder. Beside each step, in the same rounds, oneDNN multiplies matrices of the step's own
// shapes in its favourite layouts:
//
//     vendor rate = FLOP of the step's linear layers / (sum over shapes of count * time of oneDNN's product)
//     linear_share = rate of the linear layers / vendor rate        share = rate of the whole step / vendor rate
#include "harness.h"
#include "machine.h"
#include "meter.h"
#include "networks.h"
#include "vendor.h"
#include "base/clock.h"
#include "base/memory.h"
#include "pipeline/assemble.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VENDOR_REPEATS = 3 };

static const char *opt_model, *opt_precision, *opt_latents = "32,48,64,96,128",
                                              *opt_text = "333,154", *opt_batch = "1",
                                              *opt_pixels = "256,512,1024";

typedef struct session {
    bench *b;
    pipeline p;
    swd_err *err;
    network network; // at work
    meter meter;
    meter kept[BENCH_RUNS_MAX]; // after each run
    int n_kept;
} session;

static const char *precision_name(const session *s)
{
    return s->p.compute == SWD_BF16 ? "bf16" : "f32";
}

static swd_status run_network(void *arg, swd_err *err)
{
    session *s = arg;
    memset(&s->meter, 0, sizeof s->meter);
    SWD_TRY(network_forward(&s->network, err), err);
    if (s->n_kept < BENCH_RUNS_MAX) s->kept[s->n_kept++] = s->meter;
    return SWD_OK;
}

/* ---- oneDNN's products of the same shapes ---- */

typedef struct vendor_set {
    vendor_product *product[METER_PRODUCTS_MAX];
    int n;
    double samples[METER_PRODUCTS_MAX][BENCH_RUNS_MAX];
    int rounds;
} vendor_set;

static swd_status vendor_make(vendor_set *v, const meter *m, swd_err *err)
{
    for (int i = 0; i < m->n_products; i++, v->n++) {
        const meter_product *p = &m->products[i];
        SWD_TRY(vendor_product_create(&v->product[i], p->m, p->k, p->n, p->compute, err), err);
        SWD_TRY(vendor_product_run(v->product[i], err), err);
    }
    return SWD_OK;
}

// Each shape a few times in a row, as fits beside one step.
static swd_status vendor_run(void *arg, swd_err *err)
{
    vendor_set *v = arg;
    for (int i = 0; i < v->n; i++) {
        double start = clock_now_s();
        for (int r = 0; r < VENDOR_REPEATS; r++)
            SWD_TRY(vendor_product_run(v->product[i], err), err);
        if (v->rounds < BENCH_RUNS_MAX)
            v->samples[i][v->rounds] = (clock_now_s() - start) / VENDOR_REPEATS;
    }
    v->rounds++;
    return SWD_OK;
}

// Seconds that oneDNN would take for all linear layers of m.
static double vendor_seconds(vendor_set *v, const meter *m, int runs)
{
    double sum = 0;
    int first = v->rounds - runs; // the warm-up is not counted
    for (int i = 0; i < v->n; i++)
        sum += m->products[i].count * bench_statistics(v->samples[i] + first, runs).median;
    return sum;
}

static void vendor_free(vendor_set **v)
{
    for (int i = 0; *v && i < (*v)->n; i++) vendor_product_destroy(&(*v)->product[i]);
    free(*v);
    *v = NULL;
}

/* ---- measuring one ---- */

static double class_seconds(const session *s, int class, int runs)
{
    double x[BENCH_RUNS_MAX];
    for (int i = 0; i < runs; i++) x[i] = s->kept[s->n_kept - runs + i].seconds[class];
    return bench_statistics(x, runs).median;
}

static void report_split(session *s, const char *name, const bench_result *r, vendor_set *v)
{
    const meter *m = &s->meter;
    char line[256] = "";
    int runs = r->wall.runs;
    for (int c = 0; c < METER_CLASSES; c++) {
        char key[48];
        size_t used = strlen(line);
        double seconds = class_seconds(s, c, runs);
        if (seconds <= 0) continue;
        snprintf(key, sizeof key, "%s_ms", meter_class_name(c));
        bench_value(s->b, name, key, seconds * 1e3);
        snprintf(key, sizeof key, "%s_gflop_s", meter_class_name(c));
        if (m->flop[c] > 0) bench_value(s->b, name, key, m->flop[c] / seconds * 1e-9);
        snprintf(line + used, sizeof line - used, "  %s %.1f%%", meter_class_name(c),
                 100 * seconds / r->wall.median);
        used = strlen(line);
        if (m->flop[c] > 0)
            snprintf(line + used, sizeof line - used, " (%.0f GFLOP/s)",
                     m->flop[c] / seconds * 1e-9);
    }
    fprintf(stderr, "  %s\n", line);
    if (!v) return;
    double vendor = vendor_seconds(v, m, runs), linear = class_seconds(s, METER_LINEAR, runs),
           rate = m->flop[METER_LINEAR] / vendor;
    bench_value(s->b, name, "vendor_gflop_s", rate * 1e-9);
    bench_value(s->b, name, "linear_share", vendor / linear);
    bench_value(s->b, name, "share", meter_flop(m) / r->wall.median / rate);
    fprintf(stderr,
            "    oneDNN's own rate %.1f GFLOP/s: linears reach %.3f of it, the whole %.3f\n",
            rate * 1e-9, vendor / linear, meter_flop(m) / r->wall.median / rate);
}

enum { SHORT_GFLOP = 500 }; // shorter ones can be run more often

// Loads what a network needs, unless that is done, prepares it, counts its work with one run, then measures. with_vendor: beside
// oneDNN's products.
static swd_status measure(session *s, network n, const char *name,
                          swd_status (*load)(pipeline *, swd_err *), bool with_vendor)
{
    if (!bench_wanted(s->b, name)) return SWD_OK;
    SWD_TRY(load(&s->p, s->err), s->err);
    n.p = &s->p;
    s->network = n;
    s->n_kept = 0;
    SWD_TRY(network_prepare(&s->network, s->err), s->err);
    machine_peak_reset();
    SWD_TRY(run_network(s, s->err), s->err);
    double peak = machine_peak_bytes(0), slab = (double)s->network.slab_bytes,
           held = (double)s->p.backend->weight_bytes(s->p.backend);
    vendor_set *v = NULL;
    if (with_vendor) SWD_TRY(swd_calloc(&v, 1, sizeof *v, "oneDNN's products", s->err), s->err);
    swd_status st = v ? vendor_make(v, &s->meter, s->err) : SWD_OK;
    bench_case cases[2] = {
        {.name = name,
         .precision = precision_name(s),
         .run = run_network,
         .arg = s,
         .flop = meter_flop(&s->meter)},
        {.name = "oneDNN's products", .precision = precision_name(s), .run = vendor_run, .arg = v}};
    bench_set_limits(s->b, (bench_limits){.warmup = 1,
                                          .runs_min = cases[0].flop < SHORT_GFLOP * 1e9 ? 5 : 3,
                                          .runs_max = BENCH_RUNS_MAX,
                                          .budget_s = 2});
    bench_result r[2];
    if (st == SWD_OK) st = bench_run(r, s->b, cases, v ? 2 : 1, s->err);
    if (st == SWD_OK) {
        report_split(s, name, &r[0], v);
        bench_value(s->b, name, "slab_bytes", slab);
        bench_value(s->b, name, "weight_bytes", held);
        bench_value(s->b, name, "peak_memory_bytes", peak);
        fprintf(stderr,
                "    weights %.0f MB, activations %.0f MB, peak memory of the process %.0f MB\n",
                held * 1e-6, slab * 1e-6, peak * 1e-6);
    }
    vendor_free(&v);
    return st;
}

/* ---- the programme ---- */

// The next number of "32,48,64"; false at the end.
static bool next_number(int64_t *out, const char **list)
{
    char *end;
    *out = strtoll(*list, &end, 10);
    bool found = end != *list && *out > 0;
    *list = *end == ',' ? end + 1 : end;
    return found;
}

static swd_status steps(session *s)
{
    int64_t side, text;
    char name[64];
    for (const char *texts = opt_text; next_number(&text, &texts);)
        for (const char *sides = opt_latents; next_number(&side, &sides);) {
            network n = {
                .kind = NETWORK_STEP, .batch = atoi(opt_batch), .side = side, .text = text};
            snprintf(name, sizeof name, "step latent %lld text %lld", (long long)side,
                     (long long)text);
            SWD_TRY(measure(s, n, name, pipeline_load_transformer, true), s->err);
        }
    denoiser_destroy(&s->p.transformer); // the peaks of the others are without it
    return SWD_OK;
}

static swd_status decodes(session *s)
{
    int64_t pixels;
    char name[64];
    SWD_TRY(pipeline_read_vae_config(&s->p, s->err), s->err);
    for (const char *sizes = opt_pixels; next_number(&pixels, &sizes);) {
        network n = {.kind = NETWORK_DECODE, .side = pixels / pipeline_vae_factor(&s->p)};
        snprintf(name, sizeof name, "decode %lld px", (long long)pixels);
        SWD_TRY(measure(s, n, name, pipeline_load_decoder, false), s->err);
    }
    vae_destroy(&s->p.decoder);
    return SWD_OK;
}

static swd_status encoders(session *s)
{
    static const char *const folder[] = {"text_encoder", "text_encoder_2", "text_encoder_3"};
    static const char *const title[] = {"text CLIP-L", "text CLIP-G", "text T5"};
    for (int i = 0; i < 3; i++) {
        char name[64];
        network n = {.kind = (network_kind)(NETWORK_CLIP_L + i), .text = i == 2 ? 256 : 77};
        if (!config_model_index_find(&s->p.index, folder[i])) continue;
        snprintf(name, sizeof name, "%s %d tokens", title[i], (int)n.text);
        SWD_TRY(measure(s, n, name, pipeline_load_text, true), s->err);
    }
    return SWD_OK;
}

static swd_status with_precision(session *s, swd_precision precision)
{
    swd_open_params params;
    swd_open_params_default(&params);
    params.model = opt_model;
    params.precision = precision;
    params.threads = bench_threads(s->b);
    s->p = (pipeline){0};
    swd_status st = pipeline_open(&s->p, &params, s->err);
    if (st == SWD_OK) st = pipeline_load_backend(&s->p, s->err);
    if (st == SWD_OK) {
        bench_fact(s->b, "device", s->p.backend->device);
        meter_attach(&s->meter, s->p.backend);
        st = steps(s);
        if (st == SWD_OK) st = decodes(s);
        if (st == SWD_OK) st = encoders(s);
        meter_detach(s->p.backend);
    }
    pipeline_close(&s->p);
    return st;
}

static swd_status body(bench *b, swd_err *err)
{
    session *s;
    if (!opt_model) return SWD_FAIL(err, SWD_ERR_ARGUMENT, "which model? give -m DIR");
    bench_fact(b, "model", opt_model);
    SWD_TRY(swd_calloc(&s, 1, sizeof *s, "the session", err), err);
    s->b = b;
    s->err = err;
    swd_status st = SWD_OK;
    if (!opt_precision || strcmp(opt_precision, "f32") == 0)
        st = with_precision(s, SWD_PRECISION_F32);
    if (st == SWD_OK && (!opt_precision || strcmp(opt_precision, "bf16") == 0))
        st = with_precision(s, SWD_PRECISION_BF16);
    free(s);
    return st;
}

int main(int argc, char **argv)
{
    static const bench_option options[] = {
        {"-m", "DIR", "model folder", &opt_model},
        {"--precision", "f32|bf16", "(default: both, one after the other)", &opt_precision},
        {"--latents", "LIST", "sides of the steps (32,48,64,96,128)", &opt_latents},
        {"--text", "LIST", "tokens of text (333,154)", &opt_text},
        {"--pixels", "LIST", "sides of the decoded pictures (256,512,1024)", &opt_pixels},
        {"--batch", "N", "images in a step (1)", &opt_batch},
    };
    return bench_main(&(bench_program){.name = "bench_model",
                                       .about = "times the networks of a model folder",
                                       .options = options,
                                       .n_options = sizeof options / sizeof *options,
                                       .body = body},
                      argc, argv);
}
