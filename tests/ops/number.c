// SPDX-License-Identifier: MIT
// x = m 2^(e - p + 1) with p digits: rounding is rint() of m, with e no smaller than that of the smallest normal number.
#include "number.h"
#include <float.h>
#include <math.h>
#include <string.h>

static const struct {
    int digits, min_exponent, exponent_bits;
    double max;
} formats[SWD_N_DTYPES] = {
    [SWD_F32] = {24, -126, 8, FLT_MAX},
    [SWD_BF16] = {8, -126, 8, 0x1.fep127},
    [SWD_F16] = {11, -14, 5, 65504},
};

int number_min_exponent(swd_dtype type)
{
    return formats[type].min_exponent;
}

double number_unit(swd_dtype type)
{
    return ldexp(1, -formats[type].digits);
}

double number_round(double x, swd_dtype type)
{
    if (type == SWD_U8) return x >= 255 ? 255 : x <= 0 ? 0 : rint(x);
    if (type == SWD_I32 || !isfinite(x) || x == 0) return rint(x);
    int p = formats[type].digits, e = ilogb(x);
    if (e < formats[type].min_exponent) e = formats[type].min_exponent;
    double r = ldexp(rint(ldexp(x, p - 1 - e)), e - p + 1);
    return fabs(r) > formats[type].max ? copysign(INFINITY, x) : r;
}

// The 16-bit formats: sign, exponent, fraction, from the value alone.
static uint16_t half_bits(double x, swd_dtype type)
{
    int fraction_bits = formats[type].digits - 1, min = formats[type].min_exponent;
    unsigned infinity = ((1u << formats[type].exponent_bits) - 1) << fraction_bits,
             sign = signbit(x) ? 0x8000 : 0;
    if (isnan(x)) return (uint16_t)(sign | infinity | 1u << (fraction_bits - 1));
    if (isinf(x)) return (uint16_t)(sign | infinity);
    if (x == 0) return (uint16_t)sign;
    int e = ilogb(x);
    if (e < min) return (uint16_t)(sign | (unsigned)ldexp(fabs(x), fraction_bits - min));
    unsigned fraction = (unsigned)ldexp(fabs(x), fraction_bits - e) - (1u << fraction_bits);
    return (uint16_t)(sign | (unsigned)(e - min + 1) << fraction_bits | fraction);
}

static double half_value(uint16_t bits, swd_dtype type)
{
    int fraction_bits = formats[type].digits - 1, min = formats[type].min_exponent;
    unsigned fraction = bits & ((1u << fraction_bits) - 1),
             exponent = (bits & 0x7fffu) >> fraction_bits,
             last = (1u << formats[type].exponent_bits) - 1;
    double x;
    if (exponent == last)
        x = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        x = ldexp(fraction, min - fraction_bits);
    else
        x = ldexp(fraction + (1u << fraction_bits), (int)exponent - 1 + min - fraction_bits);
    return bits & 0x8000 ? -x : x;
}

double number_load(const void *p, swd_dtype type)
{
    float f;
    int32_t i;
    uint16_t h;
    switch (type) {
    case SWD_F32:
        memcpy(&f, p, sizeof f);
        return (double)f;
    case SWD_I32:
        memcpy(&i, p, sizeof i);
        return i;
    case SWD_U8:
        return *(const uint8_t *)p;
    default:
        memcpy(&h, p, sizeof h);
        return half_value(h, type);
    }
}

void number_store(void *p, double x, swd_dtype type)
{
    double r = number_round(x, type);
    float f = (float)r;
    int32_t i;
    uint16_t h;
    switch (type) {
    case SWD_F32:
        memcpy(p, &f, sizeof f);
        break;
    case SWD_I32:
        i = (int32_t)r;
        memcpy(p, &i, sizeof i);
        break;
    case SWD_U8:
        *(uint8_t *)p = (uint8_t)r;
        break;
    default:
        h = half_bits(r, type);
        memcpy(p, &h, sizeof h);
    }
}

bool number_same(double a, double b)
{
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    return a == b && signbit(a) == signbit(b);
}
