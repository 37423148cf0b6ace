// SPDX-License-Identifier: MIT
// The CUDA backend on the emulated device: memory, copies, errors.
#include "backend_cuda.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static swd_err error;
static swd_backend *backend;

static void setup(void)
{
    cr_assert_eq(backend_cuda_create(&backend, 0, &error), SWD_OK, "%s", error.message);
}

static void teardown(void)
{
    backend_destroy(&backend);
}

Test(backend, copies, .init = setup, .fini = teardown)
{
    enum { N = 1000 };
    float *in = malloc(N * sizeof *in), *out = malloc(N * sizeof *out);
    for (int i = 0; i < N; i++) in[i] = (float)i;
    void *p = backend->alloc(backend, N * sizeof(float));
    cr_assert_not_null(p);
    cr_assert_eq((uintptr_t)p % 64, 0);
    swd_tensor t = tensor1(p, SWD_F32, N);
    cr_assert_eq(backend->upload(backend, t, in, NULL, &error), SWD_OK);
    memset(in, 0, N * sizeof *in); // the source was taken
    cr_assert_eq(backend->download(backend, out, t, NULL, &error), SWD_OK);
    cr_assert_eq(backend->synchronize(backend, NULL, &error), SWD_OK);
    for (int i = 0; i < N; i++) cr_assert_eq(out[i], (float)i);
    backend->release(backend, p);
    free(in);
    free(out);
}

Test(backend, views)
{
    float x[24];
    k_view v = cuda_view(tensor_slice(tensor3(x, SWD_F32, 2, 3, 4), 1, 1, 2));
    cr_assert_eq(v.data, x + 4);
    cr_assert_eq(v.dtype, K_F32);
    cr_assert_eq(v.stride[0], 12);
    cr_assert_eq(v.stride[1], 4);
    cr_assert_null(cuda_view(tensor_none()).data);
    cr_assert_eq(cuda_dtype(SWD_BF16), K_BF16);
    cr_assert_eq(cuda_dtype(SWD_F16), K_F16);
}

Test(backend, no_such_device)
{
    cr_assert_eq(backend_cuda_create(&backend, 1, &error), SWD_ERR_DEVICE);
    cr_assert_null(backend);
    cr_assert_str_eq(error.message, "device cuda:1 is not there; the only one is cuda:0");
}

Test(backend, more_than_there_is, .init = setup, .fini = teardown)
{
    cr_assert_null(backend->alloc(backend, (size_t)1 << 40));
    void *p = backend->alloc(backend, 16); // the error does not stay
    cr_assert_not_null(p);
    backend->release(backend, p);
}
