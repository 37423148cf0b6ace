/* SPDX-License-Identifier: MIT */
/* From the name of a device to its backend. */
#ifndef SWD_BACKEND_DEVICES_H
#define SWD_BACKEND_DEVICES_H
#include "backend/backend.h"

enum { DEVICE_NOTE_MAX = 384 };

/* device: "cpu", "cuda" (the first), "cuda:K", or "auto": the first GPU, where the CUDA backend is there and finds one that it can
 * use, else the CPU. note: what auto passed over and why, "" if nothing. threads: of the CPU, as in backend_cpu_create. A name that is
 * none of these is SWD_ERR_ARGUMENT; a device that is not there SWD_ERR_DEVICE, saying which are. */
swd_status device_open(swd_backend **out, char note[DEVICE_NOTE_MAX], const char *device,
                       int threads, swd_err *err);
/* The same for one of several processes on a machine: of GPUs that have no number yet it takes number `place`, beyond the last from the
 * first on. */
swd_status device_open_for(swd_backend **out, char note[DEVICE_NOTE_MAX], const char *device,
                           int threads, int place, swd_err *err);

/* src/cuda. Weak: NULL in a program that is linked without the CUDA backend. */
swd_status backend_cuda_create(swd_backend **out, int device, swd_err *err) __attribute__((weak));
int backend_cuda_count(void) __attribute__((weak)); /* GPUs that there are, usable or not */
#endif
