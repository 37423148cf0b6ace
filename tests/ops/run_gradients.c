// SPDX-License-Identifier: MIT
// Op cases in reverse on a backend, TAP.
//
//     run_gradients [BACKEND [TEXT]]     cpu if none is named, or cuda; of cases with TEXT in their names
#include "gradients.h"
#ifdef RUN_OPS_CUDA
#include "backend_cuda.h"
#endif
#include <stdio.h>
#include <string.h>

static swd_status open_backend(swd_backend **b, const char *name, swd_err *err)
{
    if (strcmp(name, "cpu") == 0) return backend_cpu_create(b, 2, err);
#ifdef RUN_OPS_CUDA
    if (strcmp(name, "cuda") == 0) return backend_cuda_create(b, 0, err);
#endif
    return SWD_FAIL(err, SWD_ERR_ARGUMENT, "no backend is called \"%s\"", name);
}

int main(int argc, char **argv)
{
    swd_backend *b;
    swd_err err = {0};
    char message[CHECK_MESSAGE_MAX];
    const char *filter = argc > 2 ? argv[2] : "";
    if (open_backend(&b, argc > 1 ? argv[1] : "cpu", &err) != SWD_OK) {
        printf("Bail out! %s\n", err.message);
        return 2;
    }
    int count = 0, failed = 0;
    case_walk w = {0};
    while (case_next(&w)) count += gradient_wanted(&w) && strstr(w.id, filter);
    printf("1..%d\n", count);
    w = (case_walk){0};
    for (int number = 0; case_next(&w);) {
        if (!gradient_wanted(&w) || !strstr(w.id, filter)) continue;
        bool good = gradient_check(message, &w, b);
        if (!good) printf("# %s\n", message);
        printf("%s %d - gradient of %s on %s\n", good ? "ok" : "not ok", ++number, w.id, b->name);
        fflush(stdout);
        failed += !good;
    }
    backend_destroy(&b);
    return failed || !count;
}
