/* SPDX-License-Identifier: MIT */
/* What swd/parallel.h declares. */
#ifndef SWD_API_PARALLEL_H
#define SWD_API_PARALLEL_H
#include <swd/parallel.h>
#endif
