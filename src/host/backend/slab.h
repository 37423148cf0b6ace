/* SPDX-License-Identifier: MIT */
/* Blocks of backend memory for many pieces, and planning: what would be taken, without taking it. A backend without them (the CPU) has NULL
 * for slabs and every piece for itself; what it would take is not known. */
#ifndef SWD_BACKEND_SLAB_H
#define SWD_BACKEND_SLAB_H
#include "backend/backend.h"

static inline bool slab_has(const swd_backend *b)
{
    return b->slabs != NULL;
}

/* One piece of backend memory. */
swd_status slab_create(swd_slab **out, size_t bytes, swd_backend *b, swd_err *err);
/* The pieces in it are gone, whether released or not; waits for the device. Accepts NULL. */
void slab_destroy(swd_slab **s, swd_backend *b);
/* From now on what is allocated, by packed weights too, lies in s, from its beginning on; NULL: again each for itself. To release a piece
 * of a slab does nothing. Beyond its end there is no memory. */
void slab_use(swd_slab *s, swd_backend *b);

/* Between the two nothing is allocated, uploaded or computed: there are addresses that nobody may touch, which count as held, each rounded as in
 * a slab. What was made then is released as ever, also later. A plan may lie within another. Only where slab_has(). */
void plan_begin(swd_backend *b);
void plan_end(swd_backend *b);
#endif
