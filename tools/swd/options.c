// SPDX-License-Identifier: MIT
#include "options.h"
#include "together.h"
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void print_error(const char *fmt, ...)
{
    char text[4096];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    together_note_error(text);
    if (!together_speaks()) return;
    fputs("swd: error: ", stderr);
    for (const char *p = text; *p;
         p++) { /* a file name may hold a line end: an error is one line */
        unsigned char c = (unsigned char)*p;
        if (c < 0x20 || c == 0x7f)
            fprintf(stderr, "\\x%02x", c);
        else
            fputc(c, stderr);
    }
    fputc('\n', stderr);
}

static void print_line(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "swd: %s\n", line);
}

void print_note(const char *text)
{
    if (text[0]) fprintf(stderr, "swd: note: %s\n", text);
}

int fail_with(swd_status s, const swd_context *ctx)
{
    print_error("%s", swd_message(ctx));
    return s == SWD_ERR_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
}

/* ---- values ---- */

bool option_wrong(const char *name, const char *value, const char *wanted)
{
    print_error("%s %s: %s", name, value, wanted);
    return false;
}

bool option_to_int(int *out, const char *name, const char *v, long lo, long hi)
{
    char *end;
    errno = 0;
    long n = strtol(v, &end, 10);
    char wanted[96];
    snprintf(wanted, sizeof(wanted), "give a whole number from %ld to %ld", lo, hi);
    if (errno || end == v || *end || n < lo || n > hi) return option_wrong(name, v, wanted);
    *out = (int)n;
    return true;
}

static bool to_seed(uint64_t *out, const char *name, const char *v)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(v, &end, 10);
    if (errno || *v < '0' || *v > '9' || *end || n > INT64_MAX)
        return option_wrong(name, v, "give a whole number from 0 to 2^63 - 1");
    *out = n;
    return true;
}

bool option_to_double(double *out, const char *name, const char *v, double lo, double hi)
{
    char *end, wanted[96];
    double n = strtod(v, &end);
    snprintf(wanted, sizeof(wanted), "give a number from %g to %g", lo, hi);
    if (end == v || *end || !(n >= lo && n <= hi)) return option_wrong(name, v, wanted);
    *out = n;
    return true;
}

/* Digits alone: strtol takes blanks and signs as well. */
static const char *side_of(int *out, const char *v)
{
    size_t n = strspn(v, "0123456789");
    if (n < 1 || n > 5) return NULL;
    *out = atoi(v);
    return *out > 0 ? v + n : NULL;
}

static bool to_size(options *o, const char *name, const char *v)
{
    const char *p = side_of(&o->generate.width, v);
    p = p && *p == 'x' ? side_of(&o->generate.height, p + 1) : NULL;
    return p && !*p ? true : option_wrong(name, v, "give WIDTHxHEIGHT in pixels, like 128x128");
}

static bool to_scales(options *o, const char *name, const char *v)
{
    const char *p = v;
    for (int n = 0; n < SWD_STEPS_MAX; n++, p++) {
        char *end;
        errno = 0;
        long side = strtol(p, &end, 10);
        if (errno || end == p || side < 1 || side > 4096 || (*end && *end != ',')) break;
        o->scales[n] = (int)side;
        p = end;
        if (!*p) {
            o->generate.scales = o->scales;
            o->generate.n_scales = n + 1;
            return true;
        }
    }
    return option_wrong(name, v, "give latent sides, like 4,6,8,12,16");
}

static bool to_sigmas(options *o, const char *name, const char *v)
{
    const char *p = v;
    for (int n = 0; n <= SWD_STEPS_MAX; n++, p++) {
        char *end;
        double sigma = strtod(p, &end);
        if (end == p || !(sigma >= 0 && sigma <= 1) || (*end && *end != ',')) break;
        o->sigmas[n] = sigma;
        p = end;
        if (!*p) {
            o->generate.sigmas = o->sigmas;
            o->generate.n_sigmas = n + 1;
            return true;
        }
    }
    return option_wrong(name, v, "give noise levels from 1 down, like 1,.95,.9,.74,.6");
}

