/* SPDX-License-Identifier: MIT */
/* The one status enum of the library; swd.h includes it. */
#ifndef SWD_STATUS_H
#define SWD_STATUS_H
#ifdef __cplusplus
extern "C" {
#endif

typedef enum swd_status {
    SWD_OK = 0,
    SWD_ERR_ARGUMENT =
        1, /* the call is wrong: a value out of range, a NULL, two options that exclude each other */
    SWD_ERR_FILE = 2,        /* a file is missing, unreadable, malformed or contradicts another */
    SWD_ERR_MEMORY = 3,      /* out of host or device memory */
    SWD_ERR_DEVICE = 4,      /* no such device, or a driver or vendor library failed */
    SWD_ERR_UNSUPPORTED = 5, /* understood, but not something this build or this model can do */
    SWD_ERR_CANCELLED = 6    /* the progress callback asked to stop */
} swd_status;

#ifdef __cplusplus
}
#endif
#endif
