// SPDX-License-Identifier: MIT
// stable-diffusion.cpp beside ours on the same random SD3.5 weights: seconds of a denoiser step at several sizes with 154 tokens of
// text, and of decoding the picture, interleaved: sd-cli runs as a process and tells its own times, loading left out; ours runs here.
#include "child.h"
#include "harness.h"
#include "networks.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *opt_model, *opt_sdcli, *opt_weights,
    *opt_type = "f16", *opt_sides = "32,48,64", *opt_decode = "32,64", *opt_steps = "2", *opt_eager,
    *opt_their_model;
enum { TEXT_TOKENS = 154, ARGS_MAX = 40, PRECISIONS = 2 };

/* ---- theirs ---- */

typedef struct theirs {
    char size[16], threads[16], clip_l[1100], clip_g[1100], vae[1100], out[64];
    int decode; // measured is the decoding, not the sampling
    double seconds, peak_bytes;
} theirs;

#define WORD(text) (char *)(uintptr_t)(text)

static int command(char **argv, theirs *t)
{
    char *const fixed[] = {WORD(opt_sdcli),
                           WORD("--diffusion-model"),
                           WORD(opt_weights),
                           WORD("--clip_l"),
                           t->clip_l,
                           WORD("--clip_g"),
                           t->clip_g,
                           WORD("--vae"),
                           t->vae,
                           WORD("-p"),
                           WORD("a photograph of an astronaut riding a horse"),
                           WORD("-W"),
                           t->size,
                           WORD("-H"),
                           t->size,
                           WORD("--steps"),
                           WORD(t->decode ? "1" : opt_steps),
                           WORD("--cfg-scale"),
                           WORD("1"),
                           WORD("--sampling-method"),
                           WORD("euler"),
                           WORD("--fa"),
                           WORD("--type"),
                           WORD(opt_type),
                           WORD("-t"),
                           t->threads,
                           WORD("-o"),
                           t->out,
                           WORD("-v")};
    int n = (int)(sizeof fixed / sizeof *fixed);
    memcpy(argv, fixed, sizeof fixed);
    if (opt_eager) argv[n++] = WORD("--eager-load");
    return n;
}

static swd_status run_theirs(void *arg, swd_err *err)
{
    static const char sampled[] = "sampling completed, taking ",
                      decoded[] = "decode_first_stage completed, taking ";
    theirs *t = arg;
    const char *what = t->decode ? decoded : sampled;
    char *argv[ARGS_MAX] = {0}, line[4096];
    child *c;
    command(argv, t);
    SWD_TRY(child_start(&c, argv, 1, err), err);
    swd_status s = child_read_until(c, line, sizeof line, what, err);
    if (s == SWD_OK) {
        t->seconds = strtod(strstr(line, what) + strlen(what), NULL);
        if (!t->decode) t->seconds /= atof(opt_steps);
    }
    double peak = child_peak_bytes(c);
    if (peak > t->peak_bytes) t->peak_bytes = peak;
    child_stop(&c, 1, NULL); // the rest is not of interest
    return s;
}

static double their_seconds(void *arg)
{
    return ((theirs *)arg)->seconds;
}

/* ---- the comparison ---- */

typedef struct session {
    bench *b;
    pipeline p[PRECISIONS];
    network network[PRECISIONS];
    swd_err *err;
} session;

static swd_status run_ours(void *arg, swd_err *err)
{
    return network_forward(arg, err);
}

