// SPDX-License-Identifier: MIT
// The emulated runtime does what NVIDIA's does where the planted bugs do not look: errors that stay and errors that go, copies of
// rectangles, an instantiated graph that takes another capture's arguments. test_overlap.c and test_faults.c do the rest.
#include "emu/control.h"
#include "tap.h"

#define FINE(call) CHECK((call) == cudaSuccess, #call)

static void errors(void)
{
    float *p = NULL, *more = NULL;
    FINE(cudaMalloc((void **)&p, 16));
    CHECK(cudaMalloc((void **)&more, (size_t)1 << 50) == cudaErrorMemoryAllocation, "too much");
    CHECK(cudaPeekAtLastError() == cudaErrorMemoryAllocation, "a look leaves the error");
    CHECK(cudaGetLastError() == cudaErrorMemoryAllocation,
          "the error is kept until it is asked for");
    FINE(cudaGetLastError());   // and gone then
    FINE(cudaMemset(p, 0, 16)); // what was there is whole

    emu_break_device(cudaErrorIllegalAddress); // as a kernel that faulted leaves it
    CHECK(cudaMemset(p, 0, 16) == cudaErrorIllegalAddress, "a broken device");
    for (int i = 0; i < 2; i++)
        CHECK(cudaGetLastError() == cudaErrorIllegalAddress, "no question takes this error away");
    CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress, "nor does waiting");
    emu_break_device(cudaSuccess); // another device, so to speak
    (void)cudaGetLastError();
    FINE(cudaGetLastError());
    FINE(cudaFree(p));
}

enum { ROWS = 3, WIDTH = 5, PITCH = 8 };

static void rectangles(void)
{
    unsigned char from[ROWS * WIDTH], to[ROWS * PITCH], *device = NULL;
    for (int i = 0; i < ROWS * WIDTH; i++) from[i] = (unsigned char)(i + 1);
    memset(to, 0xee, sizeof to);
    FINE(cudaMalloc((void **)&device, ROWS * PITCH));
    FINE(cudaMemset(device, 0, ROWS * PITCH));
    FINE(cudaMemcpy2D(device, PITCH, from, WIDTH, WIDTH, ROWS, cudaMemcpyHostToDevice));
    FINE(cudaMemset2DAsync(device + WIDTH, PITCH, 0x77, 1, ROWS, NULL));
    FINE(cudaMemcpy(to, device, sizeof to, cudaMemcpyDeviceToHost));
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < PITCH; c++) {
            int expected = c < WIDTH ? r * WIDTH + c + 1 : c == WIDTH ? 0x77 : 0;
            CHECK(to[r * PITCH + c] == expected, "row %d, byte %d: %d", r, c, to[r * PITCH + c]);
        }
    CHECK(cudaMemcpy2D(device, WIDTH - 1, from, WIDTH, WIDTH, ROWS, cudaMemcpyHostToDevice) ==
              cudaErrorInvalidPitchValue,
          "rows that overlap");
    FINE(cudaFree(device));
}

static cudaGraph_t capture(cudaStream_t stream, unsigned char *to, int value, int times)
{
    cudaGraph_t graph;
    FINE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < times; i++) FINE(cudaMemsetAsync(to + i, value + i, 1, stream));
    FINE(cudaStreamEndCapture(stream, &graph));
    return graph;
}

static void expect_bytes(const unsigned char *device, int a, int b)
{
    unsigned char host[2];
    FINE(cudaMemcpy(host, device, 2, cudaMemcpyDeviceToHost));
    CHECK(host[0] == a && host[1] == b, "%d %d, expected %d %d", host[0], host[1], a, b);
}

static void graph_update(void)
{
    cudaStream_t stream;
    cudaGraphExec_t exec;
    cudaGraphExecUpdateResultInfo info;
    unsigned char *device = NULL;
    FINE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    FINE(cudaMalloc((void **)&device, 2));
    FINE(cudaMemset(device, 0, 2));
    cudaGraph_t first = capture(stream, device, 1, 2), second = capture(stream, device, 11, 2),
                longer = capture(stream, device, 21, 1);
    expect_bytes(device, 0, 0); // what is recorded does not run
    FINE(cudaGraphInstantiate(&exec, first, 0));
    FINE(cudaGraphLaunch(exec, stream));
    FINE(cudaGraphExecUpdate(exec, second, &info)); // the launch under way keeps its own
    FINE(cudaStreamSynchronize(stream));
    expect_bytes(device, 1, 2);
    FINE(cudaGraphLaunch(exec, stream));
    FINE(cudaStreamSynchronize(stream));
    expect_bytes(device, 11, 12);
    CHECK(cudaGraphExecUpdate(exec, longer, &info) == cudaErrorGraphExecUpdateFailure &&
              info.result == cudaGraphExecUpdateErrorTopologyChanged,
          "a graph of other nodes is no update");
    FINE(cudaGetLastError() == cudaErrorGraphExecUpdateFailure ? cudaSuccess : cudaErrorUnknown);
    FINE(cudaGraphLaunch(exec, stream)); // and leaves what was there
    FINE(cudaStreamSynchronize(stream));
    expect_bytes(device, 11, 12);
    FINE(cudaGraphExecDestroy(exec));
    const cudaGraph_t graphs[] = {first, second, longer};
    for (int i = 0; i < 3; i++) FINE(cudaGraphDestroy(graphs[i]));
    FINE(cudaFree(device));
    FINE(cudaStreamDestroy(stream));
    CHECK(emu_live_bytes() == 0, "%zu bytes are left", emu_live_bytes());
}

int main(int argc, char **argv)
{
    static const tap_test tests[] = {
        {"errors", errors},
        {"rectangles", rectangles},
        {"graph update", graph_update},
    };
    return tap_run(tests, sizeof tests / sizeof *tests, argc, argv);
}
