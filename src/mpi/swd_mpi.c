// SPDX-License-Identifier: MIT
// The table of parallel/mpi_table.h over MPI: a module of its own, so that nothing else links with it.
#include "parallel/mpi_table.h"
#include <mpi.h>
#include <stdio.h>

enum { NUMBERS_AT_ONCE = 1 << 28 }; // MPI counts in int

static struct {
    MPI_Comm all, local;
    MPI_Win window; // the counter, at process 0
    int64_t *counter;
    MPI_Request request;
    int size;
    bool ours; // MPI was not initialised before
} state;

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int error_ = (call);                                                                       \
        if (error_ != MPI_SUCCESS) return error_;                                                  \
    } while (0)

static int begin(mpi_place *out)
{
    int there, given;
    TRY(MPI_Initialized(&there));
    state.ours = !there;
    if (!there) TRY(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given));
    TRY(MPI_Comm_dup(MPI_COMM_WORLD, &state.all));
    TRY(MPI_Comm_set_errhandler(state.all, MPI_ERRORS_RETURN));
    TRY(MPI_Comm_rank(state.all, &out->rank));
    TRY(MPI_Comm_size(state.all, &out->size));
    TRY(MPI_Comm_split_type(state.all, MPI_COMM_TYPE_SHARED, out->rank, MPI_INFO_NULL,
                            &state.local));
    TRY(MPI_Comm_rank(state.local, &out->local_rank));
    TRY(MPI_Comm_size(state.local, &out->local_size));
    state.size = out->size;
    MPI_Aint bytes = out->rank == 0 ? (MPI_Aint)sizeof *state.counter : 0;
    TRY(MPI_Win_allocate(bytes, sizeof *state.counter, MPI_INFO_NULL, state.all, &state.counter,
                         &state.window));
    TRY(MPI_Win_lock_all(MPI_MODE_NOCHECK, state.window));
    if (out->rank == 0) *state.counter = 0;
    TRY(MPI_Win_sync(state.window));
    return MPI_Barrier(state.all);
}

static int end(void)
{
    TRY(MPI_Win_unlock_all(state.window));
    TRY(MPI_Win_free(&state.window));
    TRY(MPI_Comm_free(&state.local));
    TRY(MPI_Comm_free(&state.all));
    return state.ours ? MPI_Finalize() : MPI_SUCCESS;
}

static void text(int error, char *buf, size_t n)
{
    char words[MPI_MAX_ERROR_STRING] = "";
    int length;
    if (MPI_Error_string(error, words, &length) != MPI_SUCCESS) words[0] = '\0';
    snprintf(buf, n, "%s", words[0] ? words : "an unknown error");
}

static int max_begin(int64_t *x, int n)
{
    return MPI_Iallreduce(MPI_IN_PLACE, x, n, MPI_INT64_T, MPI_MAX, state.all, &state.request);
}

static int max_test(bool *done)
{
    int flag = 0, error = MPI_Test(&state.request, &flag, MPI_STATUS_IGNORE);
    *done = flag != 0;
    return error;
}

static int sum_floats(float *x, size_t n)
{
    for (size_t i = 0; i < n; i += NUMBERS_AT_ONCE) {
        size_t left = n - i;
        TRY(MPI_Allreduce(MPI_IN_PLACE, x + i, left < NUMBERS_AT_ONCE ? (int)left : NUMBERS_AT_ONCE,
                          MPI_FLOAT, MPI_SUM, state.all));
    }
    return MPI_SUCCESS;
}

static int sum_doubles(double *x, int n)
{
    return MPI_Allreduce(MPI_IN_PLACE, x, n, MPI_DOUBLE, MPI_SUM, state.all);
}

static int broadcast(void *data, size_t bytes, int root)
{
    for (size_t i = 0; i < bytes; i += NUMBERS_AT_ONCE) {
        size_t left = bytes - i;
        TRY(MPI_Bcast((char *)data + i, left < NUMBERS_AT_ONCE ? (int)left : NUMBERS_AT_ONCE,
                      MPI_BYTE, root, state.all));
    }
    return MPI_SUCCESS;
}

// Point to point: what each sends is known to all.
static int gather(void *all, const int *bytes, const void *mine)
{
    int rank;
    TRY(MPI_Comm_rank(state.all, &rank));
    if (rank != 0) return MPI_Send(mine, bytes[rank], MPI_BYTE, 0, 0, state.all);
    char *at = all;
    for (int i = 0; i < bytes[0]; i++) at[i] = ((const char *)mine)[i];
    for (int i = 1; i < state.size; i++) {
        at += bytes[i - 1];
        TRY(MPI_Recv(at, bytes[i], MPI_BYTE, i, 0, state.all, MPI_STATUS_IGNORE));
    }
    return MPI_SUCCESS;
}

static int gather_local(void *all, const void *mine, int bytes)
{
    return MPI_Allgather(mine, bytes, MPI_BYTE, all, bytes, MPI_BYTE, state.local);
}

static int counter_add(int64_t *was, int64_t by)
{
    TRY(MPI_Fetch_and_op(&by, was, MPI_INT64_T, 0, 0, MPI_SUM, state.window));
    return MPI_Win_flush(0, state.window);
}

static int poke(void)
{
    int flag;
    return MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, state.all, &flag, MPI_STATUS_IGNORE);
}

__attribute__((visibility("default"))) extern const mpi_table swd_mpi_table;
const mpi_table swd_mpi_table = {.version = MPI_TABLE_VERSION,
                                 .begin = begin,
                                 .end = end,
                                 .text = text,
                                 .max_begin = max_begin,
                                 .max_test = max_test,
                                 .sum_floats = sum_floats,
                                 .sum_doubles = sum_doubles,
                                 .broadcast = broadcast,
                                 .gather = gather,
                                 .gather_local = gather_local,
                                 .counter_add = counter_add,
                                 .poke = poke};
