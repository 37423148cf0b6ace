// SPDX-License-Identifier: MIT
// What threads share: the queue, the loops of training, and nothing between two contexts. No Criterion here: it does not start under
// ThreadSanitizer.
#include "base/thread.h"
#include "files.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swd/train.h>
#include <sys/stat.h>

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #x);                               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

enum { N_ITEMS = 2000, N_PUSHING = 3 };

static void push_numbers(void *arg)
{
    for (intptr_t i = 1; i <= N_ITEMS; i++) CHECK(queue_push(arg, (void *)i));
}

static void test_queue(void)
{
    swd_err err = {0};
    swd_queue *q = NULL;
    swd_thread *t[N_PUSHING];
    CHECK(queue_create(&q, 7, &err) == SWD_OK);
    for (int i = 0; i < N_PUSHING; i++) CHECK(thread_start(&t[i], push_numbers, q, &err) == SWD_OK);
    int64_t sum = 0;
    for (int i = 0; i < N_PUSHING * N_ITEMS; i++) {
        void *item;
        CHECK(queue_pop(&item, q));
        sum += (intptr_t)item;
    }
    for (int i = 0; i < N_PUSHING; i++) thread_join(&t[i]);
    CHECK(sum == (int64_t)N_PUSHING * N_ITEMS * (N_ITEMS + 1) / 2);
    queue_close(q);
    void *item;
    CHECK(!queue_pop(&item, q));
    queue_destroy(&q);
}

static void generate(void *arg)
{
    const char *prompt = "a red apple";
    swd_context *swd = NULL;
    swd_open_params open;
    swd_generate_params params;
    swd_open_params_default(&open);
    swd_generate_params_default(&params);
    open.threads = 1;
    params.prompts = &prompt;
    params.random_seed = 0;
    params.seed = 5;
    params.width = params.height = 32;
    params.sampler = SWD_SAMPLER_EULER;
    params.steps = 2;
    params.output = arg;
    swd_status s = swd_open(&swd, &open);
    if (s == SWD_OK) s = swd_generate(NULL, &params, swd);
    if (s != SWD_OK) fprintf(stderr, "%s\n", swd_message(swd));
    CHECK(s == SWD_OK);
    swd_close(&swd);
}

static void test_contexts(void)
{
    swd_err err = {0};
    char dir[64], *path[2];
    static char bytes[2][1 << 16];
    size_t n[2];
    swd_thread *t[2];
    make_temporary(dir);
    for (int i = 0; i < 2; i++) {
        path[i] = path_in(dir, i ? "1.png" : "0.png");
        CHECK(thread_start(&t[i], generate, path[i], &err) == SWD_OK);
    }
    for (int i = 0; i < 2; i++) {
        thread_join(&t[i]);
        FILE *f = fopen(path[i], "rb");
        CHECK(f);
        n[i] = fread(bytes[i], 1, sizeof(bytes[i]), f);
        fclose(f);
    }
    remove_temporary(dir);
    CHECK(n[0] > 100 && n[0] == n[1] && memcmp(bytes[0], bytes[1], n[0]) == 0);
}

// Two steps of everything that learns, a cache before and a sheet after them.
static void test_training(void)
{
    static const char *const keys[][2] = {
        {"mode", "full"},   {"scales", "2,4"},     {"sigmas", "1,0.8"},
        {"steps", "2"},     {"batch", "2"},        {"micro_batch", "1"},
        {"lora_rank", "2"}, {"sample_every", "2"}, {"threads", "3"}};
    char dir[64];
    swd_context *swd = NULL;
    swd_train_params p;
    swd_train_result r = {.size = sizeof r};
    make_temporary(dir);
    char *data = path_in(dir, "data");
    CHECK(mkdir(data, 0700) == 0);
    generate(path_in(data, "0.png"));
    write_text(path_in(data, "0.txt"), "a red apple");
    swd_train_params_default(&p);
    CHECK(swd_train_open(&swd) == SWD_OK);
    swd_status s = SWD_OK;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && s == SWD_OK; i++)
        s = swd_train_set(&p, keys[i][0], keys[i][1], swd);
    if (s == SWD_OK) s = swd_train_set(&p, "data", data, swd);
    if (s == SWD_OK) s = swd_train_set(&p, "output", path_in(dir, "run"), swd);
    if (s == SWD_OK) s = swd_train(&r, &p, swd);
    if (s != SWD_OK) fprintf(stderr, "%s\n", swd_message(swd));
    CHECK(s == SWD_OK && r.step == 2);
    swd_close(&swd);
    remove_temporary(dir);
}

int main(void)
{
    test_queue();
    test_contexts();
    test_training();
    return 0;
}
