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
#include "vendor.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/rng.h"
#include "pipeline/assemble.h"
#include "pipeline/prompt.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VENDOR_REPEATS = 3 };

static const char *opt_model, *opt_precision, *opt_latents = "32,48,64,96,128",
                                              *opt_text = "333,154", *opt_batch = "1";

typedef struct session {
    bench *b;
    pipeline p;
    swd_err *err;
    meter meter;
    meter kept[BENCH_RUNS_MAX]; // after each run
    int n_kept;
} session;

static void keep_meter(session *s)
{
    if (s->n_kept < BENCH_RUNS_MAX) s->kept[s->n_kept++] = s->meter;
}

static const char *precision_name(const session *s)
{
    return s->p.compute == SWD_BF16 ? "bf16" : "f32";
}

/* ---- a network's forward pass as a case ---- */

typedef struct forward {
    session *s;
    swd_exec ex;
    // prepare: inputs and outputs from the exec, filled unless it measures (dry). run: once, also dry.
    swd_status (*prepare)(struct forward *f, swd_exec *ex);
    swd_status (*run)(struct forward *f, swd_exec *ex);
    int64_t batch, side, text; // latents, tokens of text
    int encoder;               // 0, 1: CLIP; 2: T5
    swd_tensor latents, out, t, context, pooled, ids;
    int32_t host_ids[SWD_TOKENS_MAX];
} forward;

static swd_tensor random_tensor(swd_exec *ex, float scale, int ndim, int64_t a, int64_t b,
                                int64_t c, int64_t d)
{
    swd_tensor t = exec_alloc(ex, SWD_F32, (int64_t[]){a, b, c, d}, ndim);
    if (ex->dry) return t;
    philox_randn(t.data, tensor_numel(t), 0, 7, (uint32_t)ndim);
    for (int64_t i = 0; i < tensor_numel(t); i++) ((float *)t.data)[i] *= scale;
    return t;
}

static swd_status prepare_step(forward *f, swd_exec *ex)
{
    const config_sd3 *c = &f->s->p.transformer_config;
    f->latents = random_tensor(ex, 1, 4, f->batch, c->in_channels, f->side, f->side);
    f->out = exec4(ex, SWD_F32, f->batch, c->in_channels, f->side, f->side);
    f->context = random_tensor(ex, 0.3f, 3, f->batch, f->text, c->joint_attention_dim, 0);
    f->pooled = random_tensor(ex, 0.3f, 2, f->batch, c->pooled_projection_dim, 0, 0);
    f->t = exec1(ex, SWD_F32, f->batch);
    return op_fill(f->t, 700, ex);
}

static swd_status run_step(forward *f, swd_exec *ex)
{
    return mmdit_forward(f->out, f->latents, f->t, f->context, f->pooled, f->s->p.transformer, ex);
}

static swd_status prepare_decode(forward *f, swd_exec *ex)
{
    int64_t pixels = f->side * pipeline_vae_factor(&f->s->p);
    f->latents = random_tensor(ex, 1, 4, 1, f->s->p.vae_config.latent_channels, f->side, f->side);
    f->out = exec4(ex, SWD_U8, 1, pixels, pixels, 3);
    return SWD_OK;
}

static swd_status run_decode(forward *f, swd_exec *ex)
{
    return vae_decode(f->out, f->latents, f->s->p.decoder, ex);
}

static swd_status prepare_encoder(forward *f, swd_exec *ex)
{
    const pipeline *p = &f->s->p;
    int n = 0;
    RUN(prompt_tokenize(f->host_ids, &n, "a photograph of an astronaut riding a horse", f->encoder,
                        (int)f->text, p, ex->err));
    f->ids = exec2(ex, SWD_I32, 1, n);
    if (f->encoder == 2) {
        f->out = exec3(ex, SWD_F32, 1, n, p->t5_config.d_model);
    } else {
        f->out = exec3(ex, SWD_F32, 1, n, p->clip_config[f->encoder].hidden_size);
        f->pooled = exec2(ex, SWD_F32, 1, p->clip_config[f->encoder].projection_dim);
    }
    return ex->dry ? SWD_OK
                   : ex->backend->upload(ex->backend, f->ids, f->host_ids, ex->stream, ex->err);
}

static swd_status run_encoder(forward *f, swd_exec *ex)
{
    const pipeline *p = &f->s->p;
    if (f->encoder == 2) return t5_forward(f->out, f->ids, p->t5, ex);
    return clip_text_forward(f->out, f->pooled, f->ids, f->host_ids, p->clip[f->encoder], ex);
}

