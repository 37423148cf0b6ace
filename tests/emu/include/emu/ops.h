/* SPDX-License-Identifier: MIT */
/* The collectives of a warp (ops.cpp) and what each lane hands to them. */
#ifndef SWD_TESTS_EMU_OPS_H
#define SWD_TESTS_EMU_OPS_H
#include "emu/emu.h"

namespace emu
{
struct Shuffle {
    uint64_t value;
    int source; // lane to read; -1: keep the own value
};
struct Vote {
    uint32_t pred, ballot;
};
struct Match {
    uint64_t value;
    uint32_t mask;
};
struct Ldsm {
    uint16_t row[8]; // the row that this lane names
    uint32_t *r;
};
struct Mma {
    void *d; // 4 floats, or ints of s8
    const uint32_t *a;
    uint32_t b[2];
};

void op_none(uint32_t mask, void **a);
void op_shuffle(uint32_t mask, void **a); // Shuffle
void op_vote(uint32_t mask, void **a);    // Vote
void op_match(uint32_t mask, void **a);   // Match
void op_sum(uint32_t mask, void **a); // float, in the order of a butterfly from distance 16 down
void op_max(uint32_t mask, void **a); // float
void op_ldsm_x4(uint32_t mask, void **a);
void op_ldsm_x4_t(uint32_t mask, void **a);
void op_ldsm_x2(uint32_t mask, void **a);
void op_ldsm_x2_t(uint32_t mask, void **a);
void op_mma_bf16(uint32_t mask, void **a);
void op_mma_f16(uint32_t mask, void **a);
void op_mma_s8(uint32_t mask, void **a);
void op_mma_e4m3(uint32_t mask, void **a);
} // namespace emu
#endif
