// SPDX-License-Identifier: MIT
#include "parallel/module.h"
#include "base/memory.h"
#include "parallel/mpi_table.h"
#include <dlfcn.h>
#include <string.h>

bool module_wanted(void)
{
    // Of Open MPI, of MPICH and those made of it, of PMIx's own launchers, which give no size. What a process of a group starts inherits them.
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"};
    const char *asked = getenv("SWD_PARALLEL");
    if (asked && strcmp(asked, "off") == 0) return false;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (getenv(sizes[i])) return strcmp(getenv(sizes[i]), "1") != 0;
    return getenv("PMIX_RANK") != NULL;
}

// Beside the library that this code is part of.
static swd_status find(char **out, swd_err *err)
{
    static const char *const below[] = {"swd/swd_mpi.so", "mpi/swd_mpi.so"};
    Dl_info info;
    *out = NULL;
    char *lib =
        dladdr((void *)(uintptr_t)module_wanted, &info) ? realpath(info.dli_fname, NULL) : NULL;
    char *slash = lib ? strrchr(lib, '/') : NULL;
    swd_status s = SWD_OK;
    if (slash) *slash = '\0';
    for (size_t i = 0; slash && s == SWD_OK && i < sizeof below / sizeof *below; i++) {
        s = path_join(out, lib, below[i], err);
        if (s == SWD_OK && path_exists(*out)) break;
        free(*out);
        *out = NULL;
    }
    free(lib);
    if (s == SWD_OK && !*out)
        s = SWD_FAIL(
            err, SWD_ERR_UNSUPPORTED,
            "mpirun has started this, but the build has no module for MPI (swd_mpi.so); build "
            "with meson's -Dmpi=enabled, or start it without mpirun");
    return s;
}

// Global: Open MPI's own plug-ins look for its names among all.
static swd_status load(const mpi_table **out, const char *file, swd_err *err)
{
    void *library = dlopen(file, RTLD_NOW | RTLD_GLOBAL);
    if (!library) return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "MPI cannot be loaded: %s", dlerror());
    *out = dlsym(library, MPI_TABLE_SYMBOL);
    if (*out && (*out)->version == MPI_TABLE_VERSION) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s belongs to another version of swd", file);
}

swd_status module_load(const mpi_table **out, const char *file, swd_err *err)
{
    char *found = NULL;
    if (!file) SWD_TRY(find(&found, err), err);
    swd_status s = load(out, file ? file : found, err);
    free(found);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}
