// SPDX-License-Identifier: MIT
#include "bench/source.h"
#include "revision.h"

const char *source_revision(void)
{
    return BENCH_REVISION;
}
