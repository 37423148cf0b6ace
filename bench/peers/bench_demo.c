// SPDX-License-Identifier: MIT
// The bundled model beside diffusers: 28 guided steps at 128x128, prompt to finished file. Warm (everything loaded: diffusers in its
// own process, ours in this one) and as a process (start to finished file), interleaved.
#include "child.h"
#include "harness.h"
#include <swd/swd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *opt_python, *opt_script, *opt_swd, *const prompt = "3d emoji of a red apple";
enum { PRECISIONS = 2, CONTESTANTS = 1 + PRECISIONS };
static const char *const precision_name[PRECISIONS] = {"f32", "bf16"};
static const char *const warm_name[CONTESTANTS] = {"demo warm: diffusers", "demo warm: swd f32",
                                                   "demo warm: swd bf16"};

typedef struct session {
    char folder[64], model[1024], threads[16];
    child *diffusers;
    double diffusers_s;
    bool warm_wanted;
} session;

/* ---- warm ---- */

static swd_status run_diffusers(void *arg, swd_err *err)
{
    session *s = arg;
    char line[256];
    SWD_TRY(child_write(s->diffusers, "go", err), err);
    SWD_TRY(child_read_until(s->diffusers, line, sizeof line, "seconds ", err), err);
    s->diffusers_s = strtod(strstr(line, "seconds ") + strlen("seconds "), NULL);
    return SWD_OK;
}

static double diffusers_s(void *arg)
{
    return ((session *)arg)->diffusers_s;
}

typedef struct ours {
    const session *s;
    swd_context *swd;
    const char *precision;
    char file[96];
} ours;

static swd_status open_ours(ours *o, const session *s, int precision, int threads, swd_err *err)
{
    swd_open_params params;
    swd_open_params_default(&params);
    params.no_embeds = 1; // text is encoded in each run
    params.precision = precision ? SWD_PRECISION_BF16 : SWD_PRECISION_F32;
    params.threads = threads;
    *o = (ours){.s = s, .precision = precision_name[precision]};
    snprintf(o->file, sizeof o->file, "%s/swd-%s.png", s->folder, o->precision);
    swd_status st = swd_open(&o->swd, &params);
    return st == SWD_OK ? SWD_OK : SWD_FAIL(err, st, "%s", swd_message(o->swd));
}

static swd_status run_ours(void *arg, swd_err *err)
{
    ours *o = arg;
    swd_generate_params p;
    swd_generate_params_default(&p);
    p.prompts = &prompt;
    p.random_seed = 0;
    p.seed = 1;
    p.sampler = SWD_SAMPLER_EULER;
    p.steps = 28;
    p.guidance = 4;
    p.max_tokens = 16;
    p.rng = SWD_RNG_TORCH;
    p.output = o->file;
    swd_status st = swd_generate(NULL, &p, o->swd);
    return st == SWD_OK ? SWD_OK : SWD_FAIL(err, st, "%s", swd_message(o->swd));
}

static swd_status warm(session *s, bench *b, swd_err *err)
{
    char line[256], out[96];
    ours o[PRECISIONS] = {0};
    snprintf(out, sizeof out, "%s/diffusers.png", s->folder);
    char *argv[] = {(char *)(uintptr_t)opt_python,
                    (char *)(uintptr_t)opt_script,
                    s->model,
                    s->threads,
                    out,
                    NULL};
    swd_status st;
    SWD_TRY_GOTO(st, child_start(&s->diffusers, argv, 0, err), err, done);
    SWD_TRY_GOTO(st, child_read_until(s->diffusers, line, sizeof line, "ready", err), err, done);
    for (int i = 0; i < PRECISIONS; i++)
        SWD_TRY_GOTO(st, open_ours(&o[i], s, i, bench_threads(b), err), err, done);
    bench_case cases[] = {{warm_name[0], "f32", run_diffusers, .own_s = diffusers_s, .arg = s},
                          {warm_name[1], "f32", run_ours, .arg = &o[0]},
                          {warm_name[2], "bf16", run_ours, .arg = &o[1]}};
    bench_set_limits(b, (bench_limits){2, 7, BENCH_RUNS_MAX, 5});
    SWD_TRY_GOTO(st, bench_run(NULL, b, cases, CONTESTANTS, err), err, done);
done:
    for (int i = 0; i < PRECISIONS; i++) swd_close(&o[i].swd);
    child_stop(&s->diffusers, 0, NULL);
    return st;
}