/* PATH=SCALE; what follows the last = is part of the path if the whole is a file or folder. */
static bool to_lora(options *o, const char *name, const char *v)
{
    if (o->open.n_loras == SWD_LORAS_MAX) return option_wrong(name, v, "too many adapters");
    int i = o->open.n_loras;
    char *path = strdup(v), *equals = path ? strrchr(path, '=') : NULL;
    double scale = 1;
    if (!path) return option_wrong(name, v, "out of memory");
    o->lora_paths[i] = path;
    o->open.n_loras = i + 1;
    if (equals && access(v, F_OK) != 0) {
        char *end;
        scale = strtod(equals + 1, &end);
        if (end == equals + 1 || *end || !(scale >= -1000 && scale <= 1000))
            return option_wrong(name, v, "give PATH=SCALE, the scale a number from -1000 to 1000");
        *equals = '\0';
    }
    if (!*path) return option_wrong(name, v, "give the path of an adapter");
    o->loras[i] = (swd_lora){.path = path, .scale = (float)scale};
    return true;
}

static bool to_encoders(options *o, const char *name, const char *v)
{
    static const struct {
        const char *name;
        unsigned bits;
    } known[] = {
        {"clip_l", SWD_CLIP_L}, {"clip_g", SWD_CLIP_G}, {"t5", SWD_T5}, {"all", SWD_TEXT_ALL}};
    unsigned bits = 0;
    for (const char *p = v;; p++) {
        size_t n = strcspn(p, ","), k = 0;
        while (k < 4 && (strlen(known[k].name) != n || strncmp(p, known[k].name, n) != 0)) k++;
        if (k == 4) return option_wrong(name, v, "give some of clip_l,clip_g,t5, or all");
        bits |= known[k].bits;
        p += n;
        if (!*p) break;
    }
    o->open.text_encoders = bits;
    return true;
}

static bool to_word(int *out, const char *name, const char *v, const char *const *words)
{
    char wanted[128] = "give";
    for (int i = 0; words[i]; i++) {
        if (strcmp(v, words[i]) == 0) {
            *out = i;
            return true;
        }
        snprintf(wanted + strlen(wanted), sizeof(wanted) - strlen(wanted), "%s %s", i ? " or" : "",
                 words[i]);
    }
    return option_wrong(name, v, wanted);
}

/* ---- the table ---- */

enum option_id {
    O_MODEL,
    O_PROMPTS,
    O_OUTPUT,
    O_COUNT,
    O_SEED,
    O_SIZE,
    O_SAMPLER,
    O_PRESET,
    O_SCALES,
    O_SIGMAS,
    O_STEPS,
    O_GUIDANCE,
    O_NEGATIVE,
    O_SHIFT,
    O_INIT,
    O_STRENGTH,
    O_LORA,
    O_ENCODERS,
    O_MAX_TOKENS,
    O_PRECISION,
    O_DEVICE,
    O_THREADS,
    O_NO_GRAPHS,
    O_TUNE,
    O_VERBOSE,
    O_RNG,
    O_TINY,
    O_SAVE_LATENTS,
    O_SAVE_SCALES,
    O_BATCH,
    O_RESUME,
    O_DATASET,
    O_MIX,
    O_EMBEDS_CACHE,
    O_OFFLOAD,
    O_NO_OFFLOAD,
    O_MULTIPLE,
    O_SCALE_MIN,
    O_WRITE,
    O_IMAGES,
    O_REFERENCE,
    O_FEATURES,
    O_HTML,
    O_TITLE,
    O_RESAMPLES,
    O_BENCH, /* those of bench alone: bench_options.c */
    O_JSON,
    O_HELP
};

