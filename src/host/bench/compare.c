// SPDX-License-Identifier: MIT
#include "bench/compare.h"
#include "base/memory.h"
#include "bench/child.h"
#include "bench/networks.h"
#include "bench/scratch.h"
#include "pipeline/generate.h"
#include "pipeline/prompt.h"
#include <stdio.h>
#include <string.h>

enum { ARGS_MAX = 48, CLIP_AND_PADDING = 154, FILES = 4 };
static const char *const prompt = "a photograph of an astronaut riding a horse";

// Files that the contestants write.
typedef struct outputs {
    char folder[SCRATCH_PATH_MAX], file[FILES][SCRATCH_PATH_MAX + 16];
} outputs;

#define WORD(text) (char *)(uintptr_t)(text)

/* ---- diffusers, warm and as a process ---- */

// The request, as both programs' command lines say it.
typedef struct request_words {
    char side[16], steps[16], guidance[32], tokens[16], threads[16];
} request_words;

static request_words words_of(const session *s, int side, int steps)
{
    request_words w;
    snprintf(w.side, sizeof w.side, "%d", side);
    snprintf(w.steps, sizeof w.steps, "%d", steps);
    snprintf(w.guidance, sizeof w.guidance, "%g", s->params->guidance);
    snprintf(w.tokens, sizeof w.tokens, "%d", s->max_tokens);
    snprintf(w.threads, sizeof w.threads, "%d", bench_threads(s->b));
    return w;
}

static void diffusers_words(char *argv[ARGS_MAX], const session *s, request_words *w, char *file,
                            const char *once)
{
    char *const all[] = {WORD(s->params->python),
                         WORD(s->params->peer_script),
                         s->p.dir,
                         WORD(prompt),
                         file,
                         WORD("--threads"),
                         w->threads,
                         WORD("--size"),
                         w->side,
                         WORD("--steps"),
                         w->steps,
                         WORD("--guidance"),
                         w->guidance,
                         WORD("--max-tokens"),
                         w->tokens,
                         WORD("--precision"),
                         WORD(session_precision(s)),
                         WORD(once),
                         NULL};
    memcpy(argv, all, sizeof all);
}

static void swd_words(char *argv[ARGS_MAX], const session *s, request_words *w, char size[40],
                      char *file)
{
    snprintf(size, 40, "%sx%s", w->side, w->side);
    char *const all[] = {WORD(s->params->program),
                         WORD("generate"),
                         WORD(prompt),
                         WORD("-m"),
                         s->p.dir,
                         WORD("--sampler"),
                         WORD("euler"),
                         WORD("--steps"),
                         w->steps,
                         WORD("--guidance"),
                         w->guidance,
                         WORD("--max-tokens"),
                         w->tokens,
                         WORD("--size"),
                         size,
                         WORD("--rng"),
                         WORD("torch"),
                         WORD("--seed"),
                         WORD("1"),
                         WORD("--threads"),
                         w->threads,
                         WORD("--device"),
                         s->p.device,
                         WORD("--precision"),
                         WORD(session_precision(s)),
                         WORD("-o"),
                         file,
                         NULL};
    memcpy(argv, all, sizeof all);
}

typedef struct warm {
    session *s;
    child *peer;
    double peer_s;
    swd_generate_params params;
} warm;

static swd_status run_diffusers(void *arg, swd_err *err)
{
    warm *w = arg;
    char line[256];
    SWD_TRY(child_write(w->peer, "go", err), err);
    SWD_TRY(child_read_until(w->peer, line, sizeof line, "seconds ", err), err);
    w->peer_s = strtod(strstr(line, "seconds ") + strlen("seconds "), NULL);
    return SWD_OK;
}

static double diffusers_s(void *arg)
{
    return ((warm *)arg)->peer_s;
}

static swd_status run_ours(void *arg, swd_err *err)
{
    warm *w = arg;
    return generate(NULL, &w->params, &w->s->p, err);
}

static void request_of(swd_generate_params *a, const session *s, int side, int steps,
                       const char *file)
{
    swd_generate_params_default(a);
    a->prompts = &prompt;
    a->random_seed = 0;
    a->seed = 1;
    a->sampler = SWD_SAMPLER_EULER;
    a->steps = steps;
    a->guidance = s->params->guidance;
    a->max_tokens = s->max_tokens;
    a->width = a->height = side;
    a->rng = SWD_RNG_TORCH;
    a->output = file;
}

