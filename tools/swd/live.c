// SPDX-License-Identifier: MIT
#include "live.h"
#include "together.h"
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { SECONDS_BETWEEN = 10 }; /* lines */
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

static bool wants_line(const live *l)
{
    return l->terminal || (l->lines && now_s() - l->told_s >= SECONDS_BETWEEN);
}

/* One line that is written over; where mpirun passes it on, a new one now and then. */
static void show(live *l, const char *line)
{
    fprintf(stderr, l->terminal ? "\r\033[K%s" : "swd: %s\n", line);
    fflush(stderr);
    l->shown = l->terminal;
    l->told_s = now_s();
}

/* Asked often, so that Ctrl-C is heard between any two steps. */
static int on_progress(void *user, const swd_progress *p)
{
    live *l = user;
    if (l->tick) l->tick(l->user);
    if (!p->x0 && wants_line(l)) {
        char scale[64] = "", left[48] = "", image[48] = "", line[256];
        bool steady = p->stage == SWD_STAGE_DENOISE || p->stage == SWD_STAGE_MEASURE;
        if (steady && p->step == 1) l->started_s = now_s();
        if (p->stage == SWD_STAGE_DENOISE)
            snprintf(scale, sizeof(scale), "  latent %dx%d  sigma %.3f", p->latent_width,
                     p->latent_height, p->sigma);
        if (steady && p->step > 1)
            snprintf(left, sizeof(left), "  %.0f s left",
                     (now_s() - l->started_s) / (p->step - 1) * (p->n_steps - p->step + 1));
        if (l->lines)
            snprintf(image, sizeof(image), "  picture %d of %d", p->image + 1, p->n_images);
        snprintf(line, sizeof(line), "%s %d/%d%s%s%s", swd_stage_name(p->stage), p->step,
                 p->n_steps, scale, image, left);
        show(l, line);
    }
    return interrupted;
}

void live_begin(live *l, swd_context *ctx)
{
    bool speaks = together_speaks(), terminal = isatty(STDERR_FILENO) == 1;
    *l = (live){.terminal = speaks && terminal,
                .lines = speaks && !terminal && swd_group_size(together()) > 1,
                .told_s = now_s()};
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
    if (wants_line(l)) show(l, line);
    return interrupted;
}