static const struct option_entry {
    const char *name;
    char letter;
    enum option_id id;
    bool has_value;
    int commands;
} table[] = {
    {"--model", 'm', O_MODEL, true,
     CMD_GENERATE | CMD_EVAL | CMD_TOKENIZE | CMD_ENCODE | CMD_DECODE | CMD_INFO | CMD_PRESETS |
         CMD_SPECTRUM | CMD_BENCH},
    {"--prompts", 0, O_PROMPTS, true, CMD_GENERATE | CMD_EVAL | CMD_TOKENIZE},
    {"--output", 'o', O_OUTPUT, true,
     CMD_GENERATE | CMD_EVAL | CMD_ENCODE | CMD_DECODE | CMD_SPECTRUM | CMD_BENCH},
    {"--count", 'n', O_COUNT, true, CMD_GENERATE | CMD_EVAL},
    {"--seed", 0, O_SEED, true, CMD_GENERATE | CMD_EVAL},
    {"--size", 0, O_SIZE, true, CMD_GENERATE | CMD_EVAL | CMD_SPECTRUM},
    {"--sampler", 0, O_SAMPLER, true, CMD_GENERATE | CMD_EVAL},
    {"--preset", 0, O_PRESET, true, CMD_GENERATE | CMD_EVAL},
    {"--scales", 0, O_SCALES, true, CMD_GENERATE | CMD_EVAL | CMD_SPECTRUM | CMD_BENCH},
    {"--sigmas", 0, O_SIGMAS, true, CMD_GENERATE | CMD_EVAL | CMD_SPECTRUM | CMD_BENCH},
    {"--steps", 0, O_STEPS, true, CMD_GENERATE | CMD_EVAL},
    {"--guidance", 0, O_GUIDANCE, true, CMD_GENERATE | CMD_EVAL},
    {"--negative", 0, O_NEGATIVE, true, CMD_GENERATE | CMD_EVAL},
    {"--shift", 0, O_SHIFT, true, CMD_GENERATE | CMD_EVAL},
    {"--init", 0, O_INIT, true, CMD_GENERATE},
    {"--strength", 0, O_STRENGTH, true, CMD_GENERATE},
    {"--lora", 0, O_LORA, true,
     CMD_GENERATE | CMD_EVAL | CMD_TOKENIZE | CMD_INFO | CMD_PRESETS | CMD_BENCH},
    {"--text-encoders", 0, O_ENCODERS, true, CMD_GENERATE | CMD_EVAL | CMD_BENCH},
    {"--max-tokens", 0, O_MAX_TOKENS, true, CMD_GENERATE | CMD_EVAL | CMD_TOKENIZE | CMD_BENCH},
    {"--precision", 0, O_PRECISION, true,
     CMD_GENERATE | CMD_EVAL | CMD_ENCODE | CMD_DECODE | CMD_INFO | CMD_SPECTRUM | CMD_BENCH},
    {"--device", 0, O_DEVICE, true,
     CMD_GENERATE | CMD_EVAL | CMD_ENCODE | CMD_DECODE | CMD_INFO | CMD_SPECTRUM | CMD_BENCH},
    {"--threads", 0, O_THREADS, true,
     CMD_GENERATE | CMD_EVAL | CMD_ENCODE | CMD_DECODE | CMD_INFO | CMD_SPECTRUM | CMD_BENCH},
    {"--no-graphs", 0, O_NO_GRAPHS, false, CMD_GENERATE | CMD_EVAL | CMD_BENCH},
    {"--tune", 0, O_TUNE, true, CMD_GENERATE | CMD_EVAL | CMD_ENCODE | CMD_DECODE | CMD_BENCH},
    {"--verbose", 'v', O_VERBOSE, false,
     CMD_GENERATE | CMD_EVAL | CMD_ENCODE | CMD_DECODE | CMD_INFO | CMD_BENCH},
    {"--rng", 0, O_RNG, true, CMD_GENERATE | CMD_EVAL},
    {"--vae-tiny", 0, O_TINY, true, CMD_GENERATE | CMD_EVAL | CMD_DECODE | CMD_BENCH},
    {"--save-latents", 0, O_SAVE_LATENTS, true, CMD_GENERATE},
    {"--save-scales", 0, O_SAVE_SCALES, true, CMD_GENERATE},
    {"--batch", 0, O_BATCH, true, CMD_GENERATE | CMD_EVAL},
    {"--resume", 0, O_RESUME, false, CMD_GENERATE},
    {"--dataset", 0, O_DATASET, true, CMD_GENERATE},
    {"--mix", 0, O_MIX, false, CMD_GENERATE | CMD_BENCH},
    {"--embeds-cache", 0, O_EMBEDS_CACHE, true, CMD_GENERATE},
    {"--offload", 0, O_OFFLOAD, false, CMD_GENERATE | CMD_BENCH | CMD_INFO},
    {"--no-offload", 0, O_NO_OFFLOAD, false, CMD_GENERATE | CMD_INFO},
    {"--scale-multiple", 0, O_MULTIPLE, true, CMD_SPECTRUM},
    {"--scale-min", 0, O_SCALE_MIN, true, CMD_SPECTRUM},
    {"--write", 0, O_WRITE, true, CMD_SPECTRUM},
    {"--images", 0, O_IMAGES, true, CMD_EVAL},
    {"--reference", 0, O_REFERENCE, true, CMD_EVAL},
    {"--features", 0, O_FEATURES, true, CMD_EVAL},
    {"--html", 0, O_HTML, true, CMD_EVAL},
    {"--title", 0, O_TITLE, true, CMD_EVAL},
    {"--resamples", 0, O_RESAMPLES, true, CMD_EVAL},
    {"--arch", 0, O_BENCH, true, CMD_BENCH},
    {"--size", 0, O_BENCH, true, CMD_BENCH},
    {"--batch", 0, O_BENCH, true, CMD_BENCH},
    {"--steps", 0, O_BENCH, true, CMD_BENCH},
    {"--preset", 0, O_BENCH, true, CMD_BENCH},
    {"--guidance", 0, O_BENCH, true, CMD_BENCH},
    {"--runs", 0, O_BENCH, true, CMD_BENCH},
    {"--time-box", 0, O_BENCH, true, CMD_BENCH},
    {"--quick", 0, O_BENCH, false, CMD_BENCH},
    {"--filter", 0, O_BENCH, true, CMD_BENCH},
    {"--baseline", 0, O_BENCH, true, CMD_BENCH},
    {"--markdown", 0, O_BENCH, false, CMD_BENCH},
    {"--plot", 0, O_BENCH, true, CMD_BENCH},
    {"--sd-cli", 0, O_BENCH, true, CMD_BENCH},
    {"--sd-weights", 0, O_BENCH, true, CMD_BENCH},
    {"--sd-type", 0, O_BENCH, true, CMD_BENCH},
    {"--python", 0, O_BENCH, true, CMD_BENCH},
    {"--script", 0, O_BENCH, true, CMD_BENCH},
    {"--processes", 0, O_BENCH, false, CMD_BENCH},
    {"--json", 0, O_JSON, false,
     CMD_GENERATE | CMD_EVAL | CMD_TOKENIZE | CMD_INFO | CMD_PRESETS | CMD_ENCODE | CMD_DECODE |
         CMD_SPECTRUM | CMD_BENCH},
    {"--help", 'h', O_HELP, false, ~0},
};
enum { N_OPTIONS = sizeof(table) / sizeof(table[0]) };

