// SPDX-License-Identifier: MIT
#include "backend/devices.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICE_DIGITS_MAX = 4 };

static int nth(int place)
{
    int n = backend_cuda_count && place ? backend_cuda_count() : 0;
    return n > 0 ? place % n : 0;
}

/* The K of "cuda:K", that of the place for "cuda"; -1: another name. */
static int cuda_index(const char *device, int place)
{
    if (strncmp(device, "cuda", 4) != 0) return -1;
    const char *k = device + 4;
    if (!*k) return nth(place);
    size_t digits = k[0] == ':' ? strspn(k + 1, "0123456789") : 0;
    return digits >= 1 && digits <= DEVICE_DIGITS_MAX && !k[1 + digits] ? atoi(k + 1) : -1;
}

/* The GPU of the place, or the CPU with the reason in note. Out of memory is no reason: the GPU is there and somebody fills it. */
static swd_status open_auto(swd_backend **out, char note[DEVICE_NOTE_MAX], int threads, int place,
                            swd_err *err)
{
    if (backend_cuda_create) {
        swd_err why = {0};
        swd_status s = backend_cuda_create(out, nth(place), &why);
        if (s == SWD_OK) return SWD_OK;
        if (s != SWD_ERR_DEVICE)
            return SWD_FAIL(err, s, "%s; --device cpu does without a GPU", why.message);
        snprintf(note, DEVICE_NOTE_MAX, "computing on the CPU: %.300s", why.message);
    }
    return backend_cpu_create(out, threads, err);
}

swd_status device_open(swd_backend **out, char note[DEVICE_NOTE_MAX], const char *device,
                       int threads, swd_err *err)
{
    return device_open_for(out, note, device, threads, 0, err);
}

swd_status device_open_for(swd_backend **out, char note[DEVICE_NOTE_MAX], const char *device,
                           int threads, int place, swd_err *err)
{
    *out = NULL;
    note[0] = '\0';
    if (strcmp(device, "auto") == 0) return open_auto(out, note, threads, place, err);
    if (strcmp(device, "cpu") == 0) return backend_cpu_create(out, threads, err);
    int index = cuda_index(device, place);
    if (index < 0)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "device %s is not known; use auto, cpu or cuda[:K]",
                        device);
    if (!backend_cuda_create)
        return SWD_FAIL(err, SWD_ERR_DEVICE,
                        "device %s: this build has no CUDA backend; install NVIDIA's CUDA toolkit "
                        "(nvcc), build with meson's -Dcuda=enabled, or use cpu",
                        device);
    return backend_cuda_create(out, index, err);
}
