/* SPDX-License-Identifier: MIT */
/* One op case on one backend:
 *
 *   1. dry, with tensors that have no memory: how large a slab it asks for;
 *   2. in a slab of exactly that size, full of NaNs: every element where its oracle says, no byte outside of the results changed
 *      (guard bands, gaps between rows, inputs, what lies behind the slab);
 *   3. once more from the same inputs, in a slab of zeros: the same bytes;
 *   4. packed weights give their memory back. */
#ifndef SWD_TESTS_OPS_CHECK_H
#define SWD_TESTS_OPS_CHECK_H
#include "case.h"

enum { CHECK_MESSAGE_MAX = 1400 };

/* False: message says what is wrong first. once: without step 3. */
bool check_case(char message[CHECK_MESSAGE_MAX], const case_walk *w, swd_backend *b, uint64_t seed,
                bool once);
#endif
