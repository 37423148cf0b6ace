/* SPDX-License-Identifier: MIT */
/* Several processes, on several GPUs or machines, that do one call together. mpirun starts them:
 *
 *     swd_group *group = NULL;
 *     char why[1024];
 *     swd_status s = swd_group_open(&group, why, sizeof why);    // alone where mpirun did not start it
 *     open_params.group = group;                                 // for swd_generate, or train_params.group for swd_train
 *     ...
 *     swd_close(&swd);
 *     s = swd_group_close(&group, s, NULL);
 *
 * All processes of a group make the same calls with the same params. swd_generate shares a list of prompts: each process makes the next
 * batch that nobody has, and the pictures are those of one process; each has the pixels of its own, process 0's result names all. swd_train shares each batch. A process that fails makes the
 * calls of all fail, with its message; one that ends without closing the group is for mpirun to clear up, which ends the others. */
#ifndef SWD_PARALLEL_H
#define SWD_PARALLEL_H
#include <swd/swd.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Joins the processes that mpirun has started. Where it has not, or only one, or where the environment has SWD_PARALLEL=off (what such a process
 * starts inherits mpirun's variables), the group is one process, *out NULL, and nothing of MPI is looked for. MPI is
 * behind a module, loaded here: SWD_ERR_UNSUPPORTED if this build has none. Once in a process; of the thread that calls swd_generate or
 * swd_train. On failure *out is NULL and why [n] says what is wrong. */
SWD_API swd_status swd_group_open(swd_group **out, char *why, size_t n);
/* status: how it went here, in words (NULL: none) for the others where they have not heard it from swd_generate or swd_train; all processes wait for each other and get the first
 * failure of any. Contexts that use the group are closed before. Writes NULL; accepts it, and gives status then. */
SWD_API swd_status swd_group_close(swd_group **group, swd_status status, const char *words);
/* This process, from 0, and how many there are. NULL: 0 of 1. Process 0 is the one that speaks: it has the results of all. */
SWD_API int swd_group_rank(const swd_group *group);
SWD_API int swd_group_size(const swd_group *group);

#ifdef __cplusplus
}
#endif
#endif
