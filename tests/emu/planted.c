// SPDX-License-Identifier: MIT
// emu_planted CASE good|bad: runs one case without or with its bug. 0: the right result, 3: a wrong one, 4: an error from the
// runtime; the emulator or a sanitizer ends it otherwise. `emu_planted` alone lists the cases. (test_planted.sh judges.)
#include "planted.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 256, WRONG = 3, ERROR = 4 };
enum result {
    REVERSED,
    TILES,
    ROTATED,
    QUARTER,
    FIRST_32,
    COPIED,
    SWAPPED,
    HALF_SWAPPED,
    WARP_SUMS,
    REVERSED_64,
    EVERY_4TH,
    TWOS,
    TOTAL,
    FOUR
};

// x[i] = i: every sum is exact.
static float expected(enum result r, int t)
{
    switch (r) {
    case REVERSED:
        return (float)(N - 1 - t);
    case TILES: // 4 tiles: sum of i N + (t + N / 2) % N
        return (float)(6 * N + 4 * ((t + N / 2) % N));
    case ROTATED:
        return (float)((t & ~31) | ((t + 1) & 31));
    case QUARTER:
        return (float)(t % (N / 4));
    case FIRST_32:
        return (float)(t % 32);
    case SWAPPED:
        return (float)(t ^ 1);
    case HALF_SWAPPED:
        return (float)(t % 32 < 16 ? t ^ 1 : t);
    case WARP_SUMS:
        return (float)(t / 32 * 32 * 32 + 31 * 16);
    case REVERSED_64:
        return (float)(t < 64 ? 63 - t : t);
    case EVERY_4TH:
        return (float)(4 * t);
    case TWOS:
        return 2.0f;
    case TOTAL: // 0 + .. + 1023 in y[0], the rest untouched
        return t == 0 ? 1023.0f * 512.0f : 0.0f;
    case FOUR: // y[0..3] = x[0]
    default:
        return r == COPIED ? (float)t : 0.0f;
    }
}

static void ok(cudaError_t e)
{
    if (e == cudaSuccess) return;
    printf("the runtime says: %s\n", cudaGetErrorString(e));
    exit(ERROR);
}

static float host[4 * N];

static int compare(const float *y, enum result r, int n)
{
    for (int t = 0; t < n; t++)
        if (!(y[t] == expected(r, t))) {
            printf("wrong result: y[%d] = %g, not %g\n", t, y[t], expected(r, t));
            return WRONG;
        }
    return 0;
}

typedef cudaError_t launcher(float *y, const float *x, bool bug, cudaStream_t s);

static int run_kernel(launcher *f, enum result r, bool bug)
{
    float *x, *y, *out = malloc(N * sizeof *out);
    ok(cudaMalloc((void **)&x, sizeof host));
    ok(cudaMalloc((void **)&y, N * sizeof *y));
    ok(cudaMemcpy(x, host, sizeof host, cudaMemcpyHostToDevice));
    ok(cudaMemset(y, 0, N * sizeof *y));
    ok(f(y, x, bug, NULL));
    ok(cudaMemcpy(out, y, N * sizeof *y, cudaMemcpyDeviceToHost));
    int bad = compare(out, r, N);
    ok(cudaFree(x));
    ok(cudaFree(y));
    free(out);
    return bad;
}

// ---- bugs in host code: everything on two streams, y = x ----

static float *x, *y, *pinned;
static cudaStream_t a, b;
static cudaEvent_t event;

