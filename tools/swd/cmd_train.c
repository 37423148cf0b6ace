// SPDX-License-Identifier: MIT
/* swd train: every key of swd/train.h is a flag, learning_rate as --learning-rate. */
#include "commands.h"
#include "live.h"
#include "together.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swd/train.h>

static const char usage[] =
    "  swd generate --prompts list.txt --dataset data --sampler euler         teacher's pictures\n"
    "  swd train --data data --output run --scales 4,6,8,10,12,16 --sigmas 1,.95,.9,.79,.74,.6\n"
    "  swd train --config train.json\n"
    "  swd train --config train.json --steps 6000 --resume                    goes on, for longer\n"
    "  swd generate \"a red apple\" --lora run/result                           what came out\n"
    "  mpirun -n 4 --bind-to none swd train --config train.json               four processes share "
    "each batch\n"
    "\n"
    "usage: swd train [--config FILE] [--KEY VALUE ...]\n"
    "FILE is a JSON object of the keys below, {\"data\": [\"data\"], \"steps\": 3000, ...}; flags "
    "come "
    "after it, with - for _,\n"
    "lists with commas, switches without a value. Prints the folder of the result. Ctrl-C saves a "
    "checkpoint and ends;\n"
    "--resume goes on from it. docs/training.md tells the rest.\n";

/* "learning_rate" as "--learning-rate". */
static void flag_of(char *buf, size_t n, const char *key)
{
    snprintf(buf, n, "--%s", key);
    for (char *p = buf + 2; *p; p++)
        if (*p == '_') *p = '-';
}

void train_help(void)
{
    const char *section = "";
    fputs(usage, stdout);
    for (int i = 0; swd_train_key_at(i); i++) {
        const swd_train_key *k = swd_train_key_at(i);
        char flag[64], first[128];
        if (strcmp(section, k->section) != 0) printf("\n%s\n", k->section);
        section = k->section;
        flag_of(flag, sizeof(flag), k->name);
        snprintf(first, sizeof(first), "  %-26s %s", flag, k->type);
        printf("%s%s%s%s\n      %s\n", first, k->default_value[0] ? " (default " : "",
               k->default_value, k->default_value[0] ? ")" : "", k->about);
    }
}

/* ---- the call ---- */

static bool is_switch(const char *key)
{
    for (int i = 0; swd_train_key_at(i); i++)
        if (strcmp(swd_train_key_at(i)->name, key) == 0)
            return strcmp(swd_train_key_at(i)->type, "true or false") == 0;
    return false;
}

typedef struct call {
    swd_train_params params;
    swd_context *ctx;
    int argc;
    char **argv;
    bool json, help;
} call;

/* Argument *i as key and value, which may be the next one. key [n] gets the key's name. */
static bool split(char *key, size_t n, const char **value, int *i, const call *c)
{
    const char *arg = c->argv[*i];
    arg = strcmp(arg, "-m") == 0 ? "--model" : strcmp(arg, "-o") == 0 ? "--output" : arg;
    const char *equals = strchr(arg, '=');
    size_t length = equals ? (size_t)(equals - arg) : strlen(arg);
    if (strncmp(arg, "--", 2) != 0 || length < 3 || length - 2 >= n) {
        print_error("%s: swd train takes --KEY VALUE; see swd train --help", arg);
        return false;
    }
    memcpy(key, arg + 2, length - 2);
    key[length - 2] = '\0';
    for (char *p = key; *p; p++)
        if (*p == '-') *p = '_';
    bool next_is_value = *i + 1 < c->argc && (strcmp(c->argv[*i + 1], "true") == 0 ||
                                              strcmp(c->argv[*i + 1], "false") == 0);
    *value = equals ? equals + 1 : NULL;
    if (*value || strcmp(key, "json") == 0 || strcmp(key, "help") == 0) return true;
    if (is_switch(key) && !next_is_value) {
        *value = "true";
        return true;
    }
    if (++*i < c->argc) *value = c->argv[*i];
    if (!*value) print_error("%s needs a value; see swd train --help", arg);
    return *value != NULL;
}

