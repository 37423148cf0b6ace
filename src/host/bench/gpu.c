// SPDX-License-Identifier: MIT
#include "bench/gpu.h"
#include <dlfcn.h>
#include <string.h>

// From NVIDIA's data sheets. Zeros: a card of other peaks whose name holds one that is known.
static const gpu_peak peaks[] = {
    {"A100", 312e12, 2039e9},
    {"A100-SXM4-40GB", 312e12, 1555e9},
    {"A100-PCIE-40GB", 312e12, 1555e9},
    {"A100 80GB PCIe", 312e12, 1935e9},
    {"H100", 989.4e12, 3350e9},
    {"H100 PCIe", 756e12, 2039e9},
    {"H100 NVL", 0, 0},
    {"H200", 989.4e12, 4800e9},
    {"H200 NVL", 0, 0},
    {"L40S", 362e12, 864e9},
    {"RTX A6000", 154.8e12, 768e9},
    {"RTX 6000 Ada", 364.2e12, 960e9},
    {"RTX 3090", 71e12, 936e9},
    {"RTX 3090 Ti", 0, 0},
    {"RTX 4090", 165.2e12, 1008e9},
    {"RTX 4090 D", 0, 0},
    {"RTX 4090 Laptop", 0, 0},
    {"RTX 5090", 209.5e12, 1792e9},
    {"RTX 5090 D", 0, 0},
    {"RTX 5090 Laptop", 0, 0},
    {"B200", 2250e12, 8000e9},
};

const gpu_peak *gpu_peak_of(const char *device)
{
    const gpu_peak *best = NULL;
    for (size_t i = 0; i < sizeof peaks / sizeof *peaks; i++)
        if (strstr(device, peaks[i].name) && (!best || strlen(peaks[i].name) > strlen(best->name)))
            best = &peaks[i];
    return best && best->flop_s > 0 ? best : NULL;
}

// A function's address into the pointer *fn, which ISO C has no cast for.
static bool take(void *fn, void *library, const char *name)
{
    void *symbol = dlsym(library, name);
    memcpy(fn, &symbol, sizeof symbol);
    return symbol != NULL;
}

static void read_facts(bench *b, void *nvml, void *gpu)
{
    enum { CLOCK_SM = 1, CLOCK_MEMORY = 2 };
    static const struct {
        const char *key, *function;
        int clock;
    } clocks[] = {{"gpu_sm_mhz", "nvmlDeviceGetClockInfo", CLOCK_SM},
                  {"gpu_sm_mhz_max", "nvmlDeviceGetMaxClockInfo", CLOCK_SM},
                  {"gpu_memory_mhz", "nvmlDeviceGetClockInfo", CLOCK_MEMORY}};
    int (*clock)(void *, int, unsigned *), (*power)(void *, unsigned *),
        (*version)(char *, unsigned);
    unsigned x = 0;
    char text[96] = "";
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++)
        if (take(&clock, nvml, clocks[i].function) && clock(gpu, clocks[i].clock, &x) == 0)
            bench_fact_number(b, clocks[i].key, x);
    if (take(&power, nvml, "nvmlDeviceGetEnforcedPowerLimit") && power(gpu, &x) == 0)
        bench_fact_number(b, "gpu_power_limit_w", x * 1e-3);
    if (take(&version, nvml, "nvmlSystemGetDriverVersion") && version(text, sizeof text) == 0)
        bench_fact(b, "gpu_driver", text);
}

void gpu_facts(bench *b, int index)
{
    int (*init)(void), (*by_index)(unsigned, void **), (*shutdown)(void);
    void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL), *gpu = NULL;
    if (!nvml) return;
    if (take(&init, nvml, "nvmlInit_v2") && take(&shutdown, nvml, "nvmlShutdown") &&
        take(&by_index, nvml, "nvmlDeviceGetHandleByIndex_v2") && init() == 0) {
        if (by_index((unsigned)index, &gpu) == 0) read_facts(b, nvml, gpu);
        shutdown();
    }
    dlclose(nvml);
}
