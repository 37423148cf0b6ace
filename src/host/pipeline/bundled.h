/* SPDX-License-Identifier: MIT */
/* Where the bundled models lie: in share/swd/weights of the prefix that the library is in, or in the source tree, or where it was meant
 * to be installed. */
#ifndef SWD_PIPELINE_BUNDLED_H
#define SWD_PIPELINE_BUNDLED_H
#include "base/status.h"

swd_status bundled_model(char **out, swd_err *err);    /* freed by the caller */
swd_status bundled_student(char **out, swd_err *err);  /* so is this; its adapter for few steps */
swd_status bundled_features(char **out, swd_err *err); /* so is this; a CLIP folder */
/* What one of them finds, into buf: SWD_ERR_ARGUMENT if n is too small. */
swd_status bundled_tell(char *buf, size_t n, swd_status (*find_one)(char **, swd_err *));
#endif
