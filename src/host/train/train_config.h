/* SPDX-License-Identifier: MIT */
/* The keys of training: one table gives defaults, checks, help, the JSON reader and the flags. */
#ifndef SWD_TRAIN_TRAIN_CONFIG_H
#define SWD_TRAIN_TRAIN_CONFIG_H
#include "base/status.h"
#include <swd/train.h>

void train_config_default(swd_train_params *p);
const swd_train_key *train_config_key(int i); /* NULL beyond the last */
/* p changes on success only. */
swd_status train_config_read(swd_train_params *p, const char *path, swd_err *err);
swd_status train_config_parse(swd_train_params *p, const char *path_for_messages, const void *text,
                              size_t n, swd_err *err);
swd_status train_config_set(swd_train_params *p, const char *key, const char *value, swd_err *err);
/* What no key can tell alone: that there are data and an output folder, sigmas to the scales, micro-batches that divide the batch.
 * SWD_ERR_ARGUMENT. */
swd_status train_config_check(const swd_train_params *p, swd_err *err);
/* All keys as JSON that train_config_parse takes, freed by the caller. */
swd_status train_config_write(char **out, const swd_train_params *p, swd_err *err);
/* A session that goes on: saved, as train_config_write made it, must agree in all that shapes the result. path is for messages. */
swd_status train_config_agrees(const swd_train_params *p, const char *path, const char *saved,
                               swd_err *err);
#endif
