// SPDX-License-Identifier: MIT
// What every backend has in common.
#include "backend/backend.h"

size_t backend_held(swd_backend *b)
{
    return b->held ? b->held(b) : b->weight_bytes(b);
}

void backend_destroy(swd_backend **b)
{
    if (!*b) return;
    (*b)->destroy(*b);
    *b = NULL;
}