static swd_status compare_warm(session *s, outputs *t, int side, int steps, swd_err *err)
{
    char *argv[ARGS_MAX], line[256], name[2][BENCH_NAME_MAX];
    request_words words = words_of(s, side, steps);
    warm w = {.s = s};
    request_of(&w.params, s, side, steps, t->file[1]);
    diffusers_words(argv, s, &words, t->file[0], NULL);
    snprintf(name[0], sizeof *name, "%d px, %d steps, warm: diffusers", side, steps);
    snprintf(name[1], sizeof *name, "%d px, %d steps, warm: swd", side, steps);
    if (!bench_wanted(s->b, name[0]) && !bench_wanted(s->b, name[1])) return SWD_OK;
    bench_case cases[] = {
        {name[0], session_precision(s), run_diffusers, .own_s = diffusers_s, .arg = &w},
        {name[1], session_precision(s), run_ours, .arg = &w}};
    swd_status st = child_start(&w.peer, argv, 0, err);
    if (st == SWD_OK) st = child_read_until(w.peer, line, sizeof line, "ready", err);
    bench_set_limits(s->b, (bench_limits){1, 5, BENCH_RUNS_MAX, 5, session_patience_s(s)});
    if (st == SWD_OK) st = bench_run(NULL, s->b, cases, 2, err);
    child_stop(&w.peer, 0, NULL);
    return st == SWD_OK ? st : swd_err_frame(err, st, __FILE__, __LINE__, __func__);
}

static swd_status run_process(void *arg, swd_err *err)
{
    child *c;
    SWD_TRY(child_start(&c, arg, 0, err), err);
    return child_stop(&c, 0, err);
}

static swd_status compare_processes(session *s, outputs *t, int side, int steps, swd_err *err)
{
    char *theirs[ARGS_MAX], *ours[ARGS_MAX], name[2][BENCH_NAME_MAX], size[40];
    request_words words = words_of(s, side, steps);
    diffusers_words(theirs, s, &words, t->file[2], "--once");
    swd_words(ours, s, &words, size, t->file[3]);
    snprintf(name[0], sizeof *name, "%d px, %d steps, process: diffusers", side, steps);
    snprintf(name[1], sizeof *name, "%d px, %d steps, process: swd", side, steps);
    bench_case cases[] = {{name[0], session_precision(s), run_process, .arg = theirs},
                          {name[1], session_precision(s), run_process, .arg = ours}};
    bench_set_limits(s->b, (bench_limits){1, 3, BENCH_RUNS_MAX, 5, session_patience_s(s)});
    return bench_run(NULL, s->b, cases, 2, err);
}

static swd_status compare_diffusers(session *s, outputs *t, int side, swd_err *err)
{
    static const int steps_default[] = {28};
    const swd_bench_params *q = s->params;
    int n = q->n_steps ? q->n_steps : 1;
    for (int i = 0; i < n; i++) {
        int steps = q->n_steps ? q->steps[i] : steps_default[0];
        SWD_TRY(compare_warm(s, t, side, steps, err), err);
        if (q->program) SWD_TRY(compare_processes(s, t, side, steps, err), err);
    }
    return SWD_OK;
}

/* ---- stable-diffusion.cpp ---- */

typedef struct theirs {
    const session *s;
    char size[16], steps[16], threads[16], clip_l[1100], clip_g[1100], vae[1100], out[96];
    bool decode; // measured is the decoding, not the sampling
    int n_steps;
    double seconds, peak_bytes;
} theirs;

static void sd_words(char *argv[ARGS_MAX], theirs *t)
{
    const swd_bench_params *q = t->s->params;
    char *const all[] = {WORD(q->sd_cli),
                         WORD("--diffusion-model"),
                         WORD(q->sd_weights),
                         WORD("--clip_l"),
                         t->clip_l,
                         WORD("--clip_g"),
                         t->clip_g,
                         WORD("--vae"),
                         t->vae,
                         WORD("-p"),
                         WORD(prompt),
                         WORD("-W"),
                         t->size,
                         WORD("-H"),
                         t->size,
                         WORD("--steps"),
                         t->steps,
                         WORD("--cfg-scale"),
                         WORD("1"),
                         WORD("--sampling-method"),
                         WORD("euler"),
                         WORD("--fa"),
                         WORD("--type"),
                         WORD(q->sd_type),
                         WORD("-t"),
                         t->threads,
                         WORD("-o"),
                         t->out,
                         WORD("-v"),
                         NULL};
    memcpy(argv, all, sizeof all);
}

