/* SPDX-License-Identifier: MIT */
/* The readers of config.h that concern no network: scheduler_config.json, model_index.json, swd.json. */
#ifndef SWD_IO_CONFIG_FILES_H
#define SWD_IO_CONFIG_FILES_H
#include "io/config.h"
#endif
