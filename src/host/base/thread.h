/* SPDX-License-Identifier: MIT */
/* POSIX threads, thinly, and a bounded queue of pointers between them. */
#ifndef SWD_BASE_THREAD_H
#define SWD_BASE_THREAD_H
#include "base/status.h"
#include <stdbool.h>

enum { THREAD_QUEUE_CAPACITY_MAX = 1 << 16 };

typedef struct swd_thread swd_thread;
swd_status thread_start(swd_thread **out, void (*run)(void *arg), void *arg, swd_err *err);
void thread_join(swd_thread **t); /* waits, writes NULL; accepts NULL */

/* First in, first out; any number of threads may push and pop. */
typedef struct swd_queue swd_queue;
swd_status queue_create(swd_queue **out, int capacity, swd_err *err);
void queue_destroy(swd_queue **q); /* nobody may be inside; what is still queued is not freed */
/* Waits while the queue is full. false if it was closed: the item stays the caller's. */
bool queue_push(swd_queue *q, void *item);
/* Waits while the queue is empty. false once it is closed and empty. */
bool queue_pop(void **item, swd_queue *q);
/* No more pushes; waiting threads wake. Items already inside can still be popped. */
void queue_close(swd_queue *q);
#endif
