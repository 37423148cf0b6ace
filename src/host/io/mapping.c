// SPDX-License-Identifier: MIT
// Read-only private mappings. A file that another program truncates while it is mapped ends this one (SIGBUS): models are
// replaced by renaming, not rewritten in place.
#include "io/mapping.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static swd_status map_descriptor(swd_mapping *out, int fd, const char *path, size_t max_bytes,
                                 swd_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return SWD_FAIL(err, SWD_ERR_FILE, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: is a folder, a file is needed", path);
    if (!S_ISREG(st.st_mode)) return SWD_FAIL(err, SWD_ERR_FILE, "%s: not a regular file", path);
    size_t size = (size_t)st.st_size;
    if (max_bytes && size > max_bytes)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: %zu bytes, more than the %zu that such a file may have", path, size,
                        max_bytes);
    void *p = NULL;
    if (size > 0) {
        p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be mapped: %s", path, strerror(errno));
    }
    swd_status s = swd_strdup(&out->path, path, err);
    if (s != SWD_OK) {
        if (p) munmap(p, size);
        return s;
    }
    out->data = p;
    out->size = size;
    return SWD_OK;
}

swd_status mapping_open(swd_mapping *out, const char *path, size_t max_bytes, swd_err *err)
{
    *out = (swd_mapping){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC |
                            O_NONBLOCK); // non-blocking: opening a FIFO would wait for a writer
    if (fd < 0) return SWD_FAIL(err, SWD_ERR_FILE, "%s: %s", path, strerror(errno));
    swd_status s = map_descriptor(out, fd, path, max_bytes, err);
    close(fd);
    return s;
}

void mapping_release(const swd_mapping *m, size_t offset, size_t length)
{
    if (!m->data || offset > m->size || length > m->size - offset) return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first = (offset + page - 1) / page * page, end = (offset + length) / page * page;
    if (first < end) madvise((void *)(m->data + first), end - first, MADV_DONTNEED);
}

void mapping_prefetch(const swd_mapping *m, size_t offset, size_t length)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), from = offset / page * page;
    if (!m->data || offset >= m->size) return;
    if (length > m->size - offset) length = m->size - offset;
    (void)madvise((void *)(uintptr_t)(m->data + from), offset - from + length, MADV_WILLNEED);
}

void mapping_close(swd_mapping *m)
{
    if (m->data) munmap((void *)m->data, m->size);
    free(m->path);
    *m = (swd_mapping){0};
}
