/* SPDX-License-Identifier: MIT */
/* One op case in reverse on one backend: gradients by the tape beside differences of the case's oracle, for some elements of every operand
 * that can learn. */
#ifndef SWD_TESTS_OPS_GRADIENTS_H
#define SWD_TESTS_OPS_GRADIENTS_H
#include "check.h"

/* Whether the case has gradients that differences can find: a small one, smooth, of one storage type. */
bool gradient_wanted(const case_walk *w);
/* False: message says what is wrong first. */
bool gradient_check(char message[CHECK_MESSAGE_MAX], const case_walk *w, swd_backend *b);
#endif
