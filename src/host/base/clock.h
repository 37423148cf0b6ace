/* SPDX-License-Identifier: MIT */
/* Monotonic time. */
#ifndef SWD_BASE_CLOCK_H
#define SWD_BASE_CLOCK_H

double clock_now_s(void);     /* seconds since some moment in the past; never goes back */
double clock_cpu_now_s(void); /* processor seconds of the whole process */
#endif
