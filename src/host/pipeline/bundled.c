// SPDX-License-Identifier: MIT
#include "pipeline/bundled.h"
#include "base/memory.h"
#include <dlfcn.h>
#include <string.h>

/* The build says where things are installed (SWD_DATADIR, absolute), how to get there from the folder of the library (SWD_DATA_FROM_LIB,
 * "" if it does not move with it), and where the bundles are in the source tree (SWD_SOURCE_WEIGHTS). */

/* A folder of weights/, and a file that tells it is there. */
typedef struct bundle {
    const char *name, *file;
} bundle;

/* *out becomes the real path of root/below/name if the bundle is there. */
static swd_status take_if_there(char **out, const char *root, const char *below, bundle b,
                                swd_err *err)
{
    char *dir = NULL, *file = NULL;
    swd_status s = swd_asprintf(&dir, err, "%s%s/%s", root, below, b.name);
    if (s == SWD_OK) s = path_join(&file, dir, b.file, err);
    if (s == SWD_OK && path_exists(file)) *out = realpath(dir, NULL);
    free(dir);
    free(file);
    return s;
}

/* Beside the library that this code is part of, wherever its prefix was moved to. */
static swd_status take_beside_library(char **out, bundle b, swd_err *err)
{
    Dl_info info;
    if (!SWD_DATA_FROM_LIB[0] || !dladdr((void *)(uintptr_t)bundled_model, &info)) return SWD_OK;
    char *lib = realpath(info.dli_fname, NULL), *slash = lib ? strrchr(lib, '/') : NULL;
    swd_status s = SWD_OK;
    if (slash) {
        *slash = '\0';
        s = take_if_there(out, lib, "/" SWD_DATA_FROM_LIB "/swd/weights", b, err);
    }
    free(lib);
    return s;
}

static swd_status find(char **out, bundle b, const char *what, const char *hint, swd_err *err)
{
    *out = NULL;
    SWD_TRY(take_beside_library(out, b, err), err);
    if (!*out) SWD_TRY(take_if_there(out, SWD_SOURCE_WEIGHTS, "", b, err), err);
    if (!*out) SWD_TRY(take_if_there(out, SWD_DATADIR, "/swd/weights", b, err), err);
    if (!*out)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s is neither beside the library nor in " SWD_DATADIR
                        "/swd nor in " SWD_SOURCE_WEIGHTS "; %s",
                        what, hint);
    return SWD_OK;
}

swd_status bundled_model(char **out, swd_err *err)
{
    return find(out, (bundle){"emoji", "model_index.json"}, "the bundled model",
                "name a model folder (-m DIR)", err);
}

swd_status bundled_student(char **out, swd_err *err)
{
    return find(out, (bundle){"emoji-student", "adapter_config.json"},
                "the adapter of the bundled model", "use the model without", err);
}

swd_status bundled_features(char **out, swd_err *err)
{
    return find(out, (bundle){"emoji-clip", "config.json"}, "the bundled CLIP",
                "name a CLIP folder (--features DIR)", err);
}

swd_status bundled_tell(char *buf, size_t n, swd_status (*find_one)(char **, swd_err *))
{
    char *dir = NULL;
    swd_status s = find_one(&dir, NULL);
    if (s == SWD_OK && (!buf || strlen(dir) >= n)) s = SWD_ERR_ARGUMENT;
    if (s == SWD_OK) strcpy(buf, dir);
    free(dir);
    return s;
}
