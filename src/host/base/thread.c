// SPDX-License-Identifier: MIT
#include "base/thread.h"
#include "base/memory.h"
#include <pthread.h>
#include <string.h>

struct swd_thread {
    pthread_t handle;
    void (*run)(void *);
    void *arg;
};

static void *thread_main(void *p)
{
    swd_thread *t = p;
    t->run(t->arg);
    return NULL;
}

swd_status thread_start(swd_thread **out, void (*run)(void *arg), void *arg, swd_err *err)
{
    SWD_TRY(swd_calloc(out, 1, sizeof **out, "a thread", err), err);
    (*out)->run = run;
    (*out)->arg = arg;
    int e = pthread_create(&(*out)->handle, NULL, thread_main, *out);
    if (e != 0) {
        free(*out);
        *out = NULL;
        return SWD_FAIL(err, SWD_ERR_MEMORY, "a thread could not be started: %s", strerror(e));
    }
    return SWD_OK;
}

void thread_join(swd_thread **t)
{
    if (!*t) return;
    pthread_join((*t)->handle, NULL);
    free(*t);
    *t = NULL;
}

struct swd_queue {
    pthread_mutex_t lock;
    pthread_cond_t not_full, not_empty;
    int capacity, n, head;
    bool closed;
    void *items[];
};

swd_status queue_create(swd_queue **out, int capacity, swd_err *err)
{
    *out = NULL;
    if (capacity < 1 || capacity > THREAD_QUEUE_CAPACITY_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a queue of %d items: 1 to %d are possible",
                        capacity, THREAD_QUEUE_CAPACITY_MAX);
    swd_queue *q;
    SWD_TRY(swd_calloc(&q, 1, sizeof *q + (size_t)capacity * sizeof(void *), "a queue", err), err);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->not_full, NULL);
    pthread_cond_init(&q->not_empty, NULL);
    q->capacity = capacity;
    *out = q;
    return SWD_OK;
}

void queue_destroy(swd_queue **q)
{
    if (!*q) return;
    pthread_cond_destroy(&(*q)->not_empty);
    pthread_cond_destroy(&(*q)->not_full);
    pthread_mutex_destroy(&(*q)->lock);
    free(*q);
    *q = NULL;
}

bool queue_push(swd_queue *q, void *item)
{
    pthread_mutex_lock(&q->lock);
    while (q->n == q->capacity && !q->closed) pthread_cond_wait(&q->not_full, &q->lock);
    bool ok = !q->closed;
    if (ok) {
        q->items[(q->head + q->n++) % q->capacity] = item;
        pthread_cond_signal(&q->not_empty);
    }
    pthread_mutex_unlock(&q->lock);
    return ok;
}

bool queue_pop(void **item, swd_queue *q)
{
    pthread_mutex_lock(&q->lock);
    while (q->n == 0 && !q->closed) pthread_cond_wait(&q->not_empty, &q->lock);
    bool ok = q->n > 0;
    if (ok) {
        *item = q->items[q->head];
        q->head = (q->head + 1) % q->capacity;
        q->n--;
        pthread_cond_signal(&q->not_full);
    }
    pthread_mutex_unlock(&q->lock);
    return ok;
}

void queue_close(swd_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->not_full);
    pthread_cond_broadcast(&q->not_empty);
    pthread_mutex_unlock(&q->lock);
}