static void host_setup(void)
{
    ok(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    ok(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    ok(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    ok(cudaMalloc((void **)&x, sizeof host));
    ok(cudaMalloc((void **)&y, N * sizeof *y));
    ok(cudaMallocHost((void **)&pinned, N * sizeof *y));
}

static int finish(cudaStream_t s)
{
    ok(cudaMemcpyAsync(pinned, y, N * sizeof *y, cudaMemcpyDeviceToHost, s));
    ok(cudaStreamSynchronize(s));
    return compare(pinned, COPIED, N);
}

static void upload(cudaStream_t s)
{
    ok(cudaMemcpyAsync(x, host, sizeof host, cudaMemcpyHostToDevice, s));
}

static int missing_event(bool bug)
{
    upload(a);
    ok(cudaEventRecord(event, a));
    if (!bug) ok(cudaStreamWaitEvent(b, event, 0));
    ok(planted_copy(y, x, b));
    return finish(b);
}

static int event_too_early(bool bug)
{
    if (bug) ok(cudaEventRecord(event, a));
    upload(a);
    if (!bug) ok(cudaEventRecord(event, a));
    ok(cudaStreamWaitEvent(b, event, 0));
    ok(planted_copy(y, x, b));
    return finish(b);
}

static int missing_synchronize(bool bug)
{
    upload(a);
    ok(planted_copy(y, x, a));
    ok(cudaMemcpyAsync(pinned, y, N * sizeof *y, cudaMemcpyDeviceToHost, a));
    if (!bug) ok(cudaStreamSynchronize(a));
    return compare(pinned, COPIED, N);
}

static int source_changed(bool bug)
{
    memcpy(pinned, host, N * sizeof *pinned);
    ok(cudaMemcpyAsync(x, pinned, N * sizeof *pinned, cudaMemcpyHostToDevice, a));
    if (!bug) ok(cudaStreamSynchronize(a));
    memset(pinned, 0, N * sizeof *pinned);
    ok(planted_copy(y, x, a));
    return finish(a);
}

static int unset_global(bool bug)
{
    if (!bug) upload(a);
    ok(planted_copy(y, x, a));
    return finish(a);
}

static int host_reads(bool bug)
{
    upload(a);
    ok(planted_copy(y, x, a));
    int bad = finish(a);
    return bug ? bad + (y[3] > 0.0f) : bad;
}

static int host_writes(bool bug)
{
    upload(a);
    if (bug) x[0] = 0.0f;
    ok(planted_copy(y, x, a));
    return finish(a);
}

static int use_after_free(bool bug)
{
    float *z;
    ok(cudaMallocAsync((void **)&z, N * sizeof *z, a));
    upload(a);
    if (bug) ok(cudaFreeAsync(z, a));
    ok(planted_copy(z, x, a));
    ok(planted_copy(y, z, a));
    if (!bug) ok(cudaFreeAsync(z, a));
    return finish(a);
}

static int use_before_allocation(bool bug)
{
    float *z;
    upload(b);
    ok(cudaMallocAsync((void **)&z, N * sizeof *z, a));
    ok(cudaEventRecord(event, a));
    if (!bug) ok(cudaStreamWaitEvent(b, event, 0));
    ok(planted_copy(z, x, b));
    ok(planted_copy(y, z, b));
    int bad = finish(b);
    ok(cudaFreeAsync(z, b));
    ok(cudaStreamSynchronize(b));
    return bad;
}

static int double_free(bool bug)
{
    float *z;
    ok(cudaMalloc((void **)&z, 16));
    ok(cudaFree(z));
    if (bug) ok(cudaFree(z));
    return 0;
}

static int host_argument(bool bug)
{
    upload(a);
    ok(planted_copy(y, bug ? host : x, a));
    return finish(a);
}

static int host_pointer_in_struct(bool bug)
{
    upload(a);
    ok(planted_struct((planted_pair){y, bug ? host : x}, a));
    return finish(a);
}

static int freed_argument(bool bug)
{
    float *z;
    ok(cudaMalloc((void **)&z, sizeof host));
    ok(cudaMemcpy(z, host, sizeof host, cudaMemcpyHostToDevice));
    if (bug) ok(cudaFree(z));
    ok(planted_copy(y, z, a));
    int bad = finish(a);
    ok(cudaFree(z));
    return bad;
}

static int copy_too_long(bool bug)
{
    upload(a);
    ok(planted_copy(y, x, a));
    ok(cudaMemcpyAsync(pinned, y, (N + (bug ? 1u : 0u)) * sizeof *y, cudaMemcpyDeviceToHost, a));
    return finish(a);
}

static int copy_kind(bool bug)
{
    ok(cudaMemcpyAsync(x, host, sizeof host,
                       bug ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice, a));
    ok(planted_copy(y, x, a));
    return finish(a);
}

// Written within the last 256 bytes, which only padding shares: without ASan it shows at the free.
static int write_into_padding(bool bug)
{
    float *z;
    ok(cudaMalloc((void **)&z, (N - (bug ? 1u : 0u)) * sizeof *z));
    upload(a);
    ok(planted_copy(z, x, a));
    ok(cudaStreamSynchronize(a));
    ok(cudaFree(z));
    return 0;
}

static int last_block(bool bug)
{
    unsigned *count;
    ok(cudaMalloc((void **)&count, sizeof *count));
    ok(cudaMemsetAsync(count, 0, sizeof *count, a));
    ok(planted_last_block(y, x, count, bug, a));
    ok(cudaMemcpyAsync(pinned, y, sizeof *y, cudaMemcpyDeviceToHost, a));
    ok(cudaStreamSynchronize(a));
    ok(cudaFree(count));
    return pinned[0] == 8.0f ? 0 : WRONG;
}

static int graph_fork(bool bug) // without the event a node of the fork may run first
{
    cudaGraph_t g;
    cudaGraphExec_t exec;
    float *z;
    ok(cudaMalloc((void **)&z, sizeof host));
    upload(a);
    ok(cudaStreamSynchronize(a));
    ok(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    if (bug) ok(cudaEventRecord(event, a));
    ok(planted_copy(z, x, a));
    if (!bug) ok(cudaEventRecord(event, a));
    ok(cudaStreamWaitEvent(b, event, 0));
    ok(planted_copy(y, z, b));
    ok(cudaEventRecord(event, b));
    ok(cudaStreamWaitEvent(a, event, 0));
    ok(cudaStreamEndCapture(a, &g));
    ok(cudaGraphInstantiate(&exec, g, 0));
    ok(cudaGraphDestroy(g));
    ok(cudaGraphLaunch(exec, a));
    int bad = finish(a);
    ok(cudaGraphExecDestroy(exec));
    ok(cudaFree(z));
    return bad;
}

static int graph_unjoined(bool bug)
{
    cudaGraph_t g;
    ok(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    ok(cudaEventRecord(event, a));
    ok(cudaStreamWaitEvent(b, event, 0));
    ok(planted_copy(y, x, b));
    ok(cudaEventRecord(event, b));
    if (!bug) ok(cudaStreamWaitEvent(a, event, 0));
    ok(cudaStreamEndCapture(a, &g));
    ok(cudaGraphDestroy(g));
    return 0;
}

static int synchronize_in_capture(bool bug)
{
    cudaGraph_t g;
    ok(cudaStreamBeginCapture(a, cudaStreamCaptureModeThreadLocal));
    ok(planted_copy(y, x, a));
    if (bug) ok(cudaStreamSynchronize(a));
    ok(cudaStreamEndCapture(a, &g));
    ok(cudaGraphDestroy(g));
    return 0;
}

static void free_in_callback(void *p)
{
    (void)cudaFree(p);
}

static int call_in_callback(bool bug)
{
    float *z;
    upload(a);
    ok(cudaMalloc((void **)&z, 16));
    if (bug) ok(cudaLaunchHostFunc(a, free_in_callback, z));
    ok(planted_copy(y, x, a));
    return finish(a);
}

#define HOST_CASES(X)                                                                              \
    X(missing_event)                                                                               \
    X(event_too_early)                                                                             \
    X(missing_synchronize)                                                                         \
    X(source_changed)                                                                              \
    X(unset_global)                                                                                \
    X(host_reads)                                                                                  \
    X(host_writes)                                                                                 \
    X(use_after_free)                                                                              \
    X(use_before_allocation)                                                                       \
    X(double_free)                                                                                 \
    X(host_argument)                                                                               \
    X(host_pointer_in_struct)                                                                      \
    X(freed_argument)                                                                              \
    X(copy_too_long)                                                                               \
    X(copy_kind)                                                                                   \
    X(write_into_padding)                                                                          \
    X(last_block)                                                                                  \
    X(graph_fork)                                                                                  \
    X(graph_unjoined)                                                                              \
    X(synchronize_in_capture)                                                                      \
    X(call_in_callback)

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        launcher *kernel;
        enum result result;
        int (*host)(bool bug);
    } cases[] = {
#define X(name, result) {#name, planted_##name, result, NULL},
        PLANTED_KERNELS(X)
#undef X
#define X(name) {#name, NULL, COPIED, name},
            HOST_CASES(X)
#undef X
    };
    const size_t n = sizeof cases / sizeof *cases;
    for (size_t i = 0; argc == 1 && i < n; i++) puts(cases[i].name);
    if (argc != 3) return argc == 1 ? 0 : 2;
    bool bug = strcmp(argv[2], "bad") == 0;
    for (int i = 0; i < 4 * N; i++) host[i] = (float)i;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(cases[i].name, argv[1]) != 0) continue;
        if (cases[i].kernel) return run_kernel(cases[i].kernel, cases[i].result, bug);
        host_setup();
        return cases[i].host(bug);
    }
    printf("no case %s\n", argv[1]);
    return 2;
}
