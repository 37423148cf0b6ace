// SPDX-License-Identifier: MIT
// Copies and fills, in stream order. Pageable sources are staged at once, everything else is read and written when it runs.
#include "runtime.h"
#include <string.h>

namespace emu
{
struct Copy {
    char *dst;
    size_t dst_pitch;
    const char *src;
    size_t src_pitch, width, height;
};

static bool kind_fits(MemoryKind dst, MemoryKind src, cudaMemcpyKind kind)
{
    bool to = dst == MEMORY_DEVICE, from = src == MEMORY_DEVICE;
    switch (kind) {
    case cudaMemcpyHostToHost:
        return !to && !from;
    case cudaMemcpyHostToDevice:
        return to && !from;
    case cudaMemcpyDeviceToHost:
        return !to && from;
    case cudaMemcpyDeviceToDevice:
        return to && from;
    default:
        return kind == cudaMemcpyDefault;
    }
}

static void run(const Copy &c)
{
    for (size_t i = 0; i < c.height; i++)
        memcpy(c.dst + i * c.dst_pitch, c.src + i * c.src_pitch, c.width);
}

static cudaError_t copy(Copy c, cudaMemcpyKind kind, cudaStream_t stream)
{
    CUstream_st *s = stream_of(stream);
    if (cudaError_t e = broken()) return e;
    if (!c.width || !c.height) return cudaSuccess;
    if (c.width > c.dst_pitch || c.width > c.src_pitch) return cudaErrorInvalidPitchValue;
    MemoryKind to = memory_kind(c.dst), from = memory_kind(c.src);
    if (!kind_fits(to, from, kind)) return cudaErrorInvalidValue;
    auto bytes = [&](size_t pitch) { return pitch * (c.height - 1) + c.width; };
    memory_check_range(c.dst, bytes(c.dst_pitch), "the destination of a copy");
    memory_check_range(c.src, bytes(c.src_pitch), "the source of a copy");
    if (from != MEMORY_PAGEABLE || s->capture) return enqueue(stream, [c] { run(c); });
    auto staged = std::make_shared<std::vector<char>>(c.src, c.src + bytes(c.src_pitch));
    return enqueue(stream, [c, staged]() mutable {
        c.src = staged->data();
        run(c);
    });
}

static cudaError_t copy_now(Copy c, cudaMemcpyKind kind)
{
    if (cudaError_t e = unsafe_in_capture()) return e;
    if (cudaError_t e = copy(c, kind, nullptr)) return e;
    drain_stream(stream_of(nullptr));
    return cudaSuccess;
}

static cudaError_t fill(char *p, size_t pitch, int value, size_t width, size_t height,
                        cudaStream_t stream)
{
    (void)stream_of(stream);
    if (cudaError_t e = broken()) return e;
    if (!width || !height) return cudaSuccess;
    if (memory_kind(p) != MEMORY_DEVICE) return cudaErrorInvalidValue;
    memory_check_range(p, pitch * (height - 1) + width, "the destination of a fill");
    return enqueue(stream, [=] {
        for (size_t i = 0; i < height; i++) memset(p + i * pitch, value, width);
    });
}
} // namespace emu

using namespace emu;

static Copy flat(void *dst, const void *src, size_t bytes)
{
    return Copy{static_cast<char *>(dst), bytes, static_cast<const char *>(src), bytes, bytes, 1};
}

extern "C" {
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    Lock lock(runtime_lock);
    return ret(copy(flat(dst, src, bytes), kind, stream));
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind)
{
    Lock lock(runtime_lock);
    return ret(copy_now(flat(dst, src, bytes), kind));
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    Lock lock(runtime_lock);
    return ret(copy(Copy{static_cast<char *>(dst), dst_pitch, static_cast<const char *>(src),
                         src_pitch, width, height},
                    kind, stream));
}

cudaError_t cudaMemcpy2D(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                         size_t width, size_t height, cudaMemcpyKind kind)
{
    Lock lock(runtime_lock);
    return ret(copy_now(Copy{static_cast<char *>(dst), dst_pitch, static_cast<const char *>(src),
                             src_pitch, width, height},
                        kind));
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    Lock lock(runtime_lock);
    return ret(fill(static_cast<char *>(p), bytes, value, bytes, 1, stream));
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return cudaMemsetAsync(p, value, bytes, nullptr);
}

cudaError_t cudaMemset2DAsync(void *p, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream)
{
    Lock lock(runtime_lock);
    if (width > pitch) return ret(cudaErrorInvalidPitchValue);
    return ret(fill(static_cast<char *>(p), pitch, value, width, height, stream));
}
}
