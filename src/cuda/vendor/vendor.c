// SPDX-License-Identifier: MIT
#include "vendor/vendor.h"
#include "base/memory.h"
#include "vendor/gemm.h"
#include "vendor/graph_choice.h"
#include <stdio.h>
#include <string.h>
#include <swd/swd.h>

// A library takes the work only where it is clearly faster: otherwise noise would decide.
static const double clearly = 0.98;
enum { KERNELS = 1 }; // changes when ours do, so that choices are made anew

static cuda_vendor *vendor_of(swd_backend *b)
{
    return cuda_of(b)->vendor;
}

void vendor_say(swd_backend *b, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    if (!b->log) return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    log_print(b->log, SWD_LOG_INFO, "%s", text);
}

/* ---- opening ---- */

swd_status vendor_set_mode(swd_backend *b, const char *mode, swd_err *err)
{
    static const char *const names[] = {"measure", "thorough", "off", "ours", "vendor"};
    for (int i = 0; i < 5; i++)
        if (strcmp(mode, names[i]) == 0) {
            cuda_vendor *v = vendor_of(b);
            v->mode = (vendor_mode)i;
            v->looked = v->lt || v->dnn;
            return SWD_OK;
        }
    return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                    "tune: \"%s\" is not known; use measure, thorough, off, ours or vendor", mode);
}

swd_status vendor_open(swd_backend *b, swd_err *err)
{
    const char *mode = getenv("SWD_TUNE");
    cuda_vendor *v;
    SWD_TRY(swd_calloc(&v, 1, sizeof *v, "the choice of kernels", err), err);
    cuda_of(b)->vendor = v;
    return mode && *mode ? vendor_set_mode(b, mode, err) : SWD_OK;
}

void vendor_close(swd_backend *b)
{
    cuda_vendor *v = vendor_of(b);
    if (!v) return;
    graph_choices_free(&v->graphs);
    vendor_gemms_free(&v->gemms);
    cudnn_close(&v->dnn);
    cublaslt_close(&v->lt);
    tune_close(&v->tune);
    free(v);
    cuda_of(b)->vendor = NULL;
}

static void read_choices(cuda_vendor *v, swd_backend *b)
{
    const cuda_device *d = &cuda_of(b)->device;
    char identity[384], note[1024];
    int runtime = 0;
    (void)cudaRuntimeGetVersion(&runtime);
    snprintf(identity, sizeof identity,
             "%s, sm_%d%d, %d SMs, %zu MiB, driver %d, runtime %d, cuBLASLt %zu, cuDNN %zu, "
             "swd %s, kernels %d",
             d->name, d->major, d->minor, d->sm_count, d->bytes_total >> 20, d->driver, runtime,
             v->lt ? cublaslt_version(v->lt) : 0, v->dnn ? cudnn_version(v->dnn) : 0, SWD_VERSION,
             KERNELS);
    if (tune_open(&v->tune, identity, note, sizeof note, NULL) != SWD_OK)
        snprintf(note, sizeof note, "choices are not kept: no memory");
    if (note[0]) vendor_say(b, "%s", note);
    if (v->tune.n) vendor_say(b, "%zu choices from %s", v->tune.n, v->tune.path);
}

// No library is no failure, and one that fails to load is none.
static void look(swd_backend *b)
{
    cuda_vendor *v = vendor_of(b);
    char found[1200];
    v->looked = true;
    if (v->mode == VENDOR_OURS) return;
    if (cublaslt_open(&v->lt, found, sizeof found, NULL, NULL) != SWD_OK)
        snprintf(found, sizeof found, "no memory");
    vendor_say(b, "cuBLASLt: %s%s", found, v->lt ? "" : "; our kernels do its work");
    if (cudnn_open(&v->dnn, found, sizeof found, NULL, NULL) !=
        SWD_OK) // after cuBLASLt, which it wants
        snprintf(found, sizeof found, "no memory");
    vendor_say(b, "cuDNN: %s%s", found, v->dnn ? "" : "; our kernels do its work");
    if ((v->lt || v->dnn) && v->mode != VENDOR_VENDOR) read_choices(v, b);
}

