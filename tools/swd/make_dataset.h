/* SPDX-License-Identifier: MIT */
/* swd generate --dataset DIR: pictures in a folder with metainfo.csv (a row of titles, then index, file name, caption), the layout that swd
 * train and SwD's authors' code read. A row is added when its picture is there. */
#ifndef TOOLS_SWD_MAKE_DATASET_H
#define TOOLS_SWD_MAKE_DATASET_H
#include "options.h"
#include <stdio.h>

typedef struct make_dataset {
    const char *dir;
    const swd_generate_params *generate;
    char pattern[1200]; /* of the pictures, the folder before it */
    FILE *csv;
    int next;     /* rows before it are there or will be added at the end */
    bool *listed; /* [pictures] */
} make_dataset;

/* Makes the folder, sets g's output and resume, and starts metainfo.csv with the pictures that are there already. name: a pattern with
 * one %d inside the folder, or NULL. Prints an error and returns another exit status than EXIT_DONE on failure; end it either way. */
int make_dataset_begin(make_dataset *m, const char *dir, const char *name, swd_generate_params *g);
/* Adds rows for pictures that have appeared. Takes a make_dataset; for live.tick. */
void make_dataset_tick(void *m);
/* Writes metainfo.csv anew, in order of index, with every picture that is there. */
bool make_dataset_end(make_dataset *m);
#endif
