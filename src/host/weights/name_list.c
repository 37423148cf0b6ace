// SPDX-License-Identifier: MIT
#include "weights/name_list.h"
#include <stdio.h>
#include <string.h>

void name_list_add(name_list *l, const char *name)
{
    size_t n = strlen(name);
    l->n++;
    if (l->left_out > 0 || l->used + n + 3 > NAME_LIST_BYTES) {
        l->left_out++;
        return;
    }
    l->used += (size_t)snprintf(l->text + l->used, NAME_LIST_BYTES - l->used, "%s%s",
                                l->used ? ", " : "", name);
}

const char *name_list_text(name_list *l)
{
    if (l->left_out > 0)
        snprintf(l->text + l->used, sizeof l->text - l->used, " and %d more", l->left_out);
    return l->text;
}
