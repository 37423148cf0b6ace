// SPDX-License-Identifier: MIT
#include "checks.h"
#include "backend_cuda.h"
#include "check.h"
#include "device.h"
#include "refuse.h"
#include "vendor/vendor.h"
#include "wrappers.h"
#include <stdio.h>
#include <string.h>

/* ---- wrappers ---- */

typedef struct telling {
    report *r;
    const options *o;
} telling;

static void tell(void *ctx, const char *name, const char *message)
{
    const telling *t = ctx;
    if (options_pass(t->o, name)) report_check(t->r, "wrappers", name, message);
}

static swd_status run_wrappers(uint32_t *words, swd_backend *b, bool e4m3, swd_err *err)
{
    uint32_t *out;
    SWD_CUDA(cudaMalloc((void **)&out, WRAPPER_WORDS * sizeof *out), err);
    swd_status st = cuda_status(wrappers_run(out, e4m3, cuda_stream(b, NULL)), "wrappers_run", err);
    if (st == SWD_OK) st = b->download(b, words, tensor1(out, SWD_I32, WRAPPER_WORDS), NULL, err);
    if (st == SWD_OK) st = b->synchronize(b, NULL, err);
    (void)cudaFree(out);
    return st;
}

void check_wrappers(report *r, const options *o, swd_backend *b, bool e4m3)
{
    static uint32_t words[WRAPPER_WORDS];
    swd_err err = {0};
    telling t = {r, o};
    if (run_wrappers(words, b, e4m3, &err) != SWD_OK)
        report_check(r, "wrappers", "run", err.message);
    else
        wrappers_compare(words, e4m3, tell, &t);
    if (!e4m3) report_skip(r, "wrappers", "mma_e4m3: the device has no e4m3 (sm_89 has)");
    report_summary(r, "wrappers");
}

/* ---- ops ---- */

// Whether to go on: after an illegal access every call fails, and what those say is worth nothing.
static bool still_there(report *r, const char *part, const char *after)
{
    if (device_alive()) return true;
    char message[CASE_ID_MAX + 64];
    snprintf(message, sizeof message, "the device was lost at %s: the cases after it were not run",
             after);
    report_check(r, part, "device", message);
    return false;
}

// What NVIDIA's libraries may do (src/cuda/vendor).
static bool is_product(const char *op)
{
    return strncmp(op, "linear", 6) == 0 || strcmp(op, "conv") == 0 || strcmp(op, "attention") == 0;
}

static bool all_cases(report *r, const char *part, bool products, const options *o, swd_backend *b)
{
    case_walk w = {0};
    char message[CHECK_MESSAGE_MAX];
    while (case_next(&w)) {
        if (w.c->size > o->size || !options_pass(o, w.id)) continue;
        if (products && !is_product(w.family->op)) continue;
        bool good = check_case(message, &w, b, o->seed, false);
        report_check(r, part, w.id, good ? NULL : message);
        if (!good && !still_there(r, part, w.id)) return false;
    }
    return true;
}

static void all_refusals(report *r, const options *o, swd_backend *b)
{
    char id[CASE_ID_MAX], message[CHECK_MESSAGE_MAX];
    for (int i = 0; i < refuse_count(); i++) {
        refuse_name(id, i);
        if (!options_pass(o, id)) continue;
        bool good = refuse_check(message, i, b);
        report_check(r, "ops", id, good ? NULL : message);
        if (!good && !still_there(r, "ops", id)) return;
    }
}

void check_ops(report *r, const options *o, swd_backend *b)
{
    if (all_cases(r, "ops", false, o, b)) all_refusals(r, o, b);
    report_summary(r, "ops");
}

void check_vendor(report *r, const options *o, swd_backend *b)
{
    swd_err err = {0};
    if (b->set_tune(b, "vendor", &err) != SWD_OK)
        report_check(r, "vendor", "setup", err.message);
    else if (vendor_cublaslt(b) || vendor_cudnn(b))
        (void)all_cases(r, "vendor", true, o, b);
    else
        report_skip(r, "vendor", "neither cuBLASLt nor cuDNN is to be had");
    (void)b->set_tune(b, "ours", NULL);
    report_summary(r, "vendor");
}