static swd_status compare(session *s, network_kind kind, int64_t side)
{
    char name[1 + PRECISIONS][64];
    theirs t = {.decode = kind == NETWORK_DECODE};
    const char *what = t.decode ? "decode" : "step";
    snprintf(t.size, sizeof t.size, "%lld", (long long)side * 8);
    snprintf(t.threads, sizeof t.threads, "%d", bench_threads(s->b));
    const char *dir = opt_their_model ? opt_their_model : opt_model;
    snprintf(t.clip_l, sizeof t.clip_l, "%s/text_encoder/model.safetensors", dir);
    snprintf(t.clip_g, sizeof t.clip_g, "%s/text_encoder_2/model.safetensors", dir);
    snprintf(t.vae, sizeof t.vae, "%s/vae/diffusion_pytorch_model.safetensors", dir);
    snprintf(t.out, sizeof t.out, "/tmp/swd-bench-sdcpp.png");
    snprintf(name[0], sizeof name[0], "%s latent %lld: stable-diffusion.cpp", what,
             (long long)side);
    bench_case cases[1 + PRECISIONS] = {
        {name[0], opt_type, run_theirs, .own_s = their_seconds, .arg = &t}};
    for (int i = 0; i < PRECISIONS; i++) {
        s->network[i] =
            (network){.p = &s->p[i], .kind = kind, .batch = 1, .side = side, .text = TEXT_TOKENS};
        SWD_TRY(network_prepare(&s->network[i], s->err), s->err);
        snprintf(name[1 + i], sizeof *name, "%s latent %lld: swd %s", what, (long long)side,
                 i ? "bf16" : "f32");
        cases[1 + i] =
            (bench_case){name[1 + i], i ? "bf16" : "f32", run_ours, .arg = &s->network[i]};
        SWD_TRY(network_forward(&s->network[i], s->err), s->err); // warm-up; theirs has none
    }
    bench_set_limits(s->b, (bench_limits){0, 3, 20, 1});
    SWD_TRY(bench_run(NULL, s->b, cases, 1 + PRECISIONS, s->err), s->err);
    bench_value(s->b, name[0], "peak_memory_bytes", t.peak_bytes);
    fprintf(stderr, "  peak memory: stable-diffusion.cpp %.0f MB\n", t.peak_bytes * 1e-6);
    return SWD_OK;
}

static swd_status each_side(session *s, network_kind kind, const char *list)
{
    for (char *end; *list; list = *end ? end + 1 : end) {
        long side = strtol(list, &end, 10);
        if (end == list || side < 1 || (*end && *end != ','))
            return SWD_FAIL(s->err, SWD_ERR_ARGUMENT, "%s is no list of latent sides", list);
        SWD_TRY(compare(s, kind, side), s->err);
    }
    return SWD_OK;
}

static swd_status open_ours(session *s, int i)
{
    swd_open_params params;
    swd_open_params_default(&params);
    params.no_embeds = 1; // text is encoded in each run
    params.model = opt_model;
    params.precision = i ? SWD_PRECISION_BF16 : SWD_PRECISION_F32;
    params.threads = bench_threads(s->b);
    SWD_TRY(pipeline_open(&s->p[i], &params, s->err), s->err);
    if (*opt_sides) SWD_TRY(pipeline_load_transformer(&s->p[i], s->err), s->err);
    if (*opt_decode) SWD_TRY(pipeline_load_decoder(&s->p[i], s->err), s->err);
    return SWD_OK;
}

static swd_status body(bench *b, swd_err *err)
{
    session *s = &(session){.b = b, .err = err};
    if (!opt_model || !opt_sdcli || !opt_weights)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "give -m, --sd-cli and --weights");
    bench_fact(b, "model", opt_model);
    bench_fact(b, "peer", opt_sdcli);
    swd_status st = SWD_OK;
    for (int i = 0; i < PRECISIONS && st == SWD_OK; i++) st = open_ours(s, i);
    if (st == SWD_OK) st = each_side(s, NETWORK_STEP, opt_sides);
    if (st == SWD_OK) st = each_side(s, NETWORK_DECODE, opt_decode);
    for (int i = 0; i < PRECISIONS; i++) pipeline_close(&s->p[i]);
    return st;
}

int main(int argc, char **argv)
{
    static const bench_option options[] = {
        {"-m", "DIR", "model folder of random_model", &opt_model},
        {"--sd-cli", "PROGRAM", "stable-diffusion.cpp's sd-cli", &opt_sdcli},
        {"--their-model", "DIR", "where it finds text encoders and autoencoder (as -m)",
         &opt_their_model},
        {"--weights", "FILE", "its transformer: what sdcpp_weights.py wrote", &opt_weights},
        {"--type", "TYPE", "its weight type (f16)", &opt_type},
        {"--latents", "LIST", "sides of the steps (32,48,64)", &opt_sides},
        {"--decode", "LIST", "latent sides of the decoding (32,64)", &opt_decode},
        {"--steps", "N", "steps it takes, for the mean (2)", &opt_steps},
        {"--eager", NULL, "it loads all weights before its clock starts", &opt_eager},
    };
    return bench_main(&(bench_program){.name = "bench_sdcpp",
                                       .about = "stable-diffusion.cpp beside ours",
                                       .options = options,
                                       .n_options = sizeof options / sizeof *options,
                                       .body = body},
                      argc, argv);
}
