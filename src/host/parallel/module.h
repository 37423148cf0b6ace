/* SPDX-License-Identifier: MIT */
/* Finding the module of src/mpi at run time: src/mpi/swd_mpi.so of a build, or swd/swd_mpi.so beside an installed library. */
#ifndef SWD_PARALLEL_MODULE_H
#define SWD_PARALLEL_MODULE_H
#include "base/status.h"
#include <stdbool.h>

struct mpi_table;

/* mpirun has started this process, and others with it; SWD_PARALLEL=off denies it. */
bool module_wanted(void);
/* file NULL: where it is installed. It stays loaded. */
swd_status module_load(const struct mpi_table **out, const char *file, swd_err *err);
#endif
