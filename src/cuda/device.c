// SPDX-License-Identifier: MIT
#include "device.h"
#include "backend_cuda.h"
#include <stdio.h>

enum { CAPABILITY_MIN = 8 };

// Why there is no device at all. The runtime has one error for a driver that is not there and for one that is too old.
static swd_status no_device(cudaError_t e, int driver, swd_err *err)
{
    (void)cudaGetLastError(); // it must not meet the next call
    if (e == cudaErrorInsufficientDriver && driver > 0)
        return SWD_FAIL(err, SWD_ERR_DEVICE,
                        "the NVIDIA driver knows CUDA up to %d.%d, this build needs %d.%d; update "
                        "the driver",
                        driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                        CUDART_VERSION % 1000 / 10);
    if (e == cudaErrorInsufficientDriver)
        return SWD_FAIL(err, SWD_ERR_DEVICE,
                        "no NVIDIA driver is installed (libcuda.so.1), which CUDA needs");
    return SWD_FAIL(err, SWD_ERR_DEVICE,
                    "the NVIDIA driver finds no GPU; does nvidia-smi list one, and does "
                    "CUDA_VISIBLE_DEVICES hide it?");
}

static swd_status read_properties(cuda_device *d, swd_err *err)
{
    struct cudaDeviceProp p;
    int clock_khz, memory_khz;
    SWD_CUDA(cudaGetDeviceProperties(&p, d->index), err);
    SWD_CUDA(cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, d->index), err);
    SWD_CUDA(cudaDeviceGetAttribute(&memory_khz, cudaDevAttrMemoryClockRate, d->index), err);
    snprintf(d->name, sizeof d->name, "%.63s", p.name);
    d->major = p.major;
    d->minor = p.minor;
    d->sm_count = p.multiProcessorCount;
    d->bytes_total = p.totalGlobalMem;
    d->clock_mhz = clock_khz / 1000;
    d->memory_clock_mhz = memory_khz / 1000;
    if (p.major >= CAPABILITY_MIN) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_DEVICE,
                    "device cuda:%d, %s, has compute capability %d.%d; %d.0 (Ampere) or newer is "
                    "needed",
                    d->index, d->name, p.major, p.minor, CAPABILITY_MIN);
}

int backend_cuda_count(void)
{
    int n = 0;
    return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

swd_status cuda_device_open(cuda_device *out, int index, swd_err *err)
{
    *out = (cuda_device){.index = index};
    int n = 0;
    (void)cudaDriverGetVersion(&out->driver); // 0 where there is none
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e == cudaErrorInsufficientDriver || e == cudaErrorNoDevice || (e == cudaSuccess && n == 0))
        return no_device(e, out->driver, err);
    SWD_CUDA(e, err);
    if (n == 1 && index != 0)
        return SWD_FAIL(err, SWD_ERR_DEVICE, "device cuda:%d is not there; the only one is cuda:0",
                        index);
    if (index < 0 || index >= n)
        return SWD_FAIL(err, SWD_ERR_DEVICE,
                        "device cuda:%d is not there; there are %d, cuda:0 to cuda:%d", index, n,
                        n - 1);
    SWD_CUDA(cudaSetDevice(index), err);
    return read_properties(out, err);
}

void cuda_device_describe(const cuda_device *d, char *buf, size_t n)
{
    snprintf(buf, n,
             "%s, sm_%d%d, %d SMs, up to %d MHz, %zu MiB, memory %d MHz, driver for CUDA %d.%d",
             d->name, d->major, d->minor, d->sm_count, d->clock_mhz, d->bytes_total >> 20,
             d->memory_clock_mhz, d->driver / 1000, d->driver % 1000 / 10);
}
