// SPDX-License-Identifier: MIT
#include "pipeline/bundled.h"
#include "base/memory.h"
#include <dlfcn.h>
#include <string.h>

/* The build says where things are installed (SWD_DATADIR, absolute), how to get there from the folder of the library (SWD_DATA_FROM_LIB,
 * "" if it does not move with it), and where the bundle is in the source tree (SWD_SOURCE_WEIGHTS). */

/* *out becomes the real path of root/below if a model is there. */
static swd_status take_if_model(char **out, const char *root, const char *below, swd_err *err)
{
    char *dir = NULL, *index = NULL;
    swd_status s = swd_asprintf(&dir, err, "%s/%s", root, below);
    if (s == SWD_OK) s = swd_asprintf(&index, err, "%s/model_index.json", dir);
    if (s == SWD_OK && path_exists(index)) *out = realpath(dir, NULL);
    free(dir);
    free(index);
    return s;
}

/* Beside the library that this code is part of, wherever its prefix was moved to. */
static swd_status take_beside_library(char **out, swd_err *err)
{
    Dl_info info;
    if (!SWD_DATA_FROM_LIB[0] || !dladdr((void *)(uintptr_t)bundled_model, &info)) return SWD_OK;
    char *lib = realpath(info.dli_fname, NULL), *slash = lib ? strrchr(lib, '/') : NULL;
    swd_status s = SWD_OK;
    if (slash) {
        *slash = '\0';
        s = take_if_model(out, lib, SWD_DATA_FROM_LIB "/swd/weights/emoji", err);
    }
    free(lib);
    return s;
}

swd_status bundled_model(char **out, swd_err *err)
{
    *out = NULL;
    SWD_TRY(take_beside_library(out, err), err);
    if (!*out) SWD_TRY(take_if_model(out, SWD_SOURCE_WEIGHTS, "", err), err);
    if (!*out) SWD_TRY(take_if_model(out, SWD_DATADIR, "swd/weights/emoji", err), err);
    if (!*out)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "the bundled model is neither beside the library nor in " SWD_DATADIR
                        "/swd nor in " SWD_SOURCE_WEIGHTS "; name a model folder (-m DIR)");
    return SWD_OK;
}
