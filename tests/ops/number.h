/* SPDX-License-Identifier: MIT */
/* Storage types as sets of numbers: rounding a double to the nearest member (ties to even), bytes to and from it. Written apart
 * from tensor.c, whose conversions the ops use. */
#ifndef SWD_TESTS_OPS_NUMBER_H
#define SWD_TESTS_OPS_NUMBER_H
#include "tensor/tensor.h"

/* Beyond the largest number: infinity, as IEEE 754 rounds; U8 ends at 0 and 255. NaN stays NaN. */
double number_round(double x, swd_dtype type);
double number_load(const void *p, swd_dtype type);
/* Rounds first. */
void number_store(void *p, double x, swd_dtype type);
/* Exponent of the smallest normal number; largest relative error of rounding a normal one. */
int number_min_exponent(swd_dtype type);
double number_unit(swd_dtype type);
/* Equal and of one sign where they are zero; two NaNs are the same. */
bool number_same(double a, double b);
#endif