/* The config first, wherever it stands, then the flags in their order. */
static int take(call *c, bool config)
{
    for (int i = 2; i < c->argc; i++) {
        char key[64];
        const char *value;
        if (strcmp(c->argv[i], "-h") == 0) {
            c->help = true;
            continue;
        }
        if (!split(key, sizeof(key), &value, &i, c)) return EXIT_USAGE;
        if (strcmp(key, "help") == 0)
            c->help = true;
        else if (strcmp(key, "json") == 0)
            c->json = true;
        else if (strcmp(key, "config") == 0) {
            if (!config || c->help) continue;
            swd_status s = swd_train_read(&c->params, value, c->ctx);
            if (s != SWD_OK) return fail_with(s, c->ctx);
        } else if (!config) {
            swd_status s = swd_train_set(&c->params, key, value, c->ctx);
            if (s != SWD_OK) return fail_with(s, c->ctx);
        }
    }
    return EXIT_DONE;
}

/* ---- the run ---- */

static void duration(char *buf, size_t n, double s)
{
    if (s < 0)
        buf[0] = '\0';
    else if (s < 120)
        snprintf(buf, n, "  %.0f s left", s);
    else if (s < 7200)
        snprintf(buf, n, "  %.0f min left", s / 60);
    else
        snprintf(buf, n, "  %.1f h left", s / 3600);
}

static int on_progress(void *user, const swd_train_progress *p)
{
    char line[256], left[48], loss[96] = "";
    duration(left, sizeof(left), p->left_s);
    if (strcmp(p->stage, "train") == 0 && p->loss - p->loss == 0)
        snprintf(loss, sizeof(loss), "  scale %d  loss %.4g  rate %.3g", p->scale, p->loss,
                 p->rate);
    snprintf(line, sizeof(line), "%s %lld/%lld%s%s", p->stage, (long long)p->step,
             (long long)p->n_steps, loss, left);
    return live_show(user, line);
}

static void on_message(void *user, const char *text)
{
    live *l = user;
    live_end(l);
    fprintf(stderr, "swd: %s\n", text);
}

static int report(const call *c, const swd_train_result *r)
{
    if (!together_speaks()) return EXIT_DONE;
    if (c->json)
        return json_print(json_pack("{s:I, s:f, s:s, s:s}", "step", (json_int_t)r->step, "loss",
                                    r->loss - r->loss == 0 ? r->loss : 0.0, "result", r->adapter,
                                    "checkpoint", r->checkpoint),
                          false);
    if (r->adapter[0])
        printf("%s\n", r->adapter);
    else
        fprintf(stderr, "swd: %lld of %lld steps are done; --resume goes on\n", (long long)r->step,
                (long long)c->params.steps);
    return EXIT_DONE;
}

static int run(call *c)
{
    live l;
    swd_train_result r;
    live_begin(&l, NULL);
    c->params.progress = on_progress;
    c->params.message = on_message;
    c->params.user = &l;
    c->params.group = together();
    swd_status s = swd_train(&r, &c->params, c->ctx);
    live_end(&l);
    return s == SWD_OK ? report(c, &r) : fail_with(s, c->ctx);
}

int command_train(int argc, char **argv)
{
    call c = {.argc = argc, .argv = argv};
    int status = EXIT_FAILED;
    swd_train_params_default(&c.params);
    if (swd_train_open(&c.ctx) != SWD_OK) {
        print_error("out of memory");
        return status;
    }
    status = take(&c, true);
    if (status == EXIT_DONE && !c.help) status = take(&c, false);
    if (status == EXIT_DONE && c.help)
        train_help();
    else if (status == EXIT_DONE)
        status = run(&c);
    swd_close(&c.ctx);
    return status;
}
