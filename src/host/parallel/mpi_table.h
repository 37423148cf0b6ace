/* SPDX-License-Identifier: MIT */
/* What the group (parallel/group.h) needs of MPI, as a table that a module of its own fills (src/mpi/swd_mpi.c): so neither the library nor its
 * users link with MPI, and only processes that mpirun has started load it. Calls give 0 or MPI's error, for text(). One thread. */
#ifndef SWD_PARALLEL_MPI_TABLE_H
#define SWD_PARALLEL_MPI_TABLE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MPI_TABLE_VERSION = 1 };
#define MPI_TABLE_SYMBOL "swd_mpi_table"

typedef struct mpi_place {
    int rank, size;             /* of all */
    int local_rank, local_size; /* of those on this machine */
} mpi_place;

typedef struct mpi_table {
    int version; /* MPI_TABLE_VERSION */
    int (*begin)(mpi_place *out);
    int (*end)(void); /* waits for the others' */
    void (*text)(int error, char *buf, size_t n);
    /* The greatest of everybody's x [n], in two parts, so that who waits long can sleep; one at a time. */
    int (*max_begin)(int64_t *x, int n);
    int (*max_test)(bool *done);
    /* Everybody is there: these wait busily. */
    int (*sum_floats)(float *x, size_t n);
    int (*sum_doubles)(double *x, int n);
    int (*broadcast)(void *data, size_t bytes, int root);
    int (*gather)(void *all, const int *bytes,
                  const void *mine); /* at 0, by rank; bytes [size]: known to all */
    int (*gather_local)(void *all, const void *mine,
                        int bytes); /* of this machine, by local rank */
    /* A number that lies at process 0: adds, and gives what it was. Others need not take part. */
    int (*counter_add)(int64_t *was, int64_t by);
    int (*poke)(void); /* lets others reach the counter while process 0 computes */
} mpi_table;
#endif
