// SPDX-License-Identifier: MIT
#include "training.h"
#include "backend_cuda.h"
#include "device.h"
#include "gradients.h"
#include "vendor/vendor.h"
#include <stdio.h>
#include <string.h>

// Whether to go on.
static bool gradients(report *r, const char *part, const char *only, const options *o,
                      swd_backend *b)
{
    case_walk w = {0};
    char message[CHECK_MESSAGE_MAX], name[CASE_ID_MAX + 32];
    while (case_next(&w)) {
        snprintf(name, sizeof name, "gradient of %s", w.id);
        if (!gradient_wanted(&w) || !strstr(w.id, only) || !options_pass(o, name)) continue;
        bool good = gradient_check(message, &w, b);
        report_check(r, part, name, good ? NULL : message);
        if (good || device_alive()) continue;
        report_check(r, part, "device", "the device was lost: what comes after it was not run");
        return false;
    }
    return true;
}

void check_training(report *r, const options *o, swd_backend *b)
{
    static const char libraries[] = "training by vendor";
    swd_err err = {0};
    bool go_on = gradients(r, "training", "", o, b);
    report_summary(r, "training");
    if (!go_on || (o->vendor && strcmp(o->vendor, "none") == 0)) return;
    if (b->set_tune(b, "vendor", &err) != SWD_OK)
        report_check(r, libraries, "setup", err.message);
    else if (vendor_cublaslt(b))
        (void)gradients(r, libraries, "linear", o, b);
    else
        report_skip(r, libraries, "cuBLASLt is not to be had");
    (void)b->set_tune(b, "ours", NULL);
    report_summary(r, libraries);
}
