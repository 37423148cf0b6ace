// SPDX-License-Identifier: MIT
#include "pipeline/writer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/thread.h"
#include "pipeline/output.h"
#include <pthread.h>

enum { THREADS_MAX = 8, ON_THEIR_WAY = 4 };

typedef struct job {
    swd_image *image;
    char *comment;
    bool drop;
} job;

struct writer {
    swd_queue *jobs;
    swd_thread *threads[THREADS_MAX];
    int n_threads;
    pthread_mutex_t lock; // of what follows
    swd_status status;    // the first failure
    swd_err err;
    double ms;
};

static void drop_pixels(swd_image *image)
{
    free((void *)(uintptr_t)image->rgb);
    image->rgb = NULL;
}

static void free_job(job *j)
{
    free(j->comment);
    free(j);
}

static swd_status failure(writer *w)
{
    pthread_mutex_lock(&w->lock);
    swd_status s = w->status;
    pthread_mutex_unlock(&w->lock);
    return s;
}

static void write_one(writer *w, const job *j)
{
    swd_err err = {0};
    double started_s = clock_now_s();
    swd_status s = output_write(j->image->file, j->image->rgb, j->image->width, j->image->height,
                                j->comment, &err);
    pthread_mutex_lock(&w->lock);
    w->ms += (clock_now_s() - started_s) * 1e3;
    if (s != SWD_OK && w->status == SWD_OK) {
        w->status = s;
        w->err = err;
    }
    pthread_mutex_unlock(&w->lock);
}

static void work(void *arg)
{
    writer *w = arg;
    void *item;
    while (queue_pop(&item, w->jobs)) {
        job *j = item;
        if (failure(w) == SWD_OK) write_one(w, j);
        if (j->drop) drop_pixels(j->image);
        free_job(j);
    }
}

swd_status writer_create(writer **out, int n_threads, swd_err *err)
{
    writer *w = NULL;
    *out = NULL;
    SWD_TRY(swd_calloc(&w, 1, sizeof *w, "the writer of pictures", err), err);
    pthread_mutex_init(&w->lock, NULL);
    swd_status s = queue_create(&w->jobs, ON_THEIR_WAY, err);
    for (; s == SWD_OK && w->n_threads < n_threads && w->n_threads < THREADS_MAX; w->n_threads++)
        if ((s = thread_start(&w->threads[w->n_threads], work, w, err)) != SWD_OK) break;
    if (s != SWD_OK) (void)writer_finish(&w, NULL, NULL);
    *out = w;
    return s;
}

swd_status writer_push(writer *w, swd_image *image, bool drop, char *comment, swd_err *err)
{
    job *j = NULL;
    swd_status s = failure(w); // its message comes from writer_finish()
    if (s == SWD_OK) s = swd_malloc(&j, 1, sizeof *j, "a picture on its way", err);
    if (s != SWD_OK) {
        free(comment);
        return s;
    }
    *j = (job){.image = image, .comment = comment, .drop = drop};
    (void)queue_push(w->jobs, j); // nobody closes it before writer_finish()
    return SWD_OK;
}

void writer_abandon(writer *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    if (w->status == SWD_OK) w->status = SWD_ERR_CANCELLED;
    pthread_mutex_unlock(&w->lock);
}

swd_status writer_finish(writer **out, double *ms, swd_err *err)
{
    writer *w = *out;
    if (!w) return SWD_OK;
    if (w->jobs) queue_close(w->jobs);
    for (int i = 0; i < w->n_threads; i++) thread_join(&w->threads[i]);
    queue_destroy(&w->jobs);
    pthread_mutex_destroy(&w->lock);
    swd_status s = w->status;
    if (ms) *ms += w->ms;
    if (s != SWD_OK && err) *err = w->err;
    free(w);
    *out = NULL;
    return s;
}
