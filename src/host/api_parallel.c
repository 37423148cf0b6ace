// SPDX-License-Identifier: MIT
#include "api_parallel.h"
#include "parallel/group.h"
#include <stdio.h>

swd_status swd_group_open(swd_group **out, char *why, size_t n)
{
    swd_err err = {0};
    if (why && n) why[0] = '\0';
    if (!out) return SWD_ERR_ARGUMENT;
    swd_status s = group_open(out, NULL, &err);
    if (s != SWD_OK && why && n) snprintf(why, n, "%s", err.message);
    return s;
}

swd_status swd_group_close(swd_group **group, swd_status status, const char *words)
{
    swd_err err = {0};
    if (status != SWD_OK) (void)SWD_FAIL(&err, status, "%s", words ? words : "");
    return group ? group_close(group, status, &err) : status;
}

int swd_group_rank(const swd_group *group)
{
    return group_rank(group);
}

int swd_group_size(const swd_group *group)
{
    return group_size(group);
}
