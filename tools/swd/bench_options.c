// SPDX-License-Identifier: MIT
#include "bench_options.h"
#include "options.h"
#include <stdlib.h>
#include <string.h>

void bench_options_default(bench_options *o)
{
    *o = (bench_options){0};
    swd_bench_params_default(&o->params);
}

void bench_options_free(bench_options *o)
{
    free(o->preset_words);
    *o = (bench_options){0};
}

// "256,512", also "512x512": sides of squares where square is set.
static bool to_list(int *list, int *n, const char *name, const char *v, bool square)
{
    const char *p = v;
    for (*n = 0; *n < SWD_BENCH_LIST_MAX; p++) {
        char *end;
        long x = *p >= '0' && *p <= '9' ? strtol(p, &end, 10) : 0;
        if (x < 1 || x > 100000) break;
        list[(*n)++] = (int)x;
        if (square && *end == 'x' && strtol(end + 1, &end, 10) != x) break;
        if (!*end) return true;
        if (*end != ',') break;
        p = end;
    }
    return option_wrong(name, v,
                        square ? "give sides of square pictures, like 256,512 (8 at most)"
                               : "give whole numbers, like 2,4,6 (8 at most)");
}

static bool to_presets(bench_options *o, const char *name, const char *v)
{
    free(o->preset_words);
    o->preset_words = strdup(v);
    o->params.n_presets = 0;
    for (char *p = o->preset_words, *word; p && (word = strsep(&p, ","));) {
        if (!*word || o->params.n_presets == SWD_BENCH_PRESETS_MAX)
            return option_wrong(name, v, "give names of presets, like sd3.5-medium-6 (4 at most)");
        o->presets[o->params.n_presets++] = word;
    }
    o->params.presets = o->presets;
    return o->preset_words ? true : option_wrong(name, v, "out of memory");
}

static bool take_list(bench_options *o, const char *name, const char *v)
{
    swd_bench_params *p = &o->params;
    if (strcmp(name, "--size") == 0) {
        p->sides = o->sides;
        return to_list(o->sides, &p->n_sides, name, v, true);
    }
    if (strcmp(name, "--batch") == 0) {
        p->batches = o->batches;
        return to_list(o->batches, &p->n_batches, name, v, false);
    }
    if (strcmp(name, "--steps") == 0) {
        p->steps = o->steps;
        return to_list(o->steps, &p->n_steps, name, v, false);
    }
    return to_presets(o, name, v);
}

static bool take_word(bench_options *o, const char *name, const char *v)
{
    swd_bench_params *p = &o->params;
    const struct {
        const char *name, **at;
    } words[] = {
        {"--arch", &p->arch},       {"--filter", &p->filter}, {"--baseline", &o->baseline},
        {"--plot", &o->plot},       {"--sd-cli", &p->sd_cli}, {"--sd-weights", &p->sd_weights},
        {"--sd-type", &p->sd_type}, {"--python", &p->python}, {"--script", &p->peer_script}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(name, words[i].name) == 0) return *words[i].at = v, true;
    return take_list(o, name, v);
}

bool bench_options_take(bench_options *o, const char *name, const char *v)
{
    swd_bench_params *p = &o->params;
    if (strcmp(name, "--quick") == 0) return (p->quick = 1);
    if (strcmp(name, "--markdown") == 0) return (o->markdown = true);
    if (strcmp(name, "--processes") == 0) return (o->processes = true);
    if (strcmp(name, "--runs") == 0) return option_to_int(&p->runs, name, v, 1, 1000);
    if (strcmp(name, "--time-box") == 0)
        return option_to_double(&p->time_box_s, name, v, 1e-3, 1e6);
    if (strcmp(name, "--guidance") == 0) return option_to_double(&p->guidance, name, v, 0, 1000);
    return take_word(o, name, v);
}
