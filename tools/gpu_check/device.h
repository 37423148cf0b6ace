/* SPDX-License-Identifier: MIT */
/* The card: what the runtime and the driver say of it, and the peaks of its roofline that follow. */
#ifndef SWD_TOOLS_GPU_CHECK_DEVICE_H
#define SWD_TOOLS_GPU_CHECK_DEVICE_H
#include "report.h"
#include <stddef.h>

/* Work at the limits of a card. Both are what its clocks and units allow, not what a program can reach. */
typedef struct roofline {
    const char *name;
    double flop_s; /* tensor cores, bf16 or fp16 products with float32 sums, dense */
    double byte_s; /* device memory */
} roofline;

/* Seconds that work takes at least, by the nearer of both peaks. */
static inline double roofline_s(const roofline *p, double flop, double bytes)
{
    double f = flop / p->flop_s, b = bytes / p->byte_s;
    return f > b ? f : b;
}

/* Cards of docs/kernels.md, by their data sheets. */
extern const roofline roofline_cards[];
enum { ROOFLINE_CARDS = 3 };

typedef struct device {
    int index;
    char name[96];
    int major, minor, sm_count;
    size_t memory_bytes, l2_bytes;
    roofline peak; /* byte_s or flop_s 0: not known */
    void *nvml, *nvml_device;
} device;

/* How many devices there are; 0 with a reason where none can be used. */
int device_count(char *why, size_t why_bytes);
swd_status device_open(device *d, int index, swd_err *err);
void device_close(device *d);
void device_report(const device *d, report *r);
/* Clock of the multiprocessors now, in MHz; 0 where the driver's library (NVML) does not say. */
double device_sm_mhz(const device *d);
/* Whether the device still answers: an illegal access takes it away until the process ends. */
bool device_alive(void);
#endif
