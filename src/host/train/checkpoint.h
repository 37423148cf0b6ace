/* SPDX-License-Identifier: MIT */
/* Everything that a session needs to go on, in a folder that is there whole or not at all:
 *
 *     DIR/step-00000250/state.safetensors    named tensors: parameters, moments
 *                       state.json           step, counters, the config, the sum of state.safetensors
 *                       ...                  what the caller puts in (the adapter)
 *
 * Written as DIR/step-00000250.part, each file and the folder synced, then renamed. A kill at any moment leaves the last checkpoint, and at
 * most a .part that the next one removes. */
#ifndef SWD_TRAIN_CHECKPOINT_H
#define SWD_TRAIN_CHECKPOINT_H
#include "backend/backend.h"
#include "base/log.h"

enum {
    CHECKPOINT_COUNTERS_MAX = 32,
    CHECKPOINT_NAME_MAX = 32,
    CHECKPOINT_CONFIG_BYTES_MAX = 1 << 20
};

/* Contiguous, of F32 or BF16, in the memory of the backend, or on the host where that is NULL. */
typedef struct checkpoint_tensor {
    const char *name;
    swd_tensor t;
} checkpoint_tensor;

/* Whole numbers up to 2^63 - 1, and floats by their bits: all exact. */
typedef struct checkpoint_counter {
    char name[CHECKPOINT_NAME_MAX];
    int64_t value;
} checkpoint_counter;

typedef struct checkpoint_state {
    int64_t step;
    checkpoint_counter counter[CHECKPOINT_COUNTERS_MAX];
    int n_counters;
    char *config; /* text; owned after loading, checkpoint_state_free */
} checkpoint_state;

typedef struct checkpoint_args {
    const char *dir; /* made if absent */
    int keep;        /* how many stay */
    const checkpoint_tensor *tensors;
    int n_tensors;
    swd_backend *be;
    /* Puts more files into the folder path; may be NULL. They are synced here. */
    swd_status (*extra)(void *user, const char *path, swd_err *err);
    void *user;
    const swd_log *log;
} checkpoint_args;

/* *path (may be NULL) is the new folder, freed by the caller. A step that has a whole checkpoint already keeps that one: the state is a pure
 * function of the step. */
swd_status checkpoint_save(char **path, const checkpoint_args *a, const checkpoint_state *state,
                           swd_err *err);
/* The newest checkpoint that is whole, freed by the caller; *path NULL: there is none. Damaged ones are passed over and told. */
swd_status checkpoint_newest(char **path, const char *dir, const swd_log *log, swd_err *err);
/* step, counters and config. */
swd_status checkpoint_read_state(checkpoint_state *out, const char *path, swd_err *err);
/* state.json from memory; sum: of state.safetensors. For fuzzing, too. */
swd_status checkpoint_parse_state(checkpoint_state *out, uint64_t *sum, const char *path,
                                  const void *text, size_t n, swd_err *err);
/* Fills a->tensors: each must be there, of its shape and type, and no other. Nothing is changed unless all are. */
swd_status checkpoint_load(const char *path, const checkpoint_args *a, swd_err *err);
void checkpoint_state_free(checkpoint_state *state);

/* The counter of that name; false: there is none. */
bool checkpoint_get(int64_t *value, const checkpoint_state *state, const char *name);
void checkpoint_put(checkpoint_state *state, const char *name, int64_t value);
#endif
