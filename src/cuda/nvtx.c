// SPDX-License-Identifier: MIT
#include "nvtx.h"
#include "backend_cuda.h"

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>

static const struct {
    const char *name;
    uint32_t argb;
} kinds[RANGE_KINDS] = {
    [RANGE_REQUEST] = {"request", 0xff4e79a7},
    [RANGE_STAGE] = {"stage", 0xfff28e2b},
    [RANGE_STEP] = {"step", 0xff59a14f},
    [RANGE_OP] = {"op", 0xffbab0ac},
};

static nvtxDomainHandle_t domain_of(swd_backend *b)
{
    return cuda_of(b)->nvtx_domain;
}

static void push(swd_backend *b, swd_range kind, const char *name)
{
    nvtxEventAttributes_t a = {.version = NVTX_VERSION,
                               .size = NVTX_EVENT_ATTRIB_STRUCT_SIZE,
                               .category = (uint32_t)kind + 1,
                               .colorType = NVTX_COLOR_ARGB,
                               .color = kinds[kind].argb,
                               .messageType = NVTX_MESSAGE_TYPE_ASCII,
                               .message.ascii = name};
    (void)nvtxDomainRangePushEx(domain_of(b), &a);
}

static void pop(swd_backend *b)
{
    (void)nvtxDomainRangePop(domain_of(b));
}

// Without a profiler there is no domain: no range is begun at all.
void cuda_nvtx_open(swd_backend *b)
{
    nvtxDomainHandle_t domain = nvtxDomainCreateA("swd");
    if (!domain) return;
    cuda_of(b)->nvtx_domain = domain;
    for (uint32_t k = 0; k < RANGE_KINDS; k++)
        nvtxDomainNameCategoryA(domain, k + 1, kinds[k].name);
    b->range_push = push;
    b->range_pop = pop;
}

void cuda_nvtx_close(swd_backend *b)
{
    if (domain_of(b)) nvtxDomainDestroy(domain_of(b));
}
#else
void cuda_nvtx_open(swd_backend *b)
{
    (void)b;
}

void cuda_nvtx_close(swd_backend *b)
{
    (void)b;
}
#endif
