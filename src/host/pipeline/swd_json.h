/* SPDX-License-Identifier: MIT */
/* swd.json, the schedules that belong to a model or an adapter: read, and held to what the sampler needs. */
#ifndef SWD_PIPELINE_SWD_JSON_H
#define SWD_PIPELINE_SWD_JSON_H
#include "io/config.h"

/* dir/swd.json into a fresh *out (freed with free); NULL if there is no such file. Every schedule in it must pass schedule_check,
 * and "default" name a preset of the file, of model's (NULL: none), or a built-in one: else SWD_ERR_FILE naming file, preset and reason. */
swd_status swd_json_read(config_swd **out, const char *dir, const config_swd *model, swd_err *err);
/* The preset of that name, or NULL; s may be NULL. */
const config_preset *swd_json_find(const config_swd *s, const char *name);
#endif
