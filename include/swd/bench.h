/* SPDX-License-Identifier: MIT */
/* Measuring: what a model costs on this machine, part by part and as a whole, scale-wise beside full resolution, and beside other
 * programs. Needs no weights: a published shape with random ones is made in memory.
 *
 *     swd_bench *bench = NULL;
 *     swd_bench_params params;
 *     const char *text;
 *     swd_bench_params_default(&params);
 *     params.what = SWD_BENCH_E2E;
 *     params.arch = "sd3.5-medium";
 *     if (swd_bench_run(&bench, &params) == SWD_OK && swd_bench_text(&text, SWD_BENCH_TABLE, bench) == SWD_OK)
 *         puts(text);
 *     else
 *         fprintf(stderr, "%s\n", swd_bench_message(bench));
 *     swd_bench_close(&bench);
 *
 * A time is the median of several runs, with the 10th and 90th percentile; what is compared runs in turns, and a ratio is taken round by
 * round. One handle serves one thread at a time; handles share nothing. */
#ifndef SWD_BENCH_H
#define SWD_BENCH_H
#include <swd/swd.h>
#ifdef __cplusplus
extern "C" {
#endif

/* More than these is SWD_ERR_ARGUMENT. */
enum { SWD_BENCH_LIST_MAX = 8, SWD_BENCH_PRESETS_MAX = 4 };

typedef struct swd_bench swd_bench;

typedef enum swd_bench_what {
    SWD_BENCH_OPS, /* each op of a step and of a decoding, by shape: time, rate, share of the whole */
    SWD_BENCH_STEP, /* one evaluation of the transformer */
    SWD_BENCH_VAE,  /* the autoencoder, both ways */
    SWD_BENCH_TEXT, /* each text encoder */
    SWD_BENCH_E2E, /* pictures: scale-wise beside 2, 4, 6, 28, ... steps at full resolution, with and without guidance */
    SWD_BENCH_THROUGHPUT, /* pictures a second by batch, beside single requests */
    SWD_BENCH_COMPARE     /* the same work by other programs on this machine */
} swd_bench_what;

/* The name on the command line ("e2e"); static; NULL: there is no such. */
SWD_API const char *swd_bench_what_name(swd_bench_what what);
/* The i-th shape that has a name, from 0, and what it is in words (about may be NULL); NULL beyond the last; static. */
SWD_API const char *swd_bench_arch(const char **about, int i);

typedef struct swd_bench_params {
    size_t size;
    swd_bench_what what; /* default SWD_BENCH_E2E */
    const swd_open_params *
        open; /* model, device, threads, precision, text encoders; NULL (default): those of swd_open_params_default */
    const char *
        arch; /* a shape of swd_bench_arch with random weights in memory; NULL (default): the model of open */
    const int *
        sides; /* [n_sides] of the pictures in pixels; NULL (default): the model's size; a quarter, a half and all of it for
                         STEP, VAE and OPS */
    int n_sides;
    const int *
        batches; /* [n_batches]; NULL (default): 1; for THROUGHPUT 1, 2, 4. STEP and VAE take the first */
    int n_batches;
    const int *
        steps; /* [n_steps] at full resolution, E2E and COMPARE; NULL (default): 2, 4, 6, 28; for COMPARE 28 */
    int n_steps;
    const char *const *
        presets; /* [n_presets] schedules to stand beside, E2E and THROUGHPUT; NULL (default): the family's */
    int n_presets;
    const int *scales; /* an own schedule instead, as in swd_generate_params */
    int n_scales;
    const double *sigmas;
    int n_sigmas;
    double guidance; /* of the guided contestants; default 4.5; <= 1: none of them */
    int mix;         /* THROUGHPUT: nonzero: also mixed batches, see swd_generate_params */
    int max_tokens;  /* length of the T5 prompt; 0 (default): 256 at most */
    int runs;        /* fewest runs of a case; 0 (default): 3 to 5 */
    double
        time_box_s; /* and so many seconds of it; 0 (default): 2. A case that takes ten times as long by itself is not repeated,
                       unless runs is given */
    int quick;      /* nonzero: one run of each: does it work? no figures to quote */
    const char *
        filter; /* only cases whose name holds this, with those they are compared to or part of; NULL (default): all */
    void (*line)(
        void *user,
        const char *
            text); /* a line for people about each case when it is there, without newline; NULL (default): none */
    int (*running)(
        void *user,
        const char *
            name); /* asked before each run of a case and between the steps of a request: nonzero stops it with
                              SWD_ERR_CANCELLED. name: of the case, "" while it is prepared. NULL (default): nobody */
    void *user;

    /* COMPARE: what is installed on this machine; NULL: that one is left out. Nothing is downloaded. */
    const char *
        sd_cli, /* stable-diffusion.cpp's sd-cli: a step and the decoding, of the model folder given */
        *sd_weights,    /* its transformer: a file made by bench/peers/sdcpp_weights.py */
        *sd_type;       /* its weight type; default "f16" */
    const char *python, /* an interpreter that has torch and diffusers */
        *peer_script;   /* bench/peers/diffusers_peer.py */
    const char *
        program; /* the program swd: both also as processes, from their start to the finished file */
} swd_bench_params;

SWD_API void swd_bench_params_default(swd_bench_params *params);
/* Measures. On failure *out is still a handle that holds the message (NULL if even that had no memory): close it. */
SWD_API swd_status swd_bench_run(swd_bench **out, const swd_bench_params *params);
SWD_API const char *swd_bench_message(const swd_bench *bench);
SWD_API void swd_bench_close(swd_bench **bench); /* writes NULL; accepts it */

typedef struct swd_bench_result {
    size_t size;
    char name[128], precision[8];
    int runs;
    double median_ms, p10_ms, p90_ms;
    double flop, bytes;                 /* work of one run; 0: not counted */
    double share;                       /* of the peak; 0: none is known */
    char peak[48];                      /* "measured", "nominal" */
    char first[128];                    /* what it was compared with; "": nothing */
    double ratio, ratio_p10, ratio_p90; /* time over that one's, round by round; 0: none */
} swd_bench_result;

SWD_API int swd_bench_count(const swd_bench *bench);
/* Result i, in the order of measuring; SWD_ERR_ARGUMENT beyond the last. */
SWD_API swd_status swd_bench_get(swd_bench_result *out, int i, const swd_bench *bench);

/* Compares every result with the one of the same name and precision in an earlier document (a file of SWD_BENCH_JSON). Changes are faster
 * or slower where they exceed the noise: the half widths from p10 to p90 of both runs, and at least 2 %. The forms below show it. */
SWD_API swd_status swd_bench_baseline(swd_bench *bench, const char *file);

typedef enum swd_bench_form {
    SWD_BENCH_TABLE,    /* for a terminal */
    SWD_BENCH_MARKDOWN, /* the same, and for E2E the table of the paper */
    SWD_BENCH_JSON      /* the document, schema 1: docs/benchmarks.md */
} swd_bench_form;
/* *out belongs to bench and is valid until the next call. */
SWD_API swd_status swd_bench_text(const char **out, swd_bench_form form, swd_bench *bench);
/* As SVG, a bar per case: where the time goes, by stage for pictures (of the largest size), by class of op for networks. Pictures of several
 * sizes also make FILE-sizes.svg: time against resolution. */
SWD_API swd_status swd_bench_plot(swd_bench *bench, const char *file);

#ifdef __cplusplus
}
#endif
#endif
