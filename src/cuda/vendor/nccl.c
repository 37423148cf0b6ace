// SPDX-License-Identifier: MIT
#include "vendor/nccl.h"
#include "base/memory.h"
#include "vendor/library.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct cuda_nccl {
    void *library, *comm;
    char missing[128]; // why it cannot be used; "": it can
    const char *(*text)(int error);
#define X(name, arguments) int(*name) arguments;
    NCCL_FUNCTIONS(X)
#undef X
} cuda_nccl;

// Found once, in this process; it is never closed: it has threads.
static void find(cuda_nccl *n)
{
    static const char *const names[] = {"libnccl.so.2", "libnccl.so", NULL};
    char path[1024];
    n->library = library_open(path, sizeof path, names, NULL);
    if (!n->library) {
        snprintf(n->missing, sizeof n->missing, "NCCL is not found%s%.80s", path[0] ? ": " : "",
                 path);
        return;
    }
#define X(name, arguments)                                                                         \
    if (!library_take(&n->name, n->library, "nccl" #name))                                         \
        snprintf(n->missing, sizeof n->missing, "NCCL has no nccl" #name);
    NCCL_FUNCTIONS(X)
#undef X
    if (!library_take(&n->text, n->library, "ncclGetErrorString")) n->text = NULL;
}

static bool present(swd_backend *b)
{
    cuda_nccl **n = &cuda_of(b)->nccl;
    if (!*n) {
        if (swd_calloc(n, 1, sizeof **n, "NCCL", NULL) != SWD_OK) return false;
        find(*n);
        int version = 0;
        if (!(*n)->missing[0]) (void)(*n)->GetVersion(&version);
        if ((*n)->missing[0])
            log_print(b->log, SWD_LOG_INFO, "%s", (*n)->missing);
        else
            log_print(b->log, SWD_LOG_INFO, "NCCL: version %d", version);
    }
    return !(*n)->missing[0];
}

static swd_status status_of(const cuda_nccl *n, int e, const char *what, swd_err *err)
{
    if (e == 0) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_DEVICE, "NCCL, %s: %s", what, n->text ? n->text(e) : "it failed");
}

static int device(swd_backend *b)
{
    return cuda_of(b)->device.index;
}

static swd_status make_id(swd_backend *b, void *id, swd_err *err)
{
    const cuda_nccl *n = cuda_of(b)->nccl;
    return status_of(n, n->GetUniqueId(id), "an id", err);
}

static swd_status join(swd_backend *b, const void *id, int rank, int size, swd_err *err)
{
    cuda_nccl *n = cuda_of(b)->nccl;
    nccl_id value;
    memcpy(&value, id, sizeof value);
    SWD_CUDA(cudaSetDevice(device(b)), err);
    return status_of(n, n->CommInitRank(&n->comm, size, value, rank), "joining the others", err);
}

static void leave(swd_backend *b)
{
    cuda_nccl *n = cuda_of(b)->nccl;
    if (!n || !n->comm) return;
    (void)cudaStreamSynchronize(cuda_of(b)->stream);
    (void)n->CommDestroy(n->comm);
    n->comm = NULL;
}

static swd_status sum(swd_backend *b, swd_tensor t, swd_err *err)
{
    const cuda_nccl *n = cuda_of(b)->nccl;
    return status_of(n,
                     n->AllReduce(t.data, t.data, (size_t)tensor_numel(t), NCCL_FLOATS, NCCL_SUM,
                                  n->comm, cuda_stream(b, NULL)),
                     "a sum", err);
}

static swd_status broadcast(swd_backend *b, swd_tensor t, swd_err *err)
{
    const cuda_nccl *n = cuda_of(b)->nccl;
    return status_of(
        n,
        n->Broadcast(t.data, t.data, tensor_bytes(t), NCCL_BYTES, 0, n->comm, cuda_stream(b, NULL)),
        "a broadcast", err);
}

void nccl_close(swd_backend *b)
{
    leave(b);
    free(cuda_of(b)->nccl);
    cuda_of(b)->nccl = NULL;
}

const swd_collective cuda_collective = {.name = "NCCL",
                                        .present = present,
                                        .device = device,
                                        .make_id = make_id,
                                        .join = join,
                                        .leave = leave,
                                        .sum = sum,
                                        .broadcast = broadcast};
