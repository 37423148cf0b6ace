// SPDX-License-Identifier: MIT
// What every backend has in common.
#include "backend/backend.h"

void backend_destroy(swd_backend **b)
{
    if (!*b) return;
    (*b)->destroy(*b);
    *b = NULL;
}
