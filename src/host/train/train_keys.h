/* SPDX-License-Identifier: MIT */
/* The table itself: where each key lies in swd_train_params and what it may be. */
#ifndef SWD_TRAIN_TRAIN_KEYS_H
#define SWD_TRAIN_TRAIN_KEYS_H
#include <stdbool.h>
#include <stddef.h>
#include <swd/train.h>

typedef enum train_kind {
    KIND_STRING,  /* char [size] */
    KIND_STRINGS, /* char [size / SWD_TRAIN_PATH_MAX][SWD_TRAIN_PATH_MAX] */
    KIND_INT,     /* int */
    KIND_LONG,    /* int64_t */
    KIND_NUMBER,  /* double */
    KIND_SWITCH,  /* int, 0 or 1 */
    KIND_WORD,    /* an enum, counted through words */
    KIND_INTS,    /* int [] */
    KIND_NUMBERS  /* double [] */
} train_kind;

typedef struct train_key {
    swd_train_key pub;
    train_kind kind;
    size_t offset, size; /* of the field */
    size_t count_offset; /* of the int that says how many there are, of lists */
    double lo, hi;
    const char *const *words; /* NULL-ended */
    bool free;                /* may differ from the checkpoint's when a session goes on */
} train_key;

extern const train_key train_keys[];
extern const int train_n_keys;
#endif
