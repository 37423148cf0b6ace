/* SPDX-License-Identifier: MIT */
/* Files and folders that are there, whole, after the power fails: written under another name, synced, renamed, the folder synced. */
#ifndef SWD_TRAIN_DURABLE_H
#define SWD_TRAIN_DURABLE_H
#include "base/status.h"

/* Syncs a file or folder. */
swd_status durable_sync(const char *path, swd_err *err);
/* from is synced already; takes the place of a file (not a folder) of that name. */
swd_status durable_rename(const char *from, const char *to, swd_err *err);
/* Deletes a file, or a folder and all in it (links are not followed). One that is not there is fine. */
swd_status durable_remove(const char *path, swd_err *err);
#endif
