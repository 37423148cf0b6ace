// SPDX-License-Identifier: MIT
#include "fill.h"
#include "number.h"
#include <math.h>
#include <string.h>

fill_rng fill_rng_of(const char *name, uint64_t seed)
{
    uint64_t h = 0xcbf29ce484222325u ^ seed; // FNV-1a
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return (fill_rng){h};
}

uint64_t fill_bits(fill_rng *r) // splitmix64
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double fill_uniform(fill_rng *r)
{
    return (double)(fill_bits(r) >> 40) * 0x1p-23 - 1.0;
}

// The ends of float32's exponentials lie at 87 to 89 and 103.3, of tanh at 9, of erf at 3.9; the last lines are ties of the 16-bit
// types and their neighbours, at both ends of the range of f16 and at the far end of bf16.
static const float special[] = {0.0f,
                                -0.0f,
                                1e-40f,
                                -1e-40f,
                                1e-45f,
                                -1e-45f,
                                0x1p-24f,
                                -0x1p-14f,
                                1e-20f,
                                -1e-20f,
                                1e-3f,
                                -1e-3f,
                                0.149f,
                                -0.151f,
                                5,
                                -5,
                                9.5f,
                                -9.5f,
                                20,
                                -20,
                                87,
                                -87,
                                88.5f,
                                -88.5f,
                                -100,
                                -104,
                                120,
                                -120,
                                1e4f,
                                -1e4f,
                                1e12f,
                                -1e12f,
                                1e20f,
                                -1e20f,
                                3e38f,
                                -3e38f,
                                NAN,
                                65504,
                                65519.99f,
                                65520,
                                -65520,
                                0x1p-25f,
                                0x1.000002p-25f,
                                -0x1.8p-24f,
                                0x1.4p-22f,
                                0x1.fep127f,
                                0x1.ff0002p127f,
                                0x1.fefffep127f,
                                -0x1.ffp127f};
enum { N_SPECIAL = sizeof special / sizeof *special };

static double special_at(int64_t i, swd_dtype type)
{
    double x = (double)special[i % N_SPECIAL];
    return isinf(number_round(x, type)) ? copysign(type == SWD_F16 ? 65000 : 3e38, x) : x;
}

// Every fourth float32 is a tie of bf16; every other fourth one of f16, and in its range.
static double any_bits(swd_dtype type, fill_rng *r)
{
    uint64_t bits = fill_bits(r);
    if (type == SWD_F32 && bits >> 62 == 0) bits = (bits & ~UINT64_C(0xffff)) | 0x8000;
    if (type == SWD_F32 && bits >> 62 == 1)
        return ldexp((double)((bits >> 32 & 0x7ff) | 0x400) + 0.5, (int)(bits & 31) - 26) *
               (bits >> 48 & 1 ? -1 : 1);
    return number_load(&bits, type);
}

static double one_value(int64_t i, swd_dtype type, fill kind, fill_rng *r)
{
    double u = fill_uniform(r);
    switch (kind) {
    case FILL_WIDE:
        return 6 * u;
    case FILL_LARGE:
        return 1000 * u;
    case FILL_OFFSET:
        return 1000 + u;
    case FILL_POSITIVE:
        return 0.5 + 0.5 * u;
    case FILL_SCALES:
        return copysign(exp2(12 * fill_uniform(r)), u);
    case FILL_EQUAL:
        return 0.75;
    case FILL_ZERO:
        return 0;
    case FILL_SUBNORMAL:
        return ldexp(u, number_min_exponent(type));
    case FILL_SPECIAL:
        return special_at(i, type);
    case FILL_BITS:
        return any_bits(type, r);
    case FILL_UNIFORM:
    case FILL_CONSTANT_ROWS:
        break;
    }
    return u;
}

void fill_values(float *value, int64_t n, int64_t row, swd_dtype type, fill kind, fill_rng *r)
{
    for (int64_t i = 0; i < n; i++) {
        if (kind == FILL_CONSTANT_ROWS && i % row != 0)
            value[i] = value[i - 1];
        else
            value[i] = (float)number_round(one_value(i, type, kind, r), type);
    }
}
