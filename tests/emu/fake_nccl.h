/* SPDX-License-Identifier: MIT */
/* How tests govern the stand-in for NCCL: looked up in it by name. */
#ifndef SWD_TESTS_EMU_FAKE_NCCL_H
#define SWD_TESTS_EMU_FAKE_NCCL_H
#include "vendor/nccl.h"

__attribute__((visibility("default"))) void
fake_nccl_fail(int n); /* the n-th call from now on; 0: none */
__attribute__((visibility("default"))) int fake_nccl_live(void); /* communicators */
#endif