static bool apply_model(options *o, enum option_id id, const char *name, const char *v)
{
    static const char *const precisions[] = {"f32", "bf16", NULL};
    static const char *const tunes[] = {"measure", "thorough", "off", "ours", "vendor", NULL};
    int word;
    switch (id) {
    case O_MODEL:
        o->open.model = v;
        return true;
    case O_LORA:
        return to_lora(o, name, v);
    case O_ENCODERS:
        return to_encoders(o, name, v);
    case O_PRECISION:
        if (!to_word(&word, name, v, precisions)) return false;
        o->open.precision = word ? SWD_PRECISION_BF16 : SWD_PRECISION_F32;
        return true;
    case O_DEVICE:
        o->device_given = true;
        o->open.device = v;
        return true;
    case O_THREADS:
        return option_to_int(&o->open.threads, name, v, 1, 1024);
    case O_NO_GRAPHS:
        o->open.no_graphs = 1;
        return true;
    case O_TUNE:
        o->open.tune = v;
        return to_word(&word, name, v, tunes);
    case O_VERBOSE:
        o->open.log = print_line;
        return true;
    case O_TINY:
        o->open.vae_tiny = v;
        return true;
    case O_EMBEDS_CACHE:
        o->open.embeds_cache = v;
        return true;
    case O_OFFLOAD:
    case O_NO_OFFLOAD:
        o->open.offload = id == O_OFFLOAD ? SWD_OFFLOAD_ON : SWD_OFFLOAD_OFF;
        return true;
    default:
        return true;
    }
}

static bool apply_eval(options *o, enum option_id id, const char *name, const char *v)
{
    switch (id) {
    case O_IMAGES:
        o->images = v;
        return true;
    case O_REFERENCE:
        o->reference = v;
        return true;
    case O_FEATURES:
        o->features = v;
        return true;
    case O_HTML:
        o->html = v;
        return true;
    case O_TITLE:
        o->title = v;
        return true;
    case O_MULTIPLE:
        return option_to_int(&o->scale_multiple, name, v, 2, 4096);
    case O_SCALE_MIN:
        return option_to_int(&o->scale_min, name, v, 2, 4096);
    case O_WRITE:
        o->write = v;
        return true;
    case O_RESAMPLES:
        return option_to_int(&o->resamples, name, v, 0, 1000000);
    default:
        return apply_model(o, id, name, v);
    }
}

