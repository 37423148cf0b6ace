// SPDX-License-Identifier: MIT
#include "live.h"
#include "together.h"
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* One line that is written over; asked often, so that Ctrl-C is heard between any two steps. */
static int on_progress(void *user, const swd_progress *p)
{
    live *l = user;
    if (l->tick) l->tick(l->user);
    if (l->terminal && !p->x0) {
        char scale[64] = "", left[48] = "";
        bool steady = p->stage == SWD_STAGE_DENOISE || p->stage == SWD_STAGE_MEASURE;
        if (steady && p->step == 1) l->started_s = now_s();
        if (p->stage == SWD_STAGE_DENOISE)
            snprintf(scale, sizeof(scale), "  latent %dx%d  sigma %.3f", p->latent_width,
                     p->latent_height, p->sigma);
        if (steady && p->step > 1)
            snprintf(left, sizeof(left), "  %.0f s left",
                     (now_s() - l->started_s) / (p->step - 1) * (p->n_steps - p->step + 1));
        fprintf(stderr, "\r\033[K%s %d/%d%s%s", swd_stage_name(p->stage), p->step, p->n_steps,
                scale, left);
        fflush(stderr);
        l->shown = true;
    }
    return interrupted;
}

void live_begin(live *l, swd_context *ctx)
{
    *l = (live){.terminal = together_speaks() && isatty(STDERR_FILENO)};
    struct sigaction act = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    swd_set_progress(ctx, on_progress, l, 0);
}

void live_end(live *l)
{
    if (l->shown) fprintf(stderr, "\r\033[K");
    l->shown = false;
}

int live_show(live *l, const char *line)
{
    if (l->terminal) {
        fprintf(stderr, "\r\033[K%s", line);
        fflush(stderr);
        l->shown = true;
    }
    return interrupted;
}
