// SPDX-License-Identifier: MIT
// What threads share: the queue, and nothing between two contexts. No Criterion here: it does not start under ThreadSanitizer.
#include "base/thread.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swd/swd.h>
#include <unistd.h>

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
    char dir[] = "/tmp/swd-threads-XXXXXX", path[2][64];
    static char bytes[2][1 << 16];
    size_t n[2];
    swd_thread *t[2];
    CHECK(mkdtemp(dir));
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof(path[i]), "%s/%d.png", dir, i);
        CHECK(thread_start(&t[i], generate, path[i], &err) == SWD_OK);
    }
    for (int i = 0; i < 2; i++) {
        thread_join(&t[i]);
        FILE *f = fopen(path[i], "rb");
        CHECK(f);
        n[i] = fread(bytes[i], 1, sizeof(bytes[i]), f);
        fclose(f);
        remove(path[i]);
    }
    rmdir(dir);
    CHECK(n[0] > 100 && n[0] == n[1] && memcmp(bytes[0], bytes[1], n[0]) == 0);
}

int main(void)
{
    test_queue();
    test_contexts();
    return 0;
}
