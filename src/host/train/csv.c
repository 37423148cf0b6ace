// SPDX-License-Identifier: MIT
#include "train/csv.h"
#include <stdlib.h>
#include <string.h>

csv_reader csv_begin(const char *path, const char *text, size_t n)
{
    csv_reader r = {.path = path, .at = text, .end = text + n, .line = 1};
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) r.at += 3;
    return r;
}

static bool ends_line(char c)
{
    return c == '\n' || c == '\r';
}

// Past "\n", "\r\n" or "\r", one of which is there.
static void skip_line_end(csv_reader *r)
{
    char c = *r->at++;
    if (c == '\r' && r->at < r->end && *r->at == '\n') r->at++;
    r->line++;
}

// What stands between quotes; r is behind the first and ends behind the last.
static swd_status read_quoted(text_buf *text, csv_reader *r, swd_err *err)
{
    int line = r->line;
    for (;;) {
        const char *quote = r->at < r->end ? memchr(r->at, '"', (size_t)(r->end - r->at)) : NULL;
        if (!quote)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: line %d: a quote that is never closed", r->path,
                            line);
        for (const char *p = r->at; p < quote; p++) r->line += *p == '\n';
        bool doubled = quote + 1 < r->end && quote[1] == '"';
        SWD_TRY(text_buf_add(text, r->at, (size_t)(quote - r->at) + doubled, err), err);
        r->at = quote + 1 + doubled;
        if (!doubled) return SWD_OK;
    }
}

// Up to the next comma or line end. Quotes in the middle of a field stand for themselves.
static swd_status read_field(csv_row *row, csv_reader *r, swd_err *err)
{
    if (row->n == CSV_FIELDS_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: line %d: more than %d fields", r->path, row->line,
                        CSV_FIELDS_MAX);
    size_t start = row->text.n;
    if (r->at < r->end && *r->at == '"') {
        r->at++;
        SWD_TRY(read_quoted(&row->text, r, err), err);
    }
    const char *p = r->at;
    while (p < r->end && *p != ',' && !ends_line(*p)) p++;
    SWD_TRY(text_buf_add(&row->text, r->at, (size_t)(p - r->at), err), err);
    r->at = p;
    row->start[row->n] = start;
    row->length[row->n++] = row->text.n - start;
    return text_buf_add(&row->text, "", 1, err);
}

swd_status csv_next(csv_row *row, bool *more, csv_reader *r, swd_err *err)
{
    row->n = 0;
    row->text.n = 0;
    while (r->at < r->end && ends_line(*r->at)) skip_line_end(r);
    row->line = r->line;
    *more = r->at < r->end;
    if (!*more) return SWD_OK;
    for (;;) {
        SWD_TRY(read_field(row, r, err), err);
        if (r->at == r->end) return SWD_OK;
        if (*r->at != ',') break;
        r->at++;
    }
    skip_line_end(r);
    return SWD_OK;
}

const char *csv_field(const csv_row *row, int i)
{
    return i >= 0 && i < row->n ? row->text.data + row->start[i] : NULL;
}

void csv_row_free(csv_row *row)
{
    free(row->text.data);
    *row = (csv_row){0};
}
