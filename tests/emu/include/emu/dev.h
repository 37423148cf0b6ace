/* SPDX-License-Identifier: MIT */
/* The emulator's half of dev.cuh. Inline, so that sanitizers see every access to memory from the kernel's own frame. */
#ifndef SWD_TESTS_EMU_DEV_H
#define SWD_TESTS_EMU_DEV_H
#include "emu/ops.h"

#define SITE_ONLY emu::Site site_ = emu::Site::here()
#define SITE_ARG , SITE_ONLY
#define SITE_PASS_ONLY site_
#define SITE_PASS , site_

#define DYN_SMEM(name) unsigned char *const name = static_cast<unsigned char *>(emu::smem_dynamic())
#define SMEM_ARRAY(T, name, n)                                                                     \
    static const char emu_site_##name = 0;                                                         \
    T(&name)                                                                                       \
    [n] = *static_cast<T(*)[n]>(                                                                   \
        emu::smem_static(&emu_site_##name, sizeof(T) * (n), alignof(T) < 16 ? 16 : alignof(T)))

#define DEV_ALIGNED(p, bytes) emu::aligned(p, bytes, __func__, site_)

namespace emu
{
static inline void aligned(const void *p, size_t bytes, const char *what, Site site)
{
    if (reinterpret_cast<uintptr_t>(p) & (bytes - 1))
        fail_at(site, "%s: address %p is not aligned to %zu bytes", what, p, bytes);
}

static inline void load_row(Ldsm *a, const void *row, Site site)
{
    aligned(row, 16, "ldmatrix", site);
    for (int i = 0; i < 8; i++) a->row[i] = static_cast<const uint16_t *>(row)[i];
}
} // namespace emu

// The destination holds NaNs from the issue on; the copy itself is done as late as the waits allow.
static inline void cp_async16(void *dst, const void *src, bool pred SITE_ARG)
{
    emu::aligned(dst, 16, "cp_async16's destination", site_);
    emu::aligned(src, 16, "cp_async16's source", site_);
    static_cast<uint64_t *>(dst)[0] = static_cast<uint64_t *>(dst)[1] = ~UINT64_C(0);
    if (pred) { // a bad source is reported here, not in the wait
        (void)static_cast<const volatile uint64_t *>(src)[0];
        (void)static_cast<const volatile uint64_t *>(src)[1];
    }
    emu::cp_async_push(dst, src, pred);
}

static inline void cp_async_commit()
{
    emu::cp_async_end_group();
}

template <int N> static inline void cp_async_wait()
{
    emu::CpAsync c;
    while (emu::cp_async_take(N, &c))
        for (int i = 0; i < 2; i++)
            static_cast<uint64_t *>(c.dst)[i] =
                c.pred ? static_cast<const uint64_t *>(c.src)[i] : UINT64_C(0);
}

static inline void ldsm_x4(uint32_t (&r)[4], const void *row SITE_ARG)
{
    emu::Ldsm a;
    a.r = r;
    emu::load_row(&a, row, site_);
    emu::warp_collective(~0u, emu::op_ldsm_x4, &a, "ldsm_x4", site_, false);
}

static inline void ldsm_x4_t(uint32_t (&r)[4], const void *row SITE_ARG)
{
    emu::Ldsm a;
    a.r = r;
    emu::load_row(&a, row, site_);
    emu::warp_collective(~0u, emu::op_ldsm_x4_t, &a, "ldsm_x4_t", site_, false);
}

static inline void ldsm_x2(uint32_t (&r)[2], const void *row SITE_ARG)
{
    emu::Ldsm a;
    a.r = r;
    if (emu::cur->lane < 16) emu::load_row(&a, row, site_);
    emu::warp_collective(~0u, emu::op_ldsm_x2, &a, "ldsm_x2", site_, false);
}

static inline void ldsm_x2_t(uint32_t (&r)[2], const void *row SITE_ARG)
{
    emu::Ldsm a;
    a.r = r;
    if (emu::cur->lane < 16) emu::load_row(&a, row, site_);
    emu::warp_collective(~0u, emu::op_ldsm_x2_t, &a, "ldsm_x2_t", site_, false);
}

template <typename T>
static inline void mma_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                             uint32_t b1 SITE_ARG)
{
    static_assert(std::is_same_v<T, __nv_bfloat16> || std::is_same_v<T, __half>, "");
    emu::Mma m = {d, a, {b0, b1}};
    emu::warp_collective(~0u, std::is_same_v<T, __half> ? emu::op_mma_f16 : emu::op_mma_bf16, &m,
                         "mma_16816", site_, false);
}

static inline void mma_16832_s8(int (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                uint32_t b1 SITE_ARG)
{
    emu::Mma m = {d, a, {b0, b1}};
    emu::warp_collective(~0u, emu::op_mma_s8, &m, "mma_16832_s8", site_, false);
}

#define HAS_E4M3 1
static inline void mma_16832_e4m3(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                  uint32_t b1 SITE_ARG)
{
    emu::Mma m = {d, a, {b0, b1}};
    emu::warp_collective(~0u, emu::op_mma_e4m3, &m, "mma_16832_e4m3", site_, false);
}

static inline float exp2_fast(float x)
{
    return exp2f(x);
}

static inline float rcp_fast(float x)
{
    return 1.0f / x;
}

static inline void named_barrier_sync(int id, int n SITE_ARG)
{
    if (id < 1 || id > 15 || n < WARP || n > 1024 || n % WARP != 0)
        emu::fail_at(site_, "named_barrier_sync(%d, %d): ids are 1..15, counts whole warps", id, n);
    emu::barrier(static_cast<unsigned>(id), static_cast<unsigned>(n), site_, nullptr);
}

static inline float warp_sum(float v SITE_ARG)
{
    emu::warp_collective(~0u, emu::op_sum, &v, "warp_sum", site_, false);
    return v;
}

static inline float warp_max(float v SITE_ARG)
{
    emu::warp_collective(~0u, emu::op_max, &v, "warp_max", site_, false);
    return v;
}
#endif
