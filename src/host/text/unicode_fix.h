// SPDX-License-Identifier: MIT
/* tokenizers 0.22.2 classes letters by Unicode 16, lowers them by 17 and composes by older tables; utf8proc
 * follows whichever version it was built for. These differences make the ids independent of it (2.8, Unicode 15.0, and up). */
#ifndef SWD_TEXT_UNICODE_FIX_H
#define SWD_TEXT_UNICODE_FIX_H
#include <stdbool.h>
#include <stdint.h>

typedef enum { UNICODE_AS_IS, UNICODE_LETTER, UNICODE_NUMBER, UNICODE_OTHER } unicode_class;

/* The class to use; UNICODE_AS_IS: utf8proc's. */
unicode_class unicode_fix_class(int32_t c);
/* True: for NFC a starter that neither decomposes nor composes. */
bool unicode_fix_inert(int32_t c);
/* What to ask utf8proc for the end of a grapheme in c's place; by Unicode 16, as far as graphemes of under six bytes tell. */
int32_t unicode_fix_grapheme(int32_t c);
/* The lower case; -1: utf8proc's. */
int32_t unicode_fix_lower(int32_t c);
#endif
