/* SPDX-License-Identifier: MIT */
/* Pictures with captions, from folders and tar files:
 *
 *     metainfo.csv    rows of index, file name, caption behind a row of titles (what `swd generate --dataset` and SwD's authors write)
 *     NAME.txt        without a metainfo.csv: beside each NAME.jpg, NAME.jpeg or NAME.png
 *
 * The same in a tar (of webdataset: NAME ends at the first dot behind the last slash). A picture without a caption, a caption without a
 * picture or one that is no text: kept in a list of what was left out, with the reason, and no more. Read-only after dataset_open but
 * for dataset_reject. */
#ifndef SWD_TRAIN_DATASET_H
#define SWD_TRAIN_DATASET_H
#include "base/log.h"
#include "image/image.h"
#include <stdint.h>

enum {
    DATASET_SOURCES_MAX = 64,
    DATASET_ITEMS_MAX = 1 << 24,
    DATASET_CAPTION_BYTES_MAX = 1 << 19,
    DATASET_CSV_BYTES_MAX = 1 << 30
};

typedef struct dataset dataset;

typedef struct dataset_bad {
    const char *file, *reason;
} dataset_bad;

/* Each path is a folder or a tar. A path that is not there, a CSV or tar that cannot be read to its end, or no picture with a caption at
 * all: SWD_ERR_FILE. */
swd_status dataset_open(dataset **out, const char *const *paths, int n_paths, swd_err *err);
/* A tar that is in memory, borrowed; for fuzzing. */
swd_status dataset_open_tar(dataset **out, const char *path_for_messages, const void *data,
                            size_t n, swd_err *err);
void dataset_close(dataset **d); /* writes NULL; accepts it */

/* In the order of the paths, then of the CSV's rows, or of the names. */
int64_t dataset_count(const dataset *d);
const char *dataset_name(const dataset *d, int64_t i); /* "folder/file", for messages */
const char *dataset_caption(const dataset *d, int64_t i);
/* Changes when a caption, a file's name or size, or what is at its start, middle or end does. Reads a little of every file. */
uint64_t dataset_digest(const dataset *d);
/* Decodes picture i; thread-safe. */
swd_status dataset_read(image_rgb8 *out, const dataset *d, int64_t i, swd_err *err);

/* One more of those left out; the strings are copied. */
swd_status dataset_reject(dataset *d, const char *file, const char *reason, swd_err *err);
int64_t dataset_bad_count(const dataset *d);
dataset_bad dataset_bad_at(const dataset *d, int64_t i);
#endif
