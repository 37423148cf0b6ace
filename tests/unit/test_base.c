// SPDX-License-Identifier: MIT
// Errors, memory, arena, queue.
#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/thread.h"
#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

static swd_status inner(swd_err *err)
{
    return SWD_FAIL(err, SWD_ERR_FILE, "bad\n\x1b[31m %s", "name");
}

static swd_status outer(swd_err *err)
{
    SWD_TRY(inner(err), err);
    return SWD_OK;
}

static void keep_line(void *ctx, swd_log_level level, const char *text)
{
    (void)level;
    strcat(ctx, text);
    strcat(ctx, "|");
}

Test(base, errors_keep_one_line_and_their_frames)
{
    swd_err err = {0};
    cr_assert_eq(outer(&err), SWD_ERR_FILE);
    cr_assert_str_eq(err.message, "bad\\x0a\\x1b[31m name");
    cr_assert_eq(err.n_frames, 2);
    cr_assert_str_eq(err.frame[0].func, "inner");
    cr_assert_str_eq(err.frame[1].func, "outer");
    cr_assert_eq(outer(NULL), SWD_ERR_FILE);
    char text[4096] = "";
    log_err(&(swd_log){.level = SWD_LOG_ERROR, .write = keep_line, .ctx = text}, &err);
    cr_assert_str_eq(text, "bad\\x0a\\x1b[31m name|");
    char big[3000];
    memset(big, '\n', sizeof big - 1);
    big[sizeof big - 1] = 0;
    SWD_FAIL(&err, SWD_ERR_FILE, "%s", big);
    cr_assert(strlen(err.message) < SWD_ERR_MESSAGE_MAX && strlen(err.message) > 1000);
}

Test(base, memory_refuses_overflow)
{
    swd_err err = {0};
    void *p;
    cr_assert_eq(swd_malloc(&p, SIZE_MAX / 2, 4, "a test", &err), SWD_ERR_MEMORY);
    cr_assert_null(p);
    cr_assert_eq(swd_malloc(&p, SIZE_MAX - 8, 1, "a test", &err), SWD_ERR_MEMORY);
    cr_assert_eq(swd_malloc(&p, 3, 5, "a test", &err), SWD_OK);
    cr_assert_eq((uintptr_t)p % 64, 0);
    free(p);
    int *list = NULL;
    size_t capacity = 0;
    for (size_t i = 0; i < 100; i++) {
        cr_assert_eq(swd_grow(&list, &capacity, i + 1, sizeof *list, "a list", &err), SWD_OK);
        list[i] = (int)i;
    }
    cr_assert_eq(list[99], 99);
    cr_assert_eq(swd_grow(&list, &capacity, SIZE_MAX / 2, sizeof *list, "a list", &err),
                 SWD_ERR_MEMORY);
    cr_assert_eq(list[0], 0);
    free(list);
    char *s;
    cr_assert_eq(path_join(&s, "a/", "b", &err), SWD_OK);
    cr_assert_str_eq(s, "a/b");
    free(s);
    cr_assert_eq(path_join(&s, "", "b", &err), SWD_OK);
    cr_assert_str_eq(s, "b");
    free(s);
    int64_t n;
    cr_assert(i64_mul(&n, 1 << 20, 1 << 20) && n == INT64_C(1) << 40);
    cr_assert_not(i64_mul(&n, INT64_MAX, 2));
    cr_assert_not(i64_mul(&n, -1, 2));
}

Test(base, arena_rewinds_and_reuses)
{
    swd_err err = {0};
    swd_arena *a;
    cr_assert_eq(arena_create(&a, 1024, &err), SWD_OK);
    char *first, *second, *again, *large;
    cr_assert_eq(arena_alloc(&first, a, 100, 1, &err), SWD_OK);
    arena_mark mark = arena_get_mark(a);
    cr_assert_eq(arena_alloc(&second, a, 100, 1, &err), SWD_OK);
    cr_assert_eq((uintptr_t)second % 64, 0);
    cr_assert(second >= first + 100);
    cr_assert_eq(arena_alloc(&large, a, 5000, 1, &err), SWD_OK);
    memset(large, 1, 5000);
    size_t held = arena_bytes(a);
    arena_rewind(a, mark);
    cr_assert_eq(arena_alloc(&again, a, 100, 1, &err), SWD_OK);
    cr_assert_eq(again, second);
    cr_assert_eq(arena_alloc(&large, a, 5000, 1, &err), SWD_OK);
    cr_assert_eq(arena_bytes(a), held);
    cr_assert_eq(arena_alloc(&large, a, SIZE_MAX / 2, 4, &err), SWD_ERR_MEMORY);
    arena_destroy(&a);
    cr_assert_null(a);
}

enum { N_ITEMS = 10000 };

static void produce(void *arg)
{
    for (intptr_t i = 1; i <= N_ITEMS; i++) queue_push(arg, (void *)i);
}

Test(base, queue_keeps_every_item)
{
    swd_err err = {0};
    swd_queue *q;
    swd_thread *t[2];
    cr_assert_eq(queue_create(&q, 0, &err), SWD_ERR_ARGUMENT);
    cr_assert_eq(queue_create(&q, 7, &err), SWD_OK);
    for (int i = 0; i < 2; i++) cr_assert_eq(thread_start(&t[i], produce, q, &err), SWD_OK);
    int64_t sum = 0;
    void *item;
    for (int i = 0; i < 2 * N_ITEMS; i++) {
        cr_assert(queue_pop(&item, q));
        sum += (intptr_t)item;
    }
    for (int i = 0; i < 2; i++) thread_join(&t[i]);
    cr_assert_eq(sum, (int64_t)N_ITEMS * (N_ITEMS + 1));
    cr_assert(queue_push(q, &err));
    queue_close(q);
    cr_assert_not(queue_push(q, &err));
    cr_assert(queue_pop(&item, q));
    cr_assert_not(queue_pop(&item, q));
    queue_destroy(&q);
}

Test(base, clock_goes_on)
{
    double a = clock_now_s(), b = clock_now_s();
    cr_assert(b >= a && a > 0);
    cr_assert(clock_cpu_now_s() >= 0);
}
