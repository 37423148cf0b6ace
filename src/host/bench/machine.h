/* SPDX-License-Identifier: MIT */
/* What a measurement has to name: processor, threads, instruction sets, library versions, compiler, revision. */
#ifndef SWD_BENCH_MACHINE_H
#define SWD_BENCH_MACHINE_H
#include <jansson.h>
#include <stddef.h>

/* An object; the caller owns it. NULL: out of memory. */
json_t *machine_describe(int threads);
int machine_threads(void);             /* that this process may use */
size_t machine_last_cache_bytes(void); /* 64 MB where the system does not say */
double machine_load(void); /* running processes over the last minute; negative: not known */
/* Most memory that a running process (0: this one) had resident since its start or its last reset, in bytes; 0: not known.
 * (wait4's maximum would count what the parent had at the fork.) */
double machine_peak_bytes(long pid);
void machine_peak_reset(void); /* of this process */
#endif
