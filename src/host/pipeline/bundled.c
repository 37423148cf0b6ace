// SPDX-License-Identifier: MIT
#include "pipeline/bundled.h"
#include "base/memory.h"
#include <limits.h>
#include <string.h>
#include <unistd.h>

/* The build defines where things are installed (SWD_DATADIR) and the bundle in the source tree (SWD_SOURCE_WEIGHTS). */
#ifndef SWD_DATADIR
#define SWD_DATADIR "/usr/local/share"
#endif
#ifndef SWD_SOURCE_WEIGHTS
#define SWD_SOURCE_WEIGHTS "weights/emoji"
#endif

static swd_status take_if_model(char **out, const char *root, const char *below, swd_err *err)
{
    char *dir = NULL, *index = NULL;
    swd_status s = swd_asprintf(&dir, err, "%s%s", root, below);
    if (s == SWD_OK) s = swd_asprintf(&index, err, "%s/model_index.json", dir);
    if (s == SWD_OK && path_exists(index)) {
        *out = dir;
        dir = NULL;
    }
    free(dir);
    free(index);
    return s;
}

swd_status bundled_model(char **out, swd_err *err)
{
    *out = NULL;
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    if (n > 0) {
        exe[n] = '\0';
        char *slash = strrchr(exe, '/');
        if (slash) *slash = '\0';
        SWD_TRY(take_if_model(out, exe, "/../share/swd/weights/emoji", err), err);
    }
    if (!*out) SWD_TRY(take_if_model(out, SWD_DATADIR, "/swd/weights/emoji", err), err);
    if (!*out) SWD_TRY(take_if_model(out, SWD_SOURCE_WEIGHTS, "", err), err);
    if (!*out)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "the bundled model is neither beside the program nor in " SWD_DATADIR
                        "/swd nor in " SWD_SOURCE_WEIGHTS "; name a model folder (-m DIR)");
    return SWD_OK;
}
