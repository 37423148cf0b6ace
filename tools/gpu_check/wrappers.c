// SPDX-License-Identifier: MIT
// The words of dev.cuh's wrappers against the table of what the emulator gives.
#include "wrappers.h"
#include "wrappers_expected.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static_assert(sizeof wrappers_expected / sizeof *wrappers_expected == WRAPPER_WORDS,
              "wrappers_expected.h: print it again (emu_wrappers --print)");

static float as_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static bool agrees(uint32_t got, uint32_t want, enum wrapper_kind kind, double tolerance)
{
    if (got == want) return true;
    if (kind != WRAPPER_FLOAT) return false;
    double g = as_float(got), w = as_float(want);
    return fabs(g - w) <= tolerance * fmax(1.0, fabs(w)); // false for NaN
}

void wrappers_compare(const uint32_t *words, bool e4m3, wrappers_tell *tell, void *ctx)
{
    static const struct {
        const char *name;
        int first, words;
        enum wrapper_kind kind;
        double tolerance;
    } wrappers[] = {
#define X(name, words, kind, tolerance) {#name, W_##name, words, kind, tolerance},
        WRAPPERS(X)
#undef X
    };
    char message[160];
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++) {
        int off = 0, where = 0;
        if (wrappers[i].kind == WRAPPER_E4M3 && !e4m3) continue;
        for (int j = wrappers[i].words - 1; j >= 0; j--) {
            int k = wrappers[i].first + j;
            if (agrees(words[k], wrappers_expected[k], wrappers[i].kind, wrappers[i].tolerance))
                continue;
            off++;
            where = j;
        }
        int k = wrappers[i].first + where;
        snprintf(message, sizeof message,
                 "%d of %d words are off, the first at %d: %08x (%.9g), expected %08x (%.9g)", off,
                 wrappers[i].words, where, words[k], as_float(words[k]), wrappers_expected[k],
                 as_float(wrappers_expected[k]));
        tell(ctx, wrappers[i].name, off ? message : NULL);
    }
}