/* ---- as processes ---- */

typedef struct process {
    char *argv[32];
} process;

static swd_status run_process(void *arg, swd_err *err)
{
    process *p = arg;
    child *c;
    SWD_TRY(child_start(&c, p->argv, 0, err), err);
    return child_stop(&c, 0, err);
}

static swd_status cold(session *s, bench *b, swd_err *err)
{
    char out[CONTESTANTS][96];
    for (int i = 0; i < CONTESTANTS; i++)
        snprintf(out[i], sizeof out[i], "%s/process-%d.png", s->folder, i);
#define WORD(text) (char *)(uintptr_t)(text)
    process p[] = {{.argv = {WORD(opt_python), WORD(opt_script), s->model, s->threads, out[0],
                             WORD("--once")}},
                   {.argv = {0}},
                   {.argv = {0}}};
    for (int i = 0; i < PRECISIONS; i++) {
        char *const argv[] = {WORD(opt_swd),
                              WORD("generate"),
                              WORD(prompt),
                              WORD("--sampler"),
                              WORD("euler"),
                              WORD("--steps"),
                              WORD("28"),
                              WORD("--guidance"),
                              WORD("4"),
                              WORD("--max-tokens"),
                              WORD("16"),
                              WORD("--rng"),
                              WORD("torch"),
                              WORD("--seed"),
                              WORD("1"),
                              WORD("--threads"),
                              s->threads,
                              WORD("--precision"),
                              WORD(precision_name[i]),
                              WORD("-o"),
                              out[i + 1]};
        memcpy(p[i + 1].argv, argv, sizeof argv);
    }
    bench_case cases[] = {{"demo process: diffusers", "f32", run_process, .arg = &p[0]},
                          {"demo process: swd f32", "f32", run_process, .arg = &p[1]},
                          {"demo process: swd bf16", "bf16", run_process, .arg = &p[2]}};
    bench_set_limits(b, (bench_limits){1, 5, BENCH_RUNS_MAX, 5});
    return bench_run(NULL, b, cases, CONTESTANTS, err);
}

static swd_status body(bench *b, swd_err *err)
{
    session s = {.folder = "/tmp/swd-bench-XXXXXX"};
    if (!opt_python || !opt_script || !opt_swd)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "give --python, --script and --swd");
    if (swd_default_model(s.model, sizeof s.model) != SWD_OK)
        return SWD_FAIL(err, SWD_ERR_FILE, "the bundled model is not there");
    if (!mkdtemp(s.folder)) return SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be made", s.folder);
    snprintf(s.threads, sizeof s.threads, "%d", bench_threads(b));
    swd_status st = SWD_OK;
    for (int i = 0; i < CONTESTANTS && !s.warm_wanted; i++)
        s.warm_wanted = bench_wanted(b, warm_name[i]);
    if (s.warm_wanted) st = warm(&s, b, err);
    if (st == SWD_OK) st = cold(&s, b, err);
    fprintf(stderr, "the pictures are in %s\n", s.folder);
    return st;
}

int main(int argc, char **argv)
{
    static const bench_option options[] = {
        {"--python", "PYTHON", "an interpreter that has torch and diffusers", &opt_python},
        {"--script", "FILE", "bench/peers/diffusers_demo.py", &opt_script},
        {"--swd", "PROGRAM", "the program swd of this build", &opt_swd},
    };
    return bench_main(&(bench_program){.name = "bench_demo",
                                       .about = "the bundled model beside diffusers",
                                       .options = options,
                                       .n_options = sizeof options / sizeof *options,
                                       .body = body},
                      argc, argv);
}
