// SPDX-License-Identifier: MIT
// gpu_check: is the CUDA backend right, and how fast, on the GPU of this machine? See --help and docs/gpu-check.md.
#include "backend_cuda.h"
#include "bench.h"
#include "checks.h"
#include "device.h"
#include "options.h"
#include "report.h"
#include "sanitize.h"
#include "sums.h"
#include "training.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAILED = 1, USAGE = 2, SKIPPED = 77 };

#ifdef GPU_CHECK_EMULATED
static const bool emulated = true;
#else
static const bool emulated = false;
#endif

static void run_parts(report *r, const options *o, const device *d, swd_backend *b)
{
    if (o->wrappers) check_wrappers(r, o, b, d->major * 10 + d->minor >= 89);
    if (o->ops) check_ops(r, o, b);
    if (o->ops && !(o->vendor && strcmp(o->vendor, "none") == 0)) check_vendor(r, o, b);
    if (o->training) check_training(r, o, b);
    if (o->training) check_sums(r, o, b);
    if (o->bench) bench_shapes(r, o, d, b);
}

static swd_status on_device(report *r, const options *o, swd_err *err)
{
    device d;
    swd_backend *b;
    SWD_TRY(device_open(&d, o->device, err), err);
    if (o->sanitize) { // the device is left to the child
        device_report(&d, r);
        device_close(&d);
        sanitize(r, o);
        return SWD_OK;
    }
    if (o->vendor) (void)setenv("SWD_VENDOR_LIBS", o->vendor, 1);
    swd_status st = backend_cuda_create(&b, o->device, err);
    if (st == SWD_OK)
        st = b->set_tune(b, "ours",
                         err); // the libraries are compared with, and checked by themselves
    if (st == SWD_OK) {
        printf("gpu_check: %s%s\n", b->device, emulated ? ": times mean nothing" : "");
        device_report(&d, r);
        if (emulated) report_fact(r, "emulated", "times mean nothing");
        run_parts(r, o, &d, b);
        backend_destroy(&b);
    }
    device_close(&d);
    return st;
}

// The exit status; the report is written even where something failed.
static int finish(const report *r, const options *o, swd_status st, swd_err *err)
{
    if (st == SWD_OK && o->out) st = report_write(r, o->out, err);
    if (st != SWD_OK) {
        fprintf(stderr, "gpu_check: error: %s\n", err->message);
        return FAILED;
    }
    if (report_checks(r) + report_results(r) == 0) {
        fprintf(stderr, "gpu_check: error: nothing passes the filter\n");
        return USAGE;
    }
    int failures = report_failures(r);
    if (o->out) printf("gpu_check: the report is in %s\n", o->out);
    if (failures)
        printf("gpu_check: %d of %d checks failed\n", failures, report_checks(r));
    else
        puts("gpu_check: all is well");
    return failures ? FAILED : 0;
}

int main(int argc, char **argv)
{
    options o;
    swd_err err = {0};
    report *r;
    char why[128];
    parsed p = options_parse(&o, argc, argv, emulated);
    if (p != PARSED) return p == PARSED_HELP ? 0 : USAGE;
    if (o.expect) {
        bench_expect();
        return 0;
    }
    int n = device_count(why, sizeof why);
    if (n == 0) {
        printf("gpu_check: no CUDA device here (%s): nothing was checked\n", why);
        return SKIPPED;
    }
    if (o.device >= n) {
        fprintf(stderr, "gpu_check: error: device %d: there %s %d\n", o.device,
                n == 1 ? "is" : "are", n);
        return USAGE;
    }
    swd_status st = report_open(&r, "gpu_check", o.tiny, &err);
    if (st == SWD_OK) st = on_device(r, &o, &err);
    int status = finish(r, &o, st, &err);
    report_close(&r);
    return status;
}