static bool apply_request(options *o, enum option_id id, const char *name, const char *v)
{
    static const char *const samplers[] = {"scalewise", "euler", NULL}, *const rngs[] = {"philox",
                                                                                         "torch",
                                                                                         NULL};
    swd_generate_params *g = &o->generate;
    int word = 0;
    switch (id) {
    case O_COUNT:
        return option_to_int(&g->count, name, v, 1, SWD_IMAGES_MAX);
    case O_SEED:
        g->random_seed = 0;
        return to_seed(&g->seed, name, v);
    case O_SIZE:
        return to_size(o, name, v);
    case O_SAMPLER:
        if (!to_word(&word, name, v, samplers)) return false;
        g->sampler = word ? SWD_SAMPLER_EULER : SWD_SAMPLER_SCALEWISE;
        return true;
    case O_PRESET:
        g->preset = v;
        return true;
    case O_SCALES:
        return to_scales(o, name, v);
    case O_SIGMAS:
        return to_sigmas(o, name, v);
    case O_STEPS:
        return option_to_int(&g->steps, name, v, 1, SWD_STEPS_MAX);
    case O_GUIDANCE:
        return option_to_double(&g->guidance, name, v, 0, 1000);
    case O_NEGATIVE:
        g->negative = v;
        return true;
    case O_SHIFT:
        return option_to_double(&g->shift, name, v, 1e-6, 1e6);
    case O_INIT:
        g->init = v;
        return true;
    case O_STRENGTH:
        o->strength_given = true;
        return option_to_double(&g->strength, name, v, 0, 1);
    case O_MAX_TOKENS:
        return option_to_int(&g->max_tokens, name, v, 1, SWD_TOKENS_MAX);
    case O_RNG:
        if (!to_word(&word, name, v, rngs)) return false;
        g->rng = word ? SWD_RNG_TORCH : SWD_RNG_PHILOX;
        return true;
    case O_SAVE_LATENTS:
        g->save_latents = v;
        return true;
    case O_SAVE_SCALES:
        g->save_scales = v;
        return true;
    case O_BATCH:
        return option_to_int(&g->batch, name, v, 1, 1024);
    case O_RESUME:
        g->resume = 1;
        return true;
    case O_DATASET:
        o->dataset = v;
        return true;
    case O_MIX:
        g->mix = 1;
        return true;
    case O_PROMPTS:
        o->prompts_file = v;
        return true;
    case O_OUTPUT:
        o->output = v;
        return true;
    case O_BENCH:
        return bench_options_take(&o->bench, name, v);
    case O_JSON:
        o->json = true;
        return true;
    case O_HELP:
        o->help = true;
        return true;
    default:
        return apply_eval(o, id, name, v);
    }
}

/* ---- parsing ---- */

/* Of that command; else of another, for the message. */
static const struct option_entry *find_option(const char *arg, size_t n, int command)
{
    const struct option_entry *other = NULL;
    for (int i = 0; i < N_OPTIONS; i++) {
        bool named = strlen(table[i].name) == n && strncmp(arg, table[i].name, n) == 0;
        if (!named && !(n == 2 && arg[1] == table[i].letter)) continue;
        if (table[i].commands & command) return &table[i];
        other = &table[i];
    }
    return other;
}

int options_parse(options *o, int command, const char *command_name, int argc, char **argv)
{
    *o = (options){0};
    swd_open_params_default(&o->open);
    swd_generate_params_default(&o->generate);
    bench_options_default(&o->bench);
    o->open.loras = o->loras;
    o->resamples = -1;
    o->storage = calloc((size_t)argc + 1, sizeof(*o->storage));
    if (!o->storage) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    bool only_arguments = false;
    for (int i = 2; i < argc; i++) {
        const char *arg = argv[i];
        if (only_arguments || arg[0] != '-' || !arg[1]) {
            o->storage[o->n_arguments++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            only_arguments = true;
            continue;
        }
        const char *equals = arg[1] == '-' ? strchr(arg, '=') : NULL;
        size_t length = equals ? (size_t)(equals - arg) : arg[1] == '-' ? strlen(arg) : 2;
        const struct option_entry *e = find_option(arg, length, command);
        if (!e || !(e->commands & command)) {
            print_error("%s: no such option of swd %s; see swd %s --help%s", arg, command_name,
                        command_name,
                        command & (CMD_GENERATE | CMD_TOKENIZE)
                            ? " (a prompt that starts with - goes after --)"
                            : "");
            return EXIT_USAGE;
        }
        const char *value = equals ? equals + 1 : arg[length] ? arg + length : NULL; /* -n4 */
        if (e->has_value && !value && ++i < argc) value = argv[i];
        if (e->has_value ? !value : value != NULL) {
            print_error("%s %s; see swd %s --help", e->name,
                        e->has_value ? "needs a value" : "takes no value", command_name);
            return EXIT_USAGE;
        }
        if (!apply_request(o, e->id, e->name, value)) return EXIT_USAGE;
    }
    o->arguments = o->storage;
    return EXIT_DONE;
}

void options_free(options *o)
{
    for (int i = 0; i < SWD_LORAS_MAX; i++) free(o->lora_paths[i]);
    free(o->storage);
    bench_options_free(&o->bench);
    *o = (options){0};
}
