// SPDX-License-Identifier: MIT
// swd bench on the emulated device: networks, their ops by events, requests with and without graphs; the work that the meter counts there
// is that of the CPU, whoever launches the kernels.
#include "emu/control.h"
#include "tiny_folder.h"
#include <math.h>
#include <string.h>
#include <swd/bench.h>

static swd_bench *measured(swd_bench_params p, const char *device)
{
    swd_bench *b = NULL;
    swd_open_params open = opening(NULL, device, SWD_PRECISION_F32);
    open.text_encoders = 0; // the longest part here
    p.open = &open;
    CHECK(swd_bench_run(&b, &p) == SWD_OK, "%s", swd_bench_message(b));
    CHECK(emu_live_bytes() == 0, "%zu bytes of the device are left", emu_live_bytes());
    return b;
}

// The same names with the same work, each with a time.
static void same_work(swd_bench_params p)
{
    swd_bench *gpu = measured(p, "cuda"), *cpu = measured(p, "cpu");
    int found = 0;
    for (int i = 0; i < swd_bench_count(gpu); i++) {
        swd_bench_result g, c;
        CHECK(swd_bench_get(&g, i, gpu) == SWD_OK && g.median_ms > 0, "no time of %s", g.name);
        for (int k = 0; k < swd_bench_count(cpu); k++) {
            CHECK(swd_bench_get(&c, k, cpu) == SWD_OK, "no result %d", k);
            if (strcmp(g.name, c.name) != 0) continue;
            found++;
            CHECK(fabs(g.flop - c.flop) <= 1e-9 * c.flop, "%s: %g FLOP, on the CPU %g", g.name,
                  g.flop, c.flop);
        }
    }
    CHECK(found == swd_bench_count(gpu), "%d of %d", found, swd_bench_count(gpu));
    const char *text;
    CHECK(swd_bench_text(&text, SWD_BENCH_JSON, gpu) == SWD_OK, "%s", swd_bench_message(gpu));
    CHECK(strstr(text, "\"backend\": \"cuda\""), "another backend");
    swd_bench_close(&gpu);
    swd_bench_close(&cpu);
}

static const int side = 32, steps = 2, batch = 1, scales[] = {2, 4};
static const double sigmas[] = {1, .6};

static swd_bench_params small_work(swd_bench_what what)
{
    swd_bench_params p;
    swd_bench_params_default(&p);
    p.what = what;
    p.arch = "tiny";
    p.sides = &side;
    p.n_sides = 1;
    p.max_tokens = 8;
    p.quick = 1;
    p.guidance = 1;
    p.steps = &steps;
    p.n_steps = 1;
    p.scales = scales;
    p.sigmas = sigmas;
    p.n_scales = p.n_sigmas = 2;
    p.batches = &batch;
    p.n_batches = 1;
    return p;
}

static void pictures(void)
{
    same_work(small_work(SWD_BENCH_E2E));
}

static void ops(void)
{
    same_work(small_work(SWD_BENCH_OPS));
}

static void steps_as_graphs(void)
{
    same_work(small_work(SWD_BENCH_STEP));
}

int main(int argc, char **argv)
{
    static const tap_test tests[] = {
        {"pictures", pictures}, {"ops", ops}, {"steps as graphs", steps_as_graphs}};
    return tap_run(tests, 3, argc, argv);
}