static swd_status run_theirs(void *arg, swd_err *err)
{
    static const char sampled[] = "sampling completed, taking ",
                      decoded[] = "decode_first_stage completed, taking ";
    theirs *t = arg;
    const char *what = t->decode ? decoded : sampled;
    char *argv[ARGS_MAX], line[4096];
    child *c;
    sd_words(argv, t);
    SWD_TRY(child_start(&c, argv, 1, err), err);
    swd_status s = child_read_until(c, line, sizeof line, what, err);
    if (s == SWD_OK) {
        t->seconds = strtod(strstr(line, what) + strlen(what), NULL);
        if (!t->decode) t->seconds /= t->n_steps;
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

static swd_status run_network(void *arg, swd_err *err)
{
    return network_forward(arg, err);
}

static swd_status compare_network(session *s, outputs *files, network_kind kind, int side,
                                  swd_err *err)
{
    char name[2][BENCH_NAME_MAX];
    const char *dir = s->p.dir;
    bool decode = kind == NETWORK_DECODE;
    int at, steps = s->params->n_steps ? s->params->steps[0] : 2;
    theirs t = {.s = s, .decode = decode, .n_steps = steps};
    network *n;
    snprintf(t.size, sizeof t.size, "%d", side);
    snprintf(t.steps, sizeof t.steps, "%d", decode ? 1 : steps);
    snprintf(t.threads, sizeof t.threads, "%d", bench_threads(s->b));
    snprintf(t.clip_l, sizeof t.clip_l, "%s/text_encoder/model.safetensors", dir);
    snprintf(t.clip_g, sizeof t.clip_g, "%s/text_encoder_2/model.safetensors", dir);
    snprintf(t.vae, sizeof t.vae, "%s/vae/diffusion_pytorch_model.safetensors", dir);
    snprintf(t.out, sizeof t.out, "%s", files->file[0]);
    snprintf(name[0], sizeof *name, "%s %d px: stable-diffusion.cpp", decode ? "decode" : "step",
             side);
    snprintf(name[1], sizeof *name, "%s %d px: swd", decode ? "decode" : "step", side);
    if (!bench_wanted(s->b, name[0]) && !bench_wanted(s->b, name[1])) return SWD_OK;
    SWD_TRY(decode ? pipeline_load_decoder(&s->p, err) : pipeline_load_transformer(&s->p, err),
            err);
    SWD_TRY(swd_calloc(&n, 1, sizeof *n, "a network", err), err);
    *n = (network){.p = &s->p,
                   .kind = kind,
                   .batch = 1,
                   .side = side / pipeline_vae_factor(&s->p),
                   .text = CLIP_AND_PADDING};
    bench_case cases[] = {
        {name[0], s->params->sd_type, run_theirs, .own_s = their_seconds, .arg = &t},
        {name[1], session_precision(s), run_network, .arg = n}};
    swd_status st = network_prepare(n, err);
    if (st == SWD_OK) st = network_forward(n, err); // warm-up; theirs has none
    if (st == SWD_OK) st = network_record(n, err);
    bench_set_limits(s->b, (bench_limits){0, 3, 20, 1, session_patience_s(s)});
    if (st == SWD_OK) st = bench_run(&at, s->b, cases, 2, err);
    if (st == SWD_OK && at >= 0) bench_value(s->b, at, "peak_memory_bytes", t.peak_bytes);
    network_release(n);
    free(n);
    return st == SWD_OK ? st : swd_err_frame(err, st, __FILE__, __LINE__, __func__);
}

/* ---- the whole ---- */

static swd_status compare_sizes(session *s, outputs *t, swd_err *err)
{
    const swd_bench_params *q = s->params;
    for (int i = 0; i < s->n_sides; i++) {
        if (q->python) SWD_TRY(compare_diffusers(s, t, s->sides[i], err), err);
        if (!q->sd_cli) continue;
        SWD_TRY(compare_network(s, t, NETWORK_STEP, s->sides[i], err), err);
        SWD_TRY(compare_network(s, t, NETWORK_DECODE, s->sides[i], err), err);
    }
    return SWD_OK;
}

swd_status measure_compare(session *s, swd_err *err)
{
    const swd_bench_params *q = s->params;
    outputs t;
    if (!q->python && !q->sd_cli)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "compare with what? give an installed program: python with its script, or "
                        "sd-cli with its weights");
    if (s->p.random)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "compare needs a model folder: the other programs read files "
                        "(tools/random_model writes one)");
    if (q->sd_cli && s->p.family->denoiser != DENOISER_SD3)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: stable-diffusion.cpp is given the parts of SD3 folders only",
                        s->p.dir);
    if (!q->python != !q->peer_script || !q->sd_cli != !q->sd_weights)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "python needs its script, and sd-cli its weights, and the reverse");
    SWD_TRY(scratch_make(t.folder, err), err);
    for (int i = 0; i < FILES; i++) snprintf(t.file[i], sizeof t.file[i], "%s/%d.png", t.folder, i);
    swd_status st = compare_sizes(s, &t, err);
    scratch_remove(t.folder);
    return st == SWD_OK ? st : swd_err_frame(err, st, __FILE__, __LINE__, __func__);
}
