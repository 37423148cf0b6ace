/* SPDX-License-Identifier: MIT */
/* Text that is written piece by piece and becomes SVG, HTML or CSV: numbers with a point whatever the locale, foreign strings escaped. */
#ifndef SWD_IMAGE_MARKUP_H
#define SWD_IMAGE_MARKUP_H
#include "base/status.h"
#include <locale.h>
#include <stdio.h>

typedef struct markup {
    FILE *f; /* write to it with fprintf */
    char *text;
    size_t n;
    locale_t mine, before;
} markup;

/* The calling thread has the "C" locale from here to markup_end. */
swd_status markup_begin(markup *m, swd_err *err);
/* *text (owned by the caller, ended by 0) and its length, or SWD_ERR_MEMORY; text NULL: all is given up. */
swd_status markup_end(markup *m, char **text, size_t *n, swd_err *err);
/* s as character data or within quotes: & < > " ' as entities; control characters and what is not UTF-8 as '?'. NULL: nothing. */
void markup_text(markup *m, const char *s);
/* data:image/...;base64 of bytes, as it stands in an attribute. */
void markup_data_uri(markup *m, const char *media_type, const unsigned char *data, size_t n);
/* Columns that s takes, roughly: its characters. */
int markup_width(const char *s);
#endif
