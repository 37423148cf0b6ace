// SPDX-License-Identifier: MIT
#include "train/durable.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OPEN_FOLDERS = 16 };

swd_status durable_sync(const char *path, swd_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    int e = errno;
    if (fd >= 0) close(fd);
    return ok ? SWD_OK
              : SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be synced to disk: %s", path, strerror(e));
}

swd_status durable_rename(const char *from, const char *to, swd_err *err)
{
    if (rename(from, to) != 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be renamed to %s: %s", from, to,
                        strerror(errno));
    char *folder;
    SWD_TRY(swd_strdup(&folder, to, err), err);
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = '\0';
    swd_status s = durable_sync(slash ? folder : ".", err);
    free(folder);
    return s;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

swd_status durable_remove(const char *path, swd_err *err)
{
    if (nftw(path, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT)
        return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be deleted: %s", path, strerror(errno));
}
