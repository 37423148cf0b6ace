// SPDX-License-Identifier: MIT
#include "device.h"
#include "backend_cuda.h"
#include "vendor/library.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

const roofline roofline_cards[ROOFLINE_CARDS] = {
    {"RTX 4090", 165.2e12, 1008e9},
    {"RTX 6000 Ada", 364.2e12, 960e9},
    {"H100 SXM", 989.4e12, 3350e9},
};

// FLOP of a multiprocessor in a cycle: dense products of bf16 with float32 sums. GeForce cards do them at half the rate of
// the same chip's professional ones. 0: a generation that is not known here.
static double tensor_flop_per_cycle(int major, int minor, bool geforce)
{
    switch (major * 10 + minor) {
    case 80:
        return 2048;
    case 86:
    case 89:
    case 120:
        return geforce ? 512 : 1024;
    case 90:
        return 4096;
    case 100:
    case 103:
        return 8192;
    default:
        return 0;
    }
}

int device_count(char *why, size_t why_bytes)
{
    int n = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaSuccess && n > 0) return n;
    snprintf(why, why_bytes, "%s", e == cudaSuccess ? "there is none" : cudaGetErrorString(e));
    (void)cudaGetLastError();
    return 0;
}

bool device_alive(void)
{
    (void)cudaGetLastError();
    return cudaDeviceSynchronize() == cudaSuccess;
}

/* ---- NVML, where the driver brings it ---- */

static void nvml_open(device *d)
{
    char bus[32];
    int (*init)(void), (*by_bus)(const char *, void **);
    if (cudaDeviceGetPCIBusId(bus, sizeof bus, d->index) != cudaSuccess) return;
    d->nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!d->nvml) return;
    library_take(&init, d->nvml, "nvmlInit_v2");
    library_take(&by_bus, d->nvml, "nvmlDeviceGetHandleByPciBusId_v2");
    if (!init || !by_bus || init() != 0 || by_bus(bus, &d->nvml_device) != 0) device_close(d);
}

void device_close(device *d)
{
    int (*shutdown)(void);
    if (!d->nvml) return;
    library_take(&shutdown, d->nvml, "nvmlShutdown");
    if (shutdown) shutdown();
    dlclose(d->nvml);
    d->nvml = d->nvml_device = NULL;
}

double device_sm_mhz(const device *d)
{
    enum { NVML_CLOCK_SM = 1 };
    int (*clock_info)(void *, int, unsigned *);
    unsigned mhz = 0;
    if (!d->nvml) return 0;
    library_take(&clock_info, d->nvml, "nvmlDeviceGetClockInfo");
    return clock_info && clock_info(d->nvml_device, NVML_CLOCK_SM, &mhz) == 0 ? mhz : 0;
}

static void report_driver(const device *d, report *r)
{
    char version[96] = "";
    int (*driver_version)(char *, unsigned), (*power)(void *, unsigned *);
    unsigned milliwatts;
    if (!d->nvml) return;
    library_take(&driver_version, d->nvml, "nvmlSystemGetDriverVersion");
    library_take(&power, d->nvml, "nvmlDeviceGetEnforcedPowerLimit");
    if (driver_version && driver_version(version, sizeof version) == 0)
        report_fact(r, "driver", version);
    if (power && power(d->nvml_device, &milliwatts) == 0)
        report_number(r, "power_limit_w", milliwatts / 1e3);
}

/* ---- the runtime ---- */

static int attribute(const device *d, enum cudaDeviceAttr a)
{
    int v = 0;
    if (cudaDeviceGetAttribute(&v, a, d->index) != cudaSuccess) (void)cudaGetLastError();
    return v;
}

swd_status device_open(device *d, int index, swd_err *err)
{
    struct cudaDeviceProp prop;
    SWD_CUDA(cudaGetDeviceProperties(&prop, index), err);
    *d = (device){.index = index,
                  .major = prop.major,
                  .minor = prop.minor,
                  .sm_count = prop.multiProcessorCount,
                  .memory_bytes = prop.totalGlobalMem};
    snprintf(d->name, sizeof d->name, "%.90s", prop.name);
    d->l2_bytes = (size_t)attribute(d, cudaDevAttrL2CacheSize);
    double mhz = attribute(d, cudaDevAttrClockRate) / 1e3;
    double memory_mhz = attribute(d, cudaDevAttrMemoryClockRate) / 1e3;
    double bits = attribute(d, cudaDevAttrGlobalMemoryBusWidth);
    d->peak = (roofline){
        .name = d->name,
        .flop_s = tensor_flop_per_cycle(d->major, d->minor, strstr(d->name, "GeForce") != NULL) *
                  d->sm_count * mhz * 1e6,
        .byte_s = 2 * memory_mhz * 1e6 * bits / 8}; // two transfers a cycle
    nvml_open(d);
    return SWD_OK;
}

void device_report(const device *d, report *r)
{
    char capability[16];
    int driver = 0, runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    snprintf(capability, sizeof capability, "%d.%d", d->major, d->minor);
    report_fact(r, "device", d->name);
    report_fact(r, "compute_capability", capability);
    report_driver(d, r);
    report_number(r, "cuda_driver", driver);
    report_number(r, "cuda_runtime", runtime);
    report_number(r, "sm_count", d->sm_count);
    report_number(r, "sm_clock_max_mhz", attribute(d, cudaDevAttrClockRate) / 1e3);
    report_number(r, "memory_clock_mhz", attribute(d, cudaDevAttrMemoryClockRate) / 1e3);
    report_number(r, "memory_bus_bits", attribute(d, cudaDevAttrGlobalMemoryBusWidth));
    report_number(r, "memory_bytes", (double)d->memory_bytes);
    report_number(r, "l2_bytes", (double)d->l2_bytes);
    report_number(r, "ecc", attribute(d, cudaDevAttrEccEnabled));
    report_number(r, "peak_gflop_s", d->peak.flop_s * 1e-9);
    report_number(r, "peak_gbyte_s", d->peak.byte_s * 1e-9);
}
