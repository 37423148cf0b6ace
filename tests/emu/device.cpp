// SPDX-License-Identifier: MIT
// The emulated device: one, of compute capability 8.6 in its limits, so that what runs here fits every card from sm_80 on.
#include "emu/control.h"
#include "engine.h"
#include "runtime.h"
#include <stdio.h>
#include <string.h>
#include <algorithm>

namespace emu
{
enum {
    SMEM_SM = 100 << 10,
    SMEM_RESERVED = 1 << 10,
    SM_COUNT = 4,
    SM_THREADS = 1536,
    SM_BLOCKS = 16,
    CAPABILITY_MAJOR = 8,
    CAPABILITY_MINOR = 6,
    CLOCK_KHZ = 1000000
};

static thread_local cudaError_t last = cudaSuccess;
static cudaError_t stays = cudaSuccess;
static int driver = CUDART_VERSION;
static int calls, fail_call; // emu_calls, emu_fail_call
static const char *failed_call = "";
static std::map<const void *, size_t> &smem_of = *new std::map<const void *, size_t>; // granted
static thread_local const char *next_name;

cudaError_t ret(cudaError_t e)
{
    if (e != cudaSuccess) last = e;
    return e;
}

cudaError_t lasting()
{
    if (operation_runs()) fail("a call of the runtime from within an operation of a stream");
    return stays;
}

void failed(const char *call)
{
    failed_call = call;
}

cudaError_t broken(const char *call)
{
    if (cudaError_t e = lasting()) return e;
    calls++;
    if (fail_call <= 0 || --fail_call > 0) return cudaSuccess;
    failed(call);
    return cudaErrorUnknown;
}

// The kernel's name: the text of launch()'s arguments up to the first comma that is in no bracket.
static std::shared_ptr<std::string> take_name()
{
    const char *text = next_name ? next_name : "a kernel";
    next_name = nullptr;
    int depth = 0;
    size_t n = 0;
    for (; text[n] && (depth > 0 || text[n] != ','); n++)
        depth += (text[n] == '<' || text[n] == '(') - (text[n] == '>' || text[n] == ')');
    return std::make_shared<std::string>(text, n);
}

void name_next_kernel(const char *launch_arguments)
{
    next_name = launch_arguments;
}

cudaError_t submit_kernel(const cudaLaunchConfig_t *c, const void *kernel, Body body)
{
    Lock lock(runtime_lock);
    auto name = take_name();
    if (cudaError_t e = broken()) return ret(e);
    dim3 grid = c->gridDim, block = c->blockDim;
    size_t smem = c->dynamicSmemBytes;
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535 ||
        !block.x || !block.y || !block.z || block.x > BLOCK_MAX || block.y > BLOCK_MAX ||
        block.z > 64 || static_cast<uint64_t>(block.x) * block.y * block.z > BLOCK_MAX)
        return ret(cudaErrorInvalidConfiguration);
    auto granted = smem_of.find(kernel);
    bool more = granted != smem_of.end();
    if (smem > (more ? granted->second : SMEM_DEFAULT)) return ret(cudaErrorInvalidValue);
    return ret(enqueue(
        c->stream,
        [=] {
            run_grid(Launch{grid, block, smem, more, name->c_str(), &body});
        },
        kernel));
}
} // namespace emu

using namespace emu;

extern "C" {
void emu_break_device(cudaError_t e)
{
    Lock lock(runtime_lock);
    stays = e;
}

int emu_calls(void)
{
    Lock lock(runtime_lock);
    return calls;
}

void emu_fail_call(int n)
{
    Lock lock(runtime_lock);
    fail_call = n;
    failed("");
}

const char *emu_failed(void)
{
    Lock lock(runtime_lock);
    return failed_call;
}

void emu_set_driver(int version)
{
    Lock lock(runtime_lock);
    driver = version;
    stays = version < CUDART_VERSION ? cudaErrorInsufficientDriver : cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = stays ? stays : last;
    last = cudaSuccess;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    return stays ? stays : last;
}

const char *cudaGetErrorName(cudaError_t e)
{
#define NAME(e)                                                                                    \
    case e:                                                                                        \
        return #e;
    switch (e) {
        NAME(cudaSuccess)
        NAME(cudaErrorInvalidValue)
        NAME(cudaErrorMemoryAllocation)
        NAME(cudaErrorInvalidPitchValue)
        NAME(cudaErrorInvalidConfiguration)
        NAME(cudaErrorInvalidDevice)
        NAME(cudaErrorInvalidResourceHandle)
        NAME(cudaErrorNotReady)
        NAME(cudaErrorNoDevice)
        NAME(cudaErrorInsufficientDriver)
        NAME(cudaErrorUnknown)
        NAME(cudaErrorNotSupported)
        NAME(cudaErrorIllegalAddress)
        NAME(cudaErrorIllegalState)
        NAME(cudaErrorLaunchFailure)
        NAME(cudaErrorECCUncorrectable)
        NAME(cudaErrorStreamCaptureUnsupported)
        NAME(cudaErrorStreamCaptureInvalidated)
        NAME(cudaErrorStreamCaptureMerge)
        NAME(cudaErrorStreamCaptureUnmatched)
        NAME(cudaErrorStreamCaptureUnjoined)
        NAME(cudaErrorStreamCaptureIsolation)
        NAME(cudaErrorCapturedEvent)
        NAME(cudaErrorGraphExecUpdateFailure)
    default:
        return "an error that the emulator does not give";
    }
#undef NAME
}

const char *cudaGetErrorString(cudaError_t e)
{
    static thread_local char text[80];
    snprintf(text, sizeof text, "%s (%d)", cudaGetErrorName(e), static_cast<int>(e));
    return text;
}

// ---- the device ----

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return ret(broken());
}

