// SPDX-License-Identifier: MIT
// The ranges that a profiler sees of a request: nvtx_listener.c in the place of one.
#include "tiny_folder.h"

static char log_file[] = "/tmp/swd-nvtx-XXXXXX";

static void generate_one(void)
{
    static const char *const prompts[] = {"a red apple"};
    static const int scales[] = {2, 4};
    static const double sigmas[] = {1, 0.7};
    swd_open_params o = opening(tiny_model(), "cuda", SWD_PRECISION_AUTO);
    swd_context *ctx = opened(&o);
    swd_generate_params a = request(prompts, 1);
    swd_result *r = NULL;
    a.scales = scales;
    a.sigmas = sigmas;
    a.n_scales = a.n_sigmas = 2;
    a.width = a.height = 32;
    CHECK(swd_generate(&r, &a, ctx) == SWD_OK, "%s", swd_message(ctx));
    swd_result_free(&r);
    swd_close(&ctx);
}

// Its ops left out, the tree is this one; and ops are where they belong.
static void tree(void)
{
    static const char *const want[] = {"domain swd",
                                       "request request",
                                       " stage text",
                                       " stage denoise",
                                       "  step step 1 of 2: 2x2, sigma 1.0000",
                                       "  step step 2 of 2: 4x4, sigma 0.7000",
                                       " stage decode",
                                       "end at depth 0"};
    char line[256];
    size_t at = 0;
    int ops = 0, attention = 0;
    generate_one();
    FILE *f = fopen(log_file, "r");
    CHECK(f, "nobody listened");
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line + strspn(line, " "), "op ", 3) == 0) {
            ops++;
            attention += strcmp(line, "   op attention") == 0;
            continue;
        }
        CHECK(at < sizeof want / sizeof *want && strcmp(line, want[at]) == 0, "line %zu: \"%s\"",
              at, line);
        at++;
    }
    fclose(f);
    CHECK(at == sizeof want / sizeof *want, "%zu lines", at);
    CHECK(ops > 100 && attention >= 4, "%d ops, %d of attention in steps", ops, attention);
}

int main(int argc, char **argv)
{
    static const tap_test tests[] = {{"tree", tree}};
    int fd = mkstemp(log_file);
    CHECK(fd >= 0, "no temporary file");
    close(fd);
    setenv("SWD_NVTX_LOG", log_file, 1);
    int r = tap_run(tests, 1, argc, argv);
    unlink(log_file);
    return r;
}
