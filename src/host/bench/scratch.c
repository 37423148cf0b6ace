// SPDX-License-Identifier: MIT
#include "bench/scratch.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

swd_status scratch_make(char folder[SCRATCH_PATH_MAX], swd_err *err)
{
    snprintf(folder, SCRATCH_PATH_MAX, "/tmp/swd-bench-XXXXXX");
    if (mkdtemp(folder)) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_FILE, "%s: the folder cannot be made: %s", folder,
                    strerror(errno));
}

void scratch_remove(const char *folder)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
    rmdir(folder);
}
