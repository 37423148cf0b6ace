// SPDX-License-Identifier: MIT
#include "backend/slab.h"

swd_status slab_create(swd_slab **out, size_t bytes, swd_backend *b, swd_err *err)
{
    *out = NULL;
    return b->slabs ? b->slabs->create(b, out, bytes, err) : SWD_OK;
}

void slab_destroy(swd_slab **s, swd_backend *b)
{
    if (*s) b->slabs->destroy(b, s);
    *s = NULL;
}

void slab_use(swd_slab *s, swd_backend *b)
{
    if (b->slabs) b->slabs->use(b, s);
}

void plan_begin(swd_backend *b)
{
    b->slabs->plan(b, true);
}

void plan_end(swd_backend *b)
{
    b->slabs->plan(b, false);
}
