/* SPDX-License-Identifier: MIT */
/* What a GPU is and is allowed to: its nominal peaks by name, clocks and power limit from NVIDIA's management library where the driver
 * brings it. */
#ifndef SWD_BENCH_GPU_H
#define SWD_BENCH_GPU_H
#include "bench/harness.h"

typedef struct gpu_peak {
    const char *name;      /* as it stands in the device's name */
    double flop_s, byte_s; /* dense products of bf16 with float32 sums, at boost clock; memory */
} gpu_peak;

/* The longest name of the table that is part of device's; NULL: an unknown card. */
const gpu_peak *gpu_peak_of(const char *device);
/* Driver, clocks and power limit of the GPU of that index among those of NVML, into the machine block; without the library nothing. */
void gpu_facts(bench *b, int index);
#endif
