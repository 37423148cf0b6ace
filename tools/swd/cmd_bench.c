// SPDX-License-Identifier: MIT
/* bench: what a model costs on this machine. */
#include "commands.h"
#include "live.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void on_line(void *user, const char *text)
{
    live_end(user);
    fprintf(stderr, "%s\n", text);
}

static int on_run(void *user, const char *name)
{
    return live_show(user, name[0] ? name : "preparing");
}

static int fail(swd_status s, const swd_bench *b)
{
    print_error("%s", swd_bench_message(b));
    return s == SWD_ERR_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
}

static int write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    bool ok = f && fputs(text, f) >= 0 && fputc('\n', f) != EOF;
    if (f) ok = fclose(f) == 0 && ok;
    if (ok) return EXIT_DONE;
    print_error("%s: the results cannot be written", path);
    return EXIT_FAILED;
}

static swd_status print(swd_bench *b, const options *o)
{
    const char *text;
    swd_bench_form form = o->json             ? SWD_BENCH_JSON
                          : o->bench.markdown ? SWD_BENCH_MARKDOWN
                                              : SWD_BENCH_TABLE;
    swd_status s = swd_bench_text(&text, form, b);
    if (s == SWD_OK) fputs(text, stdout);
    if (s == SWD_OK && o->json) fputc('\n', stdout);
    return s;
}

static int report(swd_bench *b, const options *o)
{
    const char *text;
    swd_status s = SWD_OK;
    int status = EXIT_DONE;
    if (o->bench.baseline && swd_bench_baseline(b, o->bench.baseline) != SWD_OK)
        status = fail(SWD_ERR_FILE, b); /* what was measured is shown all the same */
    if (o->output) {
        s = swd_bench_text(&text, SWD_BENCH_JSON, b);
        if (s == SWD_OK && write_file(o->output, text) != EXIT_DONE) status = EXIT_FAILED;
    }
    if (s == SWD_OK) s = print(b, o);
    if (s == SWD_OK && o->bench.plot) s = swd_bench_plot(b, o->bench.plot);
    return s == SWD_OK ? status : fail(s, b);
}

/* What can be known to fail is refused before minutes of measuring. */
static bool check(const options *o)
{
    const bench_options *q = &o->bench;
    if (q->baseline && access(q->baseline, R_OK) != 0) {
        print_error("--baseline %s: no such file", q->baseline);
        return false;
    }
    if (o->json && q->markdown) {
        print_error("give --json or --markdown");
        return false;
    }
    return true;
}

static bool find_what(swd_bench_what *out, const char *name)
{
    for (int i = 0; swd_bench_what_name((swd_bench_what)i); i++)
        if (strcmp(swd_bench_what_name((swd_bench_what)i), name) == 0) {
            *out = (swd_bench_what)i;
            return true;
        }
    print_error("%s: nothing that can be measured; swd bench --help lists what can", name);
    return false;
}

int command_bench(options *o)
{
    swd_bench *b = NULL;
    swd_bench_params *p = &o->bench.params;
    char program[4096];
    live l;
    if (o->n_arguments != 1) {
        print_error("what to measure? try: swd bench e2e, or swd bench --help");
        return EXIT_USAGE;
    }
    if (!find_what(&p->what, o->arguments[0]) || !check(o)) return EXIT_USAGE;
    p->open = &o->open;
    p->scales = o->generate.scales;
    p->n_scales = o->generate.n_scales;
    p->sigmas = o->generate.sigmas;
    p->n_sigmas = o->generate.n_sigmas;
    p->max_tokens = o->generate.max_tokens;
    p->mix = o->generate.mix;
    live_begin(&l, NULL);
    p->line = on_line;
    p->running = on_run;
    p->user = &l;
    ssize_t n = o->bench.processes ? readlink("/proc/self/exe", program, sizeof program - 1) : -1;
    if (n > 0) {
        program[n] = '\0';
        p->program = program;
    }
    swd_status s = swd_bench_run(&b, p);
    live_end(&l);
    int status = s == SWD_OK ? report(b, o) : fail(s, b);
    swd_bench_close(&b);
    return status;
}
