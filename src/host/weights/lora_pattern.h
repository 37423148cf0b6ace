/* SPDX-License-Identifier: MIT */
/* PEFT's rank_pattern and alpha_pattern: Python regular expressions that must match the end of a module's name. */
#ifndef SWD_WEIGHTS_LORA_PATTERN_H
#define SWD_WEIGHTS_LORA_PATTERN_H
#include "base/status.h"
#include <stdbool.h>

enum { LORA_PATTERN_BYTES_MAX = 512 };

/* Does re.match("(.*\.)?(" pattern ")$", module) match? Look-around, back-references and counted repetition are SWD_ERR_UNSUPPORTED;
 * path and field are for the message. */
swd_status lora_pattern_match(bool *out, const char *pattern, const char *module, const char *path,
                              const char *field, swd_err *err);
#endif
