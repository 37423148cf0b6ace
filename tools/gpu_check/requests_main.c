// SPDX-License-Identifier: MIT
// request_check: whole requests and iterations of training on the GPU of this machine; see --help and docs/gpu-check.md.
#include "learning.h"
#include "requests.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swd/swd.h>

enum { FAILED = 1, USAGE = 2, SKIPPED = 77 };

// clang-format off
static const char help[] =
    "request_check: does this machine's GPU make the CPU's pictures, learn as it does, and how fast?\n"
    "\n"
    "  request_check --out report             the bundled model\n"
    "  request_check -m MODEL --many 100      another one\n"
    "\n"
    "  -m, --model DIR  a diffusers folder (default: the bundled model)\n"
    "  --device N       which GPU (default 0)\n"
    "  --many N         pictures of one call that must fit the memory of four (default 1000)\n"
    "  --size N         their side in pixels (default: the model's)\n"
    "  --at-once N      pictures of one call, timed beside as many calls of one (default 16)\n"
    "  --runs N         rounds of what is timed (default 5)\n"
    "  --out DIR        request_check.json and request_check.md go there\n"
    "\n"
    "Exit status: 0 all is well, 1 something failed, 2 the call is wrong, 77 no GPU.\n";
// clang-format on

static bool whole(int *out, const char *text, int lo, int hi)
{
    char *end;
    long x = strtol(text, &end, 10);
    *out = (int)x;
    return *text && !*end && x >= lo && x <= hi;
}

typedef struct call {
    requests_options o;
    int device;
    const char *out;
} call;

static bool take(call *c, const char *flag, const char *value)
{
    if (strcmp(flag, "-m") == 0 || strcmp(flag, "--model") == 0)
        c->o.model = value;
    else if (strcmp(flag, "--out") == 0)
        c->out = value;
    else if (strcmp(flag, "--device") == 0)
        return whole(&c->device, value, 0, 1023);
    else if (strcmp(flag, "--many") == 0)
        return whole(&c->o.many, value, 4, 1000000);
    else if (strcmp(flag, "--size") == 0)
        return whole(&c->o.side, value, 16, 8192);
    else if (strcmp(flag, "--at-once") == 0)
        return whole(&c->o.at_once, value, 1, 1000000);
    else if (strcmp(flag, "--runs") == 0)
        return whole(&c->o.runs, value, 1, 1000);
    else
        return false;
    return *value != '\0';
}

// SKIPPED, with the reason told, where the device cannot be had.
static int open_device(const call *c)
{
    swd_open_params p;
    swd_context *ctx;
    swd_info info = {.size = sizeof info};
    swd_open_params_default(&p);
    p.model = c->o.model;
    p.device = c->o.device;
    swd_status s = swd_open(&ctx, &p);
    if (s == SWD_OK) s = swd_get_info(&info, ctx);
    if (s == SWD_OK)
        printf("request_check: %s, %s\n", info.device, info.model);
    else
        printf("request_check: %s: nothing was checked\n", swd_message(ctx));
    swd_close(&ctx);
    return s == SWD_OK ? 0 : s == SWD_ERR_DEVICE ? SKIPPED : FAILED;
}

static int run(const call *c)
{
    swd_err err = {0};
    report *r;
    bool quick = c->o.many < 1000;
    swd_status s = report_open(&r, "request_check", quick, &err);
    if (s == SWD_OK) learning_check(r, c->o.device, quick);
    if (s == SWD_OK) requests_check(r, &c->o);
    if (s == SWD_OK && c->out) s = report_write(r, c->out, &err);
    if (s != SWD_OK) fprintf(stderr, "request_check: error: %s\n", err.message);
    int failures = s == SWD_OK ? report_failures(r) : 1;
    report_close(&r);
    puts(failures ? "request_check: not all is well" : "request_check: all is well");
    return failures ? FAILED : 0;
}

int main(int argc, char **argv)
{
    static char model[4096];
    char device[32];
    call c = {.o = {.many = 1000, .at_once = 16, .runs = 5}};
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return 0;
        }
        if (i + 1 < argc && take(&c, argv[i], argv[i + 1])) continue;
        fprintf(stderr,
                "request_check: error: %s is not known, or needs another value; see --help\n",
                argv[i]);
        return USAGE;
    }
    if (!c.o.model && swd_default_model(model, sizeof model) != SWD_OK) {
        fputs("request_check: error: the bundled model is not here; give --model DIR\n", stderr);
        return USAGE;
    }
    if (!c.o.model) c.o.model = model;
    snprintf(device, sizeof device, "cuda:%d", c.device);
    c.o.device = device;
    int status = open_device(&c);
    return status ? status : run(&c);
}
