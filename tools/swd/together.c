// SPDX-License-Identifier: MIT
#include "together.h"
#include "options.h"
#include <stdio.h>

static swd_group *group;
static int rank;
static char last_error[1024];

int together_begin(void)
{
    char why[1024];
    if (swd_group_open(&group, why, sizeof(why)) == SWD_OK) {
        rank = swd_group_rank(group);
        return EXIT_DONE;
    }
    print_error("%s", why);
    return EXIT_FAILED;
}

int together_end(int status)
{
    swd_status s = status == EXIT_DONE    ? SWD_OK
                   : status == EXIT_USAGE ? SWD_ERR_ARGUMENT
                                          : SWD_ERR_DEVICE;
    s = swd_group_close(&group, s, last_error);
    if (status != EXIT_DONE || s == SWD_OK) return status;
    print_error("another process has failed");
    return EXIT_FAILED;
}

swd_group *together(void)
{
    return group;
}

bool together_speaks(void)
{
    return rank == 0;
}

void together_note_error(const char *text)
{
    snprintf(last_error, sizeof(last_error), "%s", text);
}
