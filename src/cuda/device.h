/* SPDX-License-Identifier: MIT */
/* Which device, and what is known of it. */
#ifndef SWD_CUDA_DEVICE_H
#define SWD_CUDA_DEVICE_H
#include "base/status.h"

typedef struct cuda_device {
    int index, major, minor; /* compute capability */
    int sm_count;
    int clock_mhz, memory_clock_mhz; /* the highest */
    size_t bytes_total;
    int driver; /* the newest CUDA that the driver knows: 13000 is 13.0 */
    char name[64];
} cuda_device;

/* How many there are; 0 also where there is no driver. Host code finds it through backend/devices.h. */
int backend_cuda_count(void);
/* Makes device `index` the calling thread's. SWD_ERR_DEVICE, saying what is wrong and what to do, where there is no driver, a too old
 * one, no such device, or one below compute capability 8.0. */
swd_status cuda_device_open(cuda_device *out, int index, swd_err *err);
/* In words: "NVIDIA H100 80GB HBM3, sm_90, 132 SMs, ...". */
void cuda_device_describe(const cuda_device *d, char *buf, size_t n);
#endif
