/* SPDX-License-Identifier: MIT */
/* Processes that do one call together (swd/parallel.h): alone, or by MPI, with NCCL for sums on devices where the backend has it.
 *
 * Everything here but group_next() is collective: all processes call the same functions in the same order. Each begins with a handshake, in
 * which a process that waits sleeps: one that has failed says so in its next one (group_agree, at the latest group_close), and everybody's
 * call fails with its message. So a failure needs no care where it happens, and nobody waits for who is gone. After
 * a failure nothing is sent any more. A group of NULL is one process. */
#ifndef SWD_PARALLEL_GROUP_H
#define SWD_PARALLEL_GROUP_H
#include "backend/backend.h"
#include <swd/parallel.h>

/* module: the file of src/mpi, NULL: where it is installed. */
swd_status group_open(swd_group **out, const char *module, swd_err *err);
swd_status group_close(swd_group **g, swd_status mine, swd_err *err); /* writes NULL */

int group_rank(const swd_group *g);
int group_size(const swd_group *g);
int group_local_rank(const swd_group *g); /* on this machine, from 0 */
/* Threads for this process, so that those of this machine share the processors that they may use; 0: all of them. */
int group_threads(const swd_group *g);

/* Where mpirun has left each process fewer processors than its share, that, in words; else "". */
const char *group_note(const swd_group *g);

/* How it goes here; fails if it went wrong anywhere. err has a message if mine is a failure. */
swd_status group_agree(swd_group *g, swd_status mine, swd_err *err);
/* *x becomes the greatest. */
swd_status group_max(swd_group *g, int64_t *x, swd_err *err);
swd_status group_sum_numbers(swd_group *g, double *x, int n, swd_err *err);
/* Finds out how sums on be's device are made; else the first of them does. */
swd_status group_join(swd_group *g, swd_backend *be, swd_err *err);
const char *group_way(const swd_group *g); /* in words; after that */
/* F32, contiguous, in be's memory (NULL: the host's), in order of its NULL stream: every process gets the same bits. On a
 * device by NCCL, where every process has one of its own and all find the library; else through the host. */
swd_status group_sum(swd_group *g, swd_tensor t, swd_backend *be, swd_err *err);
/* Process 0's bytes. */
swd_status group_broadcast(swd_group *g, void *data, size_t bytes, swd_err *err);
swd_status group_broadcast_tensor(swd_group *g, swd_tensor t, swd_backend *be, swd_err *err);
/* Before a backend goes whose tensors were summed. */
void group_leave(swd_group *g, swd_backend *be);
/* n bytes of each, one after the other, at process 0: *all there to be freed, with *total bytes; elsewhere NULL. */
swd_status group_gather(void **all, size_t *total, swd_group *g, const void *mine, int n,
                        swd_err *err);

/* A list that is shared out: group_share() begins one, each group_next() gives the next number from 0 that nobody has; not collective. What
 * is left is nobody's any more after group_stop(), which a process calls that has failed. */
swd_status group_share(swd_group *g, swd_err *err);
swd_status group_next(int64_t *out, swd_group *g, swd_err *err);
void group_stop(swd_group *g);
swd_status group_stopped(bool *out, swd_group *g, swd_err *err); /* not collective, either */
/* To be called often by a process that computes: others wait for it to reach the list. Costs next to nothing. */
void group_poke(swd_group *g);
#endif
