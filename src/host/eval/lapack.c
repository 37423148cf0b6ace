// SPDX-License-Identifier: MIT
#include "eval/lapack.h"
#include "base/memory.h"
#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>

// Fortran: everything by reference; the lengths of the character arguments come last.
typedef void (*dsyevd_fn)(const char *jobz, const char *uplo, const int *n, double *a,
                          const int *lda, double *w, double *work, const int *lwork, int *iwork,
                          const int *liwork, int *info, size_t jobz_length, size_t uplo_length);
typedef void (*dgemm_fn)(const char *transa, const char *transb, const int *m, const int *n,
                         const int *k, const double *alpha, const double *a, const int *lda,
                         const double *b, const int *ldb, const double *beta, double *c,
                         const int *ldc, size_t transa_length, size_t transb_length);

static struct {
    dsyevd_fn dsyevd;
    dgemm_fn dgemm;
} routine;
static pthread_once_t looked = PTHREAD_ONCE_INIT;

static void look(void)
{
    void *library = dlopen("liblapack.so.3", RTLD_NOW | RTLD_LOCAL); // stays open
    if (!library) return;
    *(void **)&routine.dsyevd = dlsym(library, "dsyevd_");
    *(void **)&routine.dgemm = dlsym(library, "dgemm_"); // of the BLAS that it needs
}

static swd_status find(swd_err *err)
{
    pthread_once(&looked, look);
    if (routine.dsyevd && routine.dgemm) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                    "no LAPACK (liblapack.so.3) for the Frechet distance; install liblapack3");
}

swd_status lapack_eigh(double *values, double *a, int n, bool vectors, swd_err *err)
{
    SWD_TRY(find(err), err);
    for (size_t i = 0; i < (size_t)n * (size_t)n; i++)
        if (!isfinite(a[i]))
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a covariance that holds NaN or infinity");
    const char *job = vectors ? "V" : "N";
    int ask = -1, info = 0, n_ints = 0;
    double room = 0, *work = NULL;
    int *ints = NULL;
    routine.dsyevd(job, "U", &n, a, &n, values, &room, &ask, &n_ints, &ask, &info, 1, 1);
    if (room > INT_MAX)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "eigenvalues of %d x %d: more than LAPACK's integers count", n, n);
    int n_work = (int)room;
    swd_status s = swd_malloc(&work, (size_t)n_work, sizeof(*work), "eigenvalues", err);
    if (s == SWD_OK) s = swd_malloc(&ints, (size_t)n_ints, sizeof(*ints), "eigenvalues", err);
    if (s == SWD_OK) {
        routine.dsyevd(job, "U", &n, a, &n, values, work, &n_work, ints, &n_ints, &info, 1, 1);
        if (info != 0)
            s = SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                         "the eigenvalues of a covariance do not converge");
    }
    free(work);
    free(ints);
    return s;
}

swd_status lapack_multiply(double *c, const double *a, const double *b, bool transpose_b, int n,
                           swd_err *err)
{
    double one = 1, zero = 0;
    SWD_TRY(find(err), err);
    routine.dgemm("N", transpose_b ? "T" : "N", &n, &n, &n, &one, a, &n, b, &n, &zero, c, &n, 1, 1);
    return SWD_OK;
}
