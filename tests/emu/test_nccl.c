// SPDX-License-Identifier: MIT
// The seam to NCCL on the emulated device, with the stand-in: usage: test_nccl MODULE. One process that is told it is one of three.
#include "emu/control.h"
#include "fake_nccl.h"
#include "parallel/group.h"
#include "tap.h"
#include <dlfcn.h>
#include <unistd.h>

static swd_err error;
static const char *module;
static void (*fail)(int);
static int (*live)(void);

static void take(void *function_pointer, const char *name)
{
    void *library = dlopen(module, RTLD_NOW | RTLD_GLOBAL),
         *f = library ? dlsym(library, name) : NULL;
    CHECK(f, "%s: %s", module, dlerror());
    memcpy(function_pointer, &f, sizeof f);
}

static void sums(void)
{
    enum { N = 1000 };
    static float x[N];
    swd_backend *b;
    char id[COLLECTIVE_ID_BYTES];
    OK(backend_cuda_create(&b, 0, &error), error);
    const swd_collective *c = b->collective;
    CHECK(c && c->present(b) && c->device(b) == 0, "NCCL is not found");
    OK(c->make_id(b, id, &error), error);
    OK(c->join(b, id, 1, 3, &error), error);
    swd_tensor t = tensor1(b->alloc(b, sizeof x), SWD_F32, N);
    for (int i = 0; i < N; i++) x[i] = (float)i;
    OK(b->upload(b, t, x, NULL, &error), error);
    OK(c->sum(b, t, &error), error);
    OK(c->broadcast(b, t, &error), error);
    OK(b->download(b, x, t, NULL, &error), error);
    OK(b->synchronize(b, NULL, &error), error);
    for (int i = 0; i < N; i++) CHECK(x[i] == 3.0f * (float)i, "%d: %g", i, x[i]);
    b->release(b, t.data);
    CHECK(live() == 1, "%d", live());
    c->leave(b);
    CHECK(live() == 0, "%d", live());
    OK(c->join(b, id, 0, 1, &error), error);
    backend_destroy(&b); // leaves
    CHECK(live() == 0 && emu_live_bytes() == 0, "%d, %zu bytes", live(), emu_live_bytes());
}

// Each call that can fail does so in turn, in words.
static void failures(void)
{
    static const char *const words[] = {"NCCL, an id: a pretended",
                                        "NCCL, joining the others: a pr",
                                        "NCCL, a sum: a pretended", "NCCL, a broadcast: a preten"};
    for (int i = 0; i < 4; i++) {
        swd_backend *b;
        char id[COLLECTIVE_ID_BYTES];
        OK(backend_cuda_create(&b, 0, &error), error);
        const swd_collective *c = b->collective;
        CHECK(c->present(b), "NCCL is not found");
        swd_tensor t = tensor1(b->alloc(b, 256), SWD_F32, 64);
        fail(i + 1);
        swd_status s = c->make_id(b, id, &error);
        if (i > 0) s = c->join(b, id, 0, 1, &error);
        if (i > 1) s = c->sum(b, t, &error);
        if (i > 2) s = c->broadcast(b, t, &error);
        CHECK(s == SWD_ERR_DEVICE && strstr(error.message, words[i]), "%d: %s", s, error.message);
        b->release(b, t.data);
        backend_destroy(&b);
        CHECK(live() == 0, "%d communicators", live());
    }
}

int main(int argc, char **argv)
{
    static const tap_test tests[] = {{"sums", sums}, {"failures", failures}};
    char folder[64];
    if (argc < 2) return 2;
    module = argv[1];
    take(&fail, "fake_nccl_fail");
    take(&live, "fake_nccl_live");
    make_temporary(folder);
    CHECK(symlink(module, path_in(folder, "libnccl.so.2")) == 0, "%s", folder);
    setenv("SWD_VENDOR_LIBS", folder, 1);
    int status = tap_run(tests, 2, 1, argv);
    remove_temporary(folder);
    return status;
}
