/* SPDX-License-Identifier: MIT */
/* What convolutions and attention share: choices between a graph of cuDNN and our kernel, kept by the backend under a key. */
#ifndef SWD_CUDA_VENDOR_GRAPH_CHOICE_H
#define SWD_CUDA_VENDOR_GRAPH_CHOICE_H
#include "vendor/cudnn.h"
#include "vendor/vendor.h"

enum { GRAPH_KEY_WORDS = 20, GRAPH_WORKSPACE_MAX = 64 << 20 };

typedef struct graph_key {
    int64_t word[GRAPH_KEY_WORDS]; /* zeros behind the last */
} graph_key;

typedef struct graph_choice {
    struct graph_choice *next;
    graph_key key;
    dnn_work *work; /* NULL: our kernel does it */
    int way;
} graph_choice;

/* The work to choose for: contestant 0 of run is our kernel, i + 1 way i of the work in the trial. */
typedef struct graph_trial {
    graph_choice *o;
    swd_backend *b;
    void *memory
        [6]; /* operands, by the family; [5]: workspace_bytes, for the largest way so far. Released when the trial is over */
    size_t workspace_bytes;
    const void *args; /* the family's own */
    bool compile;     /* ways whose kernels have to be compiled are among them */
} graph_trial;

/* SWD_ERR_UNSUPPORTED where cuDNN does not do it this way. */
swd_status graph_trial_run(graph_trial *t, int way, void *const pointers[DNN_POINTERS],
                           cudaStream_t stream, swd_err *err);

typedef struct graph_family {
    swd_status (*make)(dnn_work **out, const cudnn *dnn, const void *args, swd_err *err);
    swd_status (*operands)(graph_trial *t, swd_err *err);
    measure_run *run; /* arg: the graph_trial */
} graph_family;

/* The choice for key, made now where it is new and may be made; NULL: our kernel. name: the key in words. A failure waits in vendor_told(). */
const graph_choice *graph_choice_of(const graph_key *key, const char *name,
                                    const graph_family *family, const void *args, swd_backend *b);
void graph_choices_free(graph_choice **list);

size_t graph_choice_workspace(const graph_choice *o);
/* The way that was chosen; workspace as an op got it. What cuDNN refuses now is a failure. */
swd_status graph_choice_run(const graph_choice *o, void *const pointers[DNN_POINTERS],
                            void *workspace, cudaStream_t stream, swd_err *err);
#endif
