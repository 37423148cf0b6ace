/* SPDX-License-Identifier: MIT */
/* The command line: every option of every command in one table. */
#ifndef TOOLS_SWD_OPTIONS_H
#define TOOLS_SWD_OPTIONS_H
#include "bench_options.h"
#include <stdbool.h>
#include <swd/swd.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* Bits of commands that take an option. */
enum {
    CMD_GENERATE = 1,
    CMD_TOKENIZE = 2,
    CMD_ENCODE = 4,
    CMD_DECODE = 8,
    CMD_INFO = 16,
    CMD_PRESETS = 32,
    CMD_BENCH = 64,
    CMD_SPECTRUM = 128,
    CMD_EVAL = 256
};

typedef struct options {
    swd_open_params open;
    swd_generate_params generate;
    swd_lora loras[SWD_LORAS_MAX];
    char *lora_paths[SWD_LORAS_MAX]; /* owned: the part before =SCALE */
    int scales[SWD_STEPS_MAX];
    double sigmas[SWD_STEPS_MAX + 1];
    bench_options bench;
    const char *prompts_file;
    const char *dataset;           /* generate: a folder; NULL: not given */
    const char *output;            /* -o as given; NULL: not given */
    const char *write;             /* spectrum: a swd.json */
    int scale_multiple, scale_min; /* spectrum; 0: not given */
    const char *images, *reference, *features, *html, *title; /* eval */
    int resamples;                                            /* eval; -1: not given */
    bool json, help, strength_given, device_given;
    const char *const *arguments; /* what is no option */
    int n_arguments;
    const char **storage; /* owned: of arguments */
} options;

/* argv[2..]. Prints one error line and returns EXIT_USAGE if the call is wrong, else EXIT_DONE. Free it either way. */
int options_parse(options *o, int command, const char *command_name, int argc, char **argv);
void options_free(options *o);

/* Values, for the files that have options of their own: an error line and false if it is wrong. */
bool option_wrong(const char *name, const char *value, const char *wanted); /* false */
bool option_to_int(int *out, const char *name, const char *value, long lo, long hi);
bool option_to_double(double *out, const char *name, const char *value, double lo, double hi);

/* "swd: error: ..." on stderr. */
void print_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "swd: note: ..." on stderr, unless it is empty. */
void print_note(const char *text);
/* The context's message as an error line; the exit status that belongs to s. */
int fail_with(swd_status s, const swd_context *ctx);
#endif
