/* SPDX-License-Identifier: MIT */
/* Launchers of the kernels with bugs on purpose: y [256] from x [1024], on one block unless said. */
#ifndef SWD_TESTS_EMU_PLANTED_H
#define SWD_TESTS_EMU_PLANTED_H
#include <cuda_runtime_api.h>
#include <stdbool.h>

typedef struct planted_pair {
    float *y;
    const float *x;
} planted_pair;

/* case, what y holds where nothing is wrong (see expected() in planted.c) */
#define PLANTED_KERNELS(X)                                                                         \
    X(missing_barrier, REVERSED)                                                                   \
    X(write_after_read, TILES)                                                                     \
    X(wait_count, TILES)                                                                           \
    X(copies_of_others, TILES)                                                                     \
    X(early_copy, TILES)                                                                           \
    X(missing_syncwarp, ROTATED)                                                                   \
    X(static_bounds, QUARTER)                                                                      \
    X(dynamic_bounds, FIRST_32)                                                                    \
    X(read_past, COPIED)                                                                           \
    X(read_before, COPIED)                                                                         \
    X(write_past, COPIED)                                                                          \
    X(diverging, SWAPPED)                                                                          \
    X(lane_not_in_mask, HALF_SWAPPED)                                                              \
    X(source_not_in_mask, HALF_SWAPPED)                                                            \
    X(lane_exited, WARP_SUMS)                                                                      \
    X(exit_while_others_wait, WARP_SUMS)                                                           \
    X(barrier_after_exit, WARP_SUMS)                                                               \
    X(different_barriers, COPIED)                                                                  \
    X(deadlock, REVERSED_64)                                                                       \
    X(barrier_zero, REVERSED_64)                                                                   \
    X(misaligned_load, EVERY_4TH)                                                                  \
    X(misaligned_cp_async, EVERY_4TH)                                                              \
    X(misaligned_ldmatrix, TWOS)                                                                   \
    X(unset_shared, COPIED)                                                                        \
    X(lost_update, TOTAL)                                                                          \
    X(blocks_race, FOUR)                                                                           \
    X(stack, COPIED)                                                                               \
    X(static_and_dynamic, COPIED)                                                                  \
    X(too_much_shared, COPIED)                                                                     \
    X(without_attribute, COPIED)

#ifdef __cplusplus
extern "C" {
#endif
#define X(name, result)                                                                            \
    cudaError_t planted_##name(float *y, const float *x, bool bug, cudaStream_t s);
PLANTED_KERNELS(X)
#undef X
cudaError_t planted_last_block(float *y, float *part, unsigned *count, bool bug, cudaStream_t s);
cudaError_t planted_copy(float *y, const float *x, cudaStream_t s); /* y = x */
cudaError_t planted_struct(planted_pair p, cudaStream_t s);         /* y = x */
#ifdef __cplusplus
}
#endif
#endif
