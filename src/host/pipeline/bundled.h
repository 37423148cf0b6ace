/* SPDX-License-Identifier: MIT */
/* Where the bundled model lies: beside the program (bin/../share/swd/weights/emoji), where it was installed, or in the source tree. */
#ifndef SWD_PIPELINE_BUNDLED_H
#define SWD_PIPELINE_BUNDLED_H
#include "base/status.h"

swd_status bundled_model(char **out, swd_err *err); /* freed by the caller */
#endif
