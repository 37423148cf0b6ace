/* SPDX-License-Identifier: MIT */
/* Comma-separated values as RFC 4180 has them: fields may be quoted, quotes inside are doubled, quoted fields may hold line breaks. */
#ifndef SWD_TRAIN_CSV_H
#define SWD_TRAIN_CSV_H
#include "text/vocab.h"

enum { CSV_FIELDS_MAX = 64 };

typedef struct csv_reader {
    const char *path; /* for messages; borrowed */
    const char *at, *end;
    int line; /* of at, from 1 */
} csv_reader;

/* One row; its memory is used again by the next. A zeroed one is ready. */
typedef struct csv_row {
    text_buf text;
    int n, line; /* fields; where the row starts */
    size_t start[CSV_FIELDS_MAX], length[CSV_FIELDS_MAX];
} csv_row;

/* text [n] is borrowed; a byte order mark at its start is skipped. */
csv_reader csv_begin(const char *path, const char *text, size_t n);
/* *more is false at the end, and row then empty. Lines without a byte are passed over. A quote that is not closed, more than
 * CSV_FIELDS_MAX fields: SWD_ERR_FILE with the line. */
swd_status csv_next(csv_row *row, bool *more, csv_reader *r, swd_err *err);
/* Field i, ended by 0 (it may hold others); NULL beyond the last. */
const char *csv_field(const csv_row *row, int i);
void csv_row_free(csv_row *row);
#endif
