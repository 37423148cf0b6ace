/* SPDX-License-Identifier: MIT */
/* Pictures as files: JPEG and PNG, 8 bits, RGB. */
#ifndef SWD_IMAGE_IMAGE_H
#define SWD_IMAGE_IMAGE_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum {
    IMAGE_SIDE_MAX = 16384,
    IMAGE_PIXELS_MAX = 1 << 26,     /* 8192 x 8192 */
    IMAGE_FILE_BYTES_MAX = 1 << 29, /* of a file to read */
    IMAGE_COMMENT_BYTES_MAX = 1 << 20
};

typedef struct image_rgb8 {
    int width, height;
    uint8_t *rgb; /* [height, width, 3] */
    char *
        comment; /* what image_write put in (of foreign files: the first JPEG comment or "parameters" text); NULL: none */
} image_rgb8;

typedef enum image_format { IMAGE_UNKNOWN, IMAGE_JPEG, IMAGE_PNG } image_format;

/* By the suffix, in any case: .jpg, .jpeg, .png. */
image_format image_format_of(const char *path);

/* Reads a JPEG or PNG, told by its content. Gray and palettes become RGB, 16 bits become 8, alpha is dropped; CMYK is refused, and so is
 * a damaged or truncated file. *out is the caller's to free on success, and empty otherwise. SWD_ERR_FILE. */
swd_status image_read(image_rgb8 *out, const char *path, swd_err *err);
/* The same from memory; name is for messages. */
swd_status image_decode(image_rgb8 *out, const uint8_t *data, size_t n, const char *name,
                        swd_err *err);
void image_free(image_rgb8 *image); /* leaves it empty; accepts an empty one */

/* Writes rgb [height, width, 3] to path, the suffix selecting the format (another one: SWD_ERR_ARGUMENT): JPEG of quality 95 without
 * chroma subsampling, or PNG. comment: UTF-8 or NULL; a JPEG comment segment, where what exceeds 65533 bytes is cut off between two
 * characters, or a PNG text chunk "parameters" (tEXt if it is ASCII, else iTXt).
 * The file appears complete or not at all: it is written under a temporary name in the same folder, then renamed. A path that is a
 * device or a pipe is written directly. */
swd_status image_write(const char *path, const uint8_t *rgb, int width, int height,
                       const char *comment, swd_err *err);
/* Any other file in the same manner: complete or not at all. */
swd_status image_write_bytes(const char *path, const void *data, size_t n, swd_err *err);

/* width and height are positive and within the limits above. For decoders; status is that of the failure. */
swd_status image_check_size(int64_t width, int64_t height, const char *name, swd_status status,
                            swd_err *err);
#endif
