// SPDX-License-Identifier: MIT
// The CPU as a backend: its memory is the host's, its only stream is the calling thread, its slots are filled by the other files.
#include "backend/cpu/cpu.h"
#include "backend/cpu/cpu_backward.h"
#include "backend/cpu/dnn.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { CPU_ALIGN = 64 };

static void *cpu_alloc(swd_backend *b, size_t bytes)
{
    (void)b;
    if (bytes > SIZE_MAX - CPU_ALIGN) return NULL;
    size_t rounded = (bytes + CPU_ALIGN - 1) / CPU_ALIGN * CPU_ALIGN;
    return aligned_alloc(CPU_ALIGN, rounded ? rounded : CPU_ALIGN);
}

static void cpu_release(swd_backend *b, void *p)
{
    (void)b;
    free(p);
}

static swd_status cpu_upload(swd_backend *b, swd_tensor dst, const void *src, swd_stream *s,
                             swd_err *err)
{
    (void)b, (void)s;
    if (!tensor_contiguous(dst))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "an upload goes to a contiguous tensor");
    memcpy(dst.data, src, tensor_bytes(dst));
    return SWD_OK;
}

static swd_status cpu_download(swd_backend *b, void *dst, swd_tensor src, swd_stream *s,
                               swd_err *err)
{
    (void)b, (void)s;
    if (!tensor_contiguous(src))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a download comes from a contiguous tensor");
    memcpy(dst, src.data, tensor_bytes(src));
    return SWD_OK;
}

static swd_status cpu_synchronize(swd_backend *b, swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    return SWD_OK;
}

static size_t cpu_weight_bytes(swd_backend *b)
{
    return cpu_of(b)->weight_bytes;
}

/* OpenMP keeps the number of threads for each thread that calls. */
static swd_status cpu_bind(swd_backend *b, swd_err *err)
{
    (void)b, (void)err;
#ifdef _OPENMP
    omp_set_num_threads(cpu_of(b)->threads);
#endif
    return SWD_OK;
}

static void cpu_destroy(swd_backend *b)
{
    cpu_state *s = b->state;
    if (s) dnn_engine_destroy(&s->dnn);
    free(s);
    free(b);
}

// The unit that multiplies bf16 faster than float32; NULL: none.
static const char *bf16_unit(void)
{
    switch (dnn_isa()) {
    case DNN_ISA_AMX_BF16:
        return "amx_bf16";
    case DNN_ISA_AVX512_BF16:
        return "avx512_bf16";
    default:
        return NULL;
    }
}

static void cpu_name(char *buf, size_t n)
{
    snprintf(buf, n, "CPU");
#if defined(__x86_64__)
    unsigned r[12];
    for (unsigned i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, r + 4 * i, r + 4 * i + 1, r + 4 * i + 2, r + 4 * i + 3))
            return;
    char raw[sizeof r + 1] = {0};
    memcpy(raw, r, sizeof r);
    size_t len = strlen(raw);
    while (len && raw[len - 1] == ' ') raw[--len] = '\0';
    snprintf(buf, n, "%s", raw + strspn(raw, " "));
#endif
}

static int thread_count(int asked)
{
#ifdef _OPENMP
    int n = asked > 0 ? asked : omp_get_num_procs();
    omp_set_num_threads(n);
    return n;
#else
    (void)asked;
    return 1;
#endif
}

swd_status backend_cpu_create(swd_backend **out, int threads, swd_err *err)
{
    *out = NULL;
    swd_backend *b = calloc(1, sizeof *b);
    if (!b) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for the CPU backend");
    b->name = "cpu";
    b->destroy = cpu_destroy;
    cpu_state *s = b->state = calloc(1, sizeof *s);
    swd_status st = s ? SWD_OK : SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for the CPU backend");
    if (st == SWD_OK) st = dnn_engine_create(&s->dnn, err);
    if (st != SWD_OK) {
        backend_destroy(&b);
        return st;
    }
    s->threads = thread_count(threads);
    const char *unit = bf16_unit();
    char name[64];
    cpu_name(name, sizeof name);
    b->has_bf16 = dnn_isa() >= DNN_ISA_AVX512;
    b->native_bf16 = unit != NULL;
    snprintf(b->device, sizeof b->device, "%s, %d thread%s, %s", name, s->threads,
             s->threads == 1 ? "" : "s", unit ? unit : "float32");
    b->alloc = cpu_alloc;
    b->release = cpu_release;
    b->upload = cpu_upload;
    b->download = cpu_download;
    b->synchronize = cpu_synchronize;
    b->weight_bytes = cpu_weight_bytes;
    b->bind = cpu_bind;
    cpu_norm_slots(&b->ops);
    cpu_elementwise_slots(&b->ops);
    cpu_layout_slots(&b->ops);
    cpu_attention_slots(&b->ops);
    cpu_resize_slots(&b->ops);
    cpu_linear_slots(b);
    cpu_conv_slots(b);
    cpu_backward_slots(b);
    *out = b;
    return SWD_OK;
}
