/* SPDX-License-Identifier: MIT */
/* What op_*() must refuse, with SWD_ERR_ARGUMENT and a message that begins with its name.
 *
 * By machine: the first case of every family with one operand damaged at a time, in every way (another type, a dimension more or
 * less, an empty one, a longer one, elements or rows apart, absent) and every result over every other operand. All of it is refused but for a list of exceptions, which
 * must be taken. By hand: numbers out of range, weights that do not fit, memory that overlaps. */
#ifndef SWD_TESTS_OPS_REFUSE_H
#define SWD_TESTS_OPS_REFUSE_H
#include "check.h"

int refuse_count(void);
/* "refuse.linear.operands", "refuse.resize_renoise.sigma_next_nan"; id[CASE_ID_MAX] */
void refuse_name(char id[CASE_ID_MAX], int i);
bool refuse_check(char message[CHECK_MESSAGE_MAX], int i, swd_backend *b);
#endif