cudnn *vendor_cudnn(swd_backend *b)
{
    if (!vendor_of(b)->looked) look(b);
    return vendor_of(b)->mode == VENDOR_OURS ? NULL : vendor_of(b)->dnn;
}

bool vendor_compiles(swd_backend *b)
{
    return vendor_of(b)->mode == VENDOR_THOROUGH || vendor_of(b)->mode == VENDOR_VENDOR;
}

cublaslt *vendor_cublaslt(swd_backend *b)
{
    if (!vendor_of(b)->looked) look(b);
    return vendor_of(b)->mode == VENDOR_OURS ? NULL : vendor_of(b)->lt;
}

/* ---- failures ---- */

bool vendor_may_choose(swd_backend *b)
{
    const cuda_vendor *v = vendor_of(b);
    return !v->capturing && !cuda_planning(b) && v->failed.status == SWD_OK;
}

void vendor_failed(swd_backend *b, const swd_err *err)
{
    vendor_of(b)->failed = *err;
}

swd_status vendor_told(swd_backend *b, swd_err *err)
{
    swd_err *failed = &vendor_of(b)->failed;
    if (failed->status == SWD_OK) return SWD_OK;
    swd_status s = SWD_FAIL(err, failed->status, "%s", failed->message);
    swd_err_clear(failed);
    return s;
}

/* ---- choosing ---- */

// For this key from now on; on disk, too, where choices are kept there.
static swd_status remember(const vendor_contest *c, int winner, swd_backend *b, swd_err *err)
{
    char note[1024];
    SWD_TRY(tune_add(&vendor_of(b)->tune, c->key, c->choice[winner], note, sizeof note, err), err);
    if (note[0]) vendor_say(b, "%s", note);
    return SWD_OK;
}

static swd_status first_that_can(int *winner, const vendor_contest *c, swd_backend *b, swd_err *err)
{
    bool can = false;
    for (int i = 1; i < c->n && !can; i++) {
        SWD_TRY(measure_can(&can, i, c->run, c->arg, b, err), err);
        if (can) *winner = i;
    }
    return remember(c, *winner, b, err);
}

static swd_status fastest(int *winner, const vendor_contest *c, swd_backend *b, swd_err *err)
{
    double us[MEASURE_MAX];
    int best = 0;
    SWD_TRY(measure_times(us, c->n, c->run, c->arg, b, err), err);
    for (int i = 1; i < c->n; i++)
        if (us[i] >= 0 && (best == 0 || us[i] < us[best])) best = i;
    const char *theirs = c->choice[best];
    const int word = (int)strcspn(theirs, " ");
    if (best && us[0] >= 0 && us[best] > clearly * us[0]) {
        vendor_say(b, "%s: ours, %.1f us (%.*s %.1f us)", c->key, us[0], word, theirs, us[best]);
        best = 0;
    } else if (best) {
        vendor_say(b, "%s: %.*s, %.1f us (ours %.1f us)", c->key, word, theirs, us[best], us[0]);
    }
    *winner = best;
    return remember(c, best, b, err);
}

swd_status vendor_choose(int *winner, const vendor_contest *c, swd_backend *b, swd_err *err)
{
    const cuda_vendor *v = vendor_of(b);
    *winner = 0;
    const char *known = tune_find(&v->tune, c->key);
    for (int i = 0; known && i < c->n; i++)
        if (strcmp(known, c->choice[i]) == 0) *winner = i;
    if (known || v->mode == VENDOR_OFF || c->n < 2) return SWD_OK;
    swd_status s = c->prepare(c->arg, err);
    if (s == SWD_OK)
        s = v->mode == VENDOR_VENDOR ? first_that_can(winner, c, b, err)
                                     : fastest(winner, c, b, err);
    c->finish(c->arg);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}