cudaError_t cudaSetDevice(int device)
{
    return ret(device == 0 ? broken() : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return ret(broken());
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = driver;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return ret(broken());
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int, int)
{
    *can = 0;
    return ret(broken());
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = *greatest = 0;
    return ret(broken());
}

cudaError_t cudaDeviceGetPCIBusId(char *bus, int n, int device)
{
    if (device != 0) return ret(cudaErrorInvalidDevice);
    snprintf(bus, static_cast<size_t>(n), "0000:00:00.0");
    return ret(broken());
}

cudaError_t cudaDeviceGetAttribute(int *v, cudaDeviceAttr a, int device)
{
    if (device != 0) return ret(cudaErrorInvalidDevice);
    switch (a) {
    case cudaDevAttrComputeCapabilityMajor:
        *v = CAPABILITY_MAJOR;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *v = CAPABILITY_MINOR;
        break;
    case cudaDevAttrMultiProcessorCount:
        *v = SM_COUNT;
        break;
    case cudaDevAttrMaxThreadsPerBlock:
        *v = BLOCK_MAX;
        break;
    case cudaDevAttrWarpSize:
        *v = WARP_LANES;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *v = static_cast<int>(SMEM_DEFAULT);
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *v = static_cast<int>(SMEM_OPTIN);
        break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *v = SMEM_SM;
        break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
        *v = SMEM_RESERVED;
        break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *v = SM_THREADS;
        break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
        *v = SM_BLOCKS;
        break;
    case cudaDevAttrClockRate:
    case cudaDevAttrMemoryClockRate:
        *v = CLOCK_KHZ;
        break;
    case cudaDevAttrMemoryPoolsSupported:
    case cudaDevAttrUnifiedAddressing:
        *v = 1;
        break;
    case cudaDevAttrL2CacheSize:
        *v = 4 << 20;
        break;
    case cudaDevAttrGlobalMemoryBusWidth:
        *v = 64;
        break;
    case cudaDevAttrEccEnabled:
        *v = 0;
        break;
    default:
        fail("cudaDeviceGetAttribute(%d): not known to the emulator", static_cast<int>(a));
    }
    return ret(broken());
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    if (device != 0) return ret(cudaErrorInvalidDevice);
    size_t free_bytes;
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated device");
    cudaMemGetInfo(&free_bytes, &p->totalGlobalMem);
    p->major = CAPABILITY_MAJOR;
    p->minor = CAPABILITY_MINOR;
    p->multiProcessorCount = SM_COUNT;
    p->sharedMemPerBlock = SMEM_DEFAULT;
    p->sharedMemPerBlockOptin = SMEM_OPTIN;
    p->sharedMemPerMultiprocessor = SMEM_SM;
    p->reservedSharedMemPerBlock = SMEM_RESERVED;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = WARP_LANES;
    p->maxThreadsPerBlock = BLOCK_MAX;
    p->maxThreadsPerMultiProcessor = SM_THREADS;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = BLOCK_MAX;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->unifiedAddressing = 1;
    return ret(broken());
}

// ---- kernels ----

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute a, int v)
{
    Lock lock(runtime_lock);
    if (a == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (v < 0 || static_cast<size_t>(v) > SMEM_OPTIN) return ret(cudaErrorInvalidValue);
        smem_of[kernel] = std::max(static_cast<size_t>(v), SMEM_DEFAULT);
    }
    return ret(broken());
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int threads,
                                                          size_t smem)
{
    if (threads < 1 || threads > BLOCK_MAX || smem > SMEM_OPTIN) return ret(cudaErrorInvalidValue);
    int by_threads = SM_THREADS / threads;
    int by_smem = static_cast<int>(SMEM_SM / (smem + SMEM_RESERVED));
    *blocks = by_threads < by_smem ? by_threads : by_smem;
    if (*blocks > SM_BLOCKS) *blocks = SM_BLOCKS;
    return ret(broken());
}
}
