// SPDX-License-Identifier: MIT
// Stands for NCCL on the emulated device: as if every process had the same numbers. Refuses what NCCL would, and what we never ask for.
#include "fake_nccl.h"
#include <stdlib.h>
#include <string.h>

#define X(name, arguments) __attribute__((visibility("default"))) int nccl##name arguments;
NCCL_FUNCTIONS(X)
#undef X
__attribute__((visibility("default"))) const char *ncclGetErrorString(int e);

typedef struct communicator {
    int n;
} communicator;

static int calls, fail_at, live;

void fake_nccl_fail(int n)
{
    fail_at = n ? calls + n : 0;
}

int fake_nccl_live(void)
{
    return live;
}

static int fails(void)
{
    return ++calls == fail_at ? 3 : 0;
}

int ncclGetVersion(int *version)
{
    return *version = 22703, 0;
}

const char *ncclGetErrorString(int e)
{
    return e == 3 ? "a pretended failure" : "a wrong argument";
}

int ncclGetUniqueId(nccl_id *id)
{
    memset(id, 0x5a, sizeof *id);
    return fails();
}

int ncclCommInitRank(void **comm, int n, nccl_id id, int rank)
{
    nccl_id want;
    memset(&want, 0x5a, sizeof want);
    if (memcmp(&id, &want, sizeof id) != 0 || rank < 0 || rank >= n) return 4;
    if (fails()) return 3;
    communicator *c = calloc(1, sizeof *c);
    if (!c) return 3;
    c->n = n;
    live++;
    return *comm = c, 0;
}

int ncclCommDestroy(void *comm)
{
    free(comm);
    live--;
    return 0;
}

int ncclAllReduce(const void *from, void *to, size_t n, int type, int op, void *comm,
                  cudaStream_t stream)
{
    const communicator *c = comm;
    if (!c || from != to || type != NCCL_FLOATS || op != NCCL_SUM || !stream) return 4;
    if (fails()) return 3;
    float *x = malloc(n * sizeof *x);
    if (!x || cudaStreamSynchronize(stream) != cudaSuccess ||
        cudaMemcpy(x, from, n * sizeof *x, cudaMemcpyDeviceToHost) != cudaSuccess)
        return free(x), 3;
    const char *mode = getenv("FAKE_NCCL"); // "wrong": so it is
    for (size_t i = 0; i < n; i++) x[i] *= (float)c->n;
    if (mode && strcmp(mode, "wrong") == 0) x[n / 2]++;
    int bad = cudaMemcpy(to, x, n * sizeof *x, cudaMemcpyHostToDevice) != cudaSuccess;
    free(x);
    return bad ? 3 : 0;
}

int ncclBroadcast(const void *from, void *to, size_t n, int type, int root, void *comm,
                  cudaStream_t stream)
{
    if (!comm || from != to || n == 0 || type != NCCL_BYTES || root != 0 || !stream) return 4;
    return fails();
}
