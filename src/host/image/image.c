// SPDX-License-Identifier: MIT
#include "image/image.h"
#include "base/memory.h"
#include "image/jpeg.h"
#include "image/png.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEMPORARY_NAMES_MAX = 100 };

image_format image_format_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    if (!dot) return IMAGE_UNKNOWN;
    if (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0) return IMAGE_JPEG;
    return strcasecmp(dot, ".png") == 0 ? IMAGE_PNG : IMAGE_UNKNOWN;
}

swd_status image_check_size(int64_t width, int64_t height, const char *name, swd_status status,
                            swd_err *err)
{
    if (width < 1 || height < 1 || width > IMAGE_SIDE_MAX || height > IMAGE_SIDE_MAX ||
        width * height > IMAGE_PIXELS_MAX)
        return SWD_FAIL(err, status,
                        "%s: a picture of %lldx%lld; sides are 1 to %d, pixels at most %d", name,
                        (long long)width, (long long)height, IMAGE_SIDE_MAX, IMAGE_PIXELS_MAX);
    return SWD_OK;
}

void image_free(image_rgb8 *image)
{
    free(image->rgb);
    free(image->comment);
    *image = (image_rgb8){0};
}

/* ---- reading ---- */

swd_status image_decode(image_rgb8 *out, const uint8_t *data, size_t n, const char *name,
                        swd_err *err)
{
    *out = (image_rgb8){0};
    if (n >= 2 && data[0] == 0xff && data[1] == 0xd8) return jpeg_decode(out, data, n, name, err);
    if (n >= 4 && memcmp(data, "\x89PNG", 4) == 0) return png_decode(out, data, n, name, err);
    return SWD_FAIL(err, SWD_ERR_FILE, "%s: neither a JPEG nor a PNG", name);
}

static swd_status read_file(uint8_t **out, size_t *n, FILE *f, const char *path, swd_err *err)
{
    size_t capacity = 0;
    *n = 0;
    for (;;) {
        size_t wanted = *n ? *n * 2 : 1 << 16;
        if (wanted > IMAGE_FILE_BYTES_MAX) wanted = IMAGE_FILE_BYTES_MAX;
        if (wanted == *n)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: more than %d bytes", path,
                            IMAGE_FILE_BYTES_MAX);
        SWD_TRY(swd_grow(out, &capacity, wanted, 1, "a picture file", err), err);
        size_t got = fread(*out + *n, 1, wanted - *n, f);
        *n += got;
        if (ferror(f))
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: reading failed: %s", path, strerror(errno));
        if (feof(f)) return SWD_OK;
    }
}

swd_status image_read(image_rgb8 *out, const char *path, swd_err *err)
{
    *out = (image_rgb8){0};
    FILE *f = fopen(path, "rb");
    if (!f) return SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be opened: %s", path, strerror(errno));
    uint8_t *data = NULL;
    size_t n = 0;
    swd_status s = read_file(&data, &n, f, path, err);
    fclose(f);
    if (s == SWD_OK) s = image_decode(out, data, n, path, err);
    free(data);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

/* ---- writing ---- */

static swd_status write_bytes(int fd, const char *path, const uint8_t *data, size_t n, swd_err *err)
{
    while (n > 0) {
        ssize_t done = write(fd, data, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be written: %s", path, strerror(errno));
        data += done;
        n -= (size_t)done;
    }
    return SWD_OK;
}

// A name in the folder of path that did not exist, and its descriptor.
static swd_status open_temporary(char **name, int *fd, const char *path, swd_err *err)
{
    for (int i = 0; i < TEMPORARY_NAMES_MAX; i++) {
        SWD_TRY(swd_asprintf(name, err, "%s.%ld-%d.tmp", path, (long)getpid(), i), err);
        *fd = open(*name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*fd >= 0) return SWD_OK;
        int code = errno;
        free(*name);
        *name = NULL;
        if (code != EEXIST)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be created: %s", path, strerror(code));
    }
    return SWD_FAIL(
        err, SWD_ERR_FILE,
        "%s: cannot be created: its temporary names are all taken; remove the *.tmp files", path);
}

static swd_status write_renamed(const char *path, const uint8_t *data, size_t n, swd_err *err)
{
    char *name = NULL;
    int fd = -1;
    SWD_TRY(open_temporary(&name, &fd, path, err), err);
    swd_status s = write_bytes(fd, path, data, n, err);
    if (close(fd) != 0 && s == SWD_OK)
        s = SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be written: %s", path, strerror(errno));
    if (s == SWD_OK && rename(name, path) != 0)
        s = SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be created: %s", path, strerror(errno));
    if (s != SWD_OK) unlink(name);
    free(name);
    return s;
}

static swd_status write_directly(const char *path, const uint8_t *data, size_t n, swd_err *err)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be opened for writing: %s", path,
                        strerror(errno));
    swd_status s = write_bytes(fd, path, data, n, err);
    if (close(fd) != 0 && s == SWD_OK)
        s = SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be written: %s", path, strerror(errno));
    return s;
}

swd_status image_write_bytes(const char *path, const void *data, size_t n, swd_err *err)
{
    struct stat st;
    bool special = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
    SWD_TRY(special ? write_directly(path, data, n, err) : write_renamed(path, data, n, err), err);
    return SWD_OK;
}

swd_status image_write(const char *path, const uint8_t *rgb, int width, int height,
                       const char *comment, swd_err *err)
{
    image_format format = image_format_of(path);
    if (format == IMAGE_UNKNOWN)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "%s: the suffix selects the format; use .jpg or .png", path);
    SWD_TRY(image_check_size(width, height, path, SWD_ERR_ARGUMENT, err), err);
    if (comment && strlen(comment) > IMAGE_COMMENT_BYTES_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%s: a comment of more than %d bytes", path,
                        IMAGE_COMMENT_BYTES_MAX);
    uint8_t *data = NULL;
    size_t n = 0;
    SWD_TRY(format == IMAGE_JPEG ? jpeg_encode(&data, &n, rgb, width, height, comment, err)
                                 : png_encode(&data, &n, rgb, width, height, comment, err),
            err);
    swd_status s = image_write_bytes(path, data, n, err);
    free(data);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}
