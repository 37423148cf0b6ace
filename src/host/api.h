/* SPDX-License-Identifier: MIT */
/* api.c defines what swd/swd.h declares. */
#ifndef SWD_API_H
#define SWD_API_H
#include <swd/swd.h>
#endif
