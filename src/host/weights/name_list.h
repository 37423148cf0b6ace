/* SPDX-License-Identifier: MIT */
/* Names for an error message, as many as fit. */
#ifndef SWD_WEIGHTS_NAME_LIST_H
#define SWD_WEIGHTS_NAME_LIST_H
#include <stddef.h>

enum { NAME_LIST_BYTES = 600 };

typedef struct name_list {
    char text[NAME_LIST_BYTES + 32]; /* "a, b, c and 12 more" */
    size_t used;
    int n, left_out;
} name_list;

/* Start from a zeroed list. */
void name_list_add(name_list *l, const char *name);
const char *name_list_text(name_list *l);
#endif