static swd_status run_forward(void *arg, swd_err *err)
{
    forward *f = arg;
    f->ex.err = err;
    memset(&f->s->meter, 0, sizeof f->s->meter);
    swd_status s = f->run(f, &f->ex);
    keep_meter(f->s);
    return s;
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

// Sizes the slab, counts the work with one run, then measures. with_vendor: beside oneDNN's products.
static swd_status measure(session *s, forward *f, const char *name, bool with_vendor)
{
    if (!bench_wanted(s->b, name)) return SWD_OK;
    swd_exec dry = pipeline_exec(&s->p, true, s->err);
    f->s = s;
    s->n_kept = 0;
    SWD_TRY(f->prepare(f, &dry), s->err);
    SWD_TRY(f->run(f, &dry), s->err);
    SWD_TRY(pipeline_reserve(&s->p, dry.peak, s->err), s->err);
    f->ex = pipeline_exec(&s->p, false, s->err);
    SWD_TRY(f->prepare(f, &f->ex), s->err);
    machine_peak_reset();
    SWD_TRY(run_forward(f, s->err), s->err);
    double peak = machine_peak_bytes();
    vendor_set *v = NULL;
    if (with_vendor) SWD_TRY(swd_calloc(&v, 1, sizeof *v, "oneDNN's products", s->err), s->err);
    swd_status st = v ? vendor_make(v, &s->meter, s->err) : SWD_OK;
    bench_case cases[2] = {
        {.name = name,
         .precision = precision_name(s),
         .run = run_forward,
         .arg = f,
         .flop = meter_flop(&s->meter)},
        {.name = "oneDNN's products", .precision = precision_name(s), .run = vendor_run, .arg = v}};
    bench_result r[2];
    if (st == SWD_OK) st = bench_run(r, s->b, cases, v ? 2 : 1, s->err);
    if (st == SWD_OK) {
        report_split(s, name, &r[0], v);
        bench_value(s->b, name, "slab_bytes", (double)dry.peak);
        bench_value(s->b, name, "weight_bytes", (double)s->p.backend->weight_bytes(s->p.backend));
        bench_value(s->b, name, "peak_memory_bytes", peak);
        fprintf(stderr,
                "    weights %.0f MB, activations %.0f MB, peak memory of the process %.0f MB\n",
                (double)s->p.backend->weight_bytes(s->p.backend) * 1e-6, (double)dry.peak * 1e-6,
                peak * 1e-6);
    }
    vendor_free(&v);
    return st;
}

/* ---- the programme ---- */

static void set_limits(session *s, double gflop)
{
    bool short_run = gflop < 500;
    bench_set_limits(s->b, (bench_limits){.warmup = 1,
                                          .runs_min = short_run ? 5 : 3,
                                          .runs_max = BENCH_RUNS_MAX,
                                          .budget_s = 2});
}

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
    forward f = {.prepare = prepare_step, .run = run_step, .batch = atoi(opt_batch)};
    if (!bench_wanted(s->b, "step latent")) return SWD_OK;
    SWD_TRY(pipeline_load_transformer(&s->p, s->err), s->err);
    for (const char *texts = opt_text; next_number(&text, &texts);)
        for (const char *sides = opt_latents; next_number(&side, &sides);) {
            f.side = side;
            f.text = text;
            set_limits(s, mmdit_flops(s->p.transformer, f.batch, side, side, text) * 1e-9);
            snprintf(name, sizeof name, "step latent %lld text %lld", (long long)side,
                     (long long)text);
            SWD_TRY(measure(s, &f, name, true), s->err);
        }
    mmdit_destroy(&s->p.transformer);
    return SWD_OK;
}

static swd_status decodes(session *s)
{
    char name[64];
    forward f = {.prepare = prepare_decode, .run = run_decode, .batch = 1};
    if (!bench_wanted(s->b, "decode")) return SWD_OK;
    SWD_TRY(pipeline_load_decoder(&s->p, s->err), s->err);
    int64_t factor = pipeline_vae_factor(&s->p);
    for (int64_t pixels = 256; pixels <= 1024; pixels *= 2) {
        f.side = pixels / factor;
        set_limits(s, pixels < 512 ? 0 : 1e6);
        snprintf(name, sizeof name, "decode %lld px", (long long)pixels);
        SWD_TRY(measure(s, &f, name, false), s->err);
    }
    vae_destroy(&s->p.decoder);
    return SWD_OK;
}

static swd_status encoders(session *s)
{
    static const char *const names[] = {"text CLIP-L", "text CLIP-G", "text T5"};
    if (!bench_wanted(s->b, "text CLIP-L, text CLIP-G, text T5")) return SWD_OK;
    SWD_TRY(pipeline_load_text(&s->p, s->err), s->err);
    set_limits(s, 0);
    for (int i = 0; i < 3; i++) {
        char name[64];
        forward f = {.prepare = prepare_encoder,
                     .run = run_encoder,
                     .text = i == 2 ? 256 : 77,
                     .encoder = i};
        if (i < 2 ? !s->p.clip[i] : !s->p.t5) continue;
        snprintf(name, sizeof name, "%s %d tokens", names[i], (int)f.text);
        SWD_TRY(measure(s, &f, name, true), s->err);
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
        {"--batch", "N", "images in a step (1)", &opt_batch},
    };
    return bench_main(&(bench_program){.name = "bench_model",
                                       .about = "times the networks of a model folder",
                                       .options = options,
                                       .n_options = sizeof options / sizeof *options,
                                       .body = body},
                      argc, argv);
}
