// SPDX-License-Identifier: MIT
// A profiler for NVTX that writes what it hears to the file SWD_NVTX_LOG: a range is a line "category name", indented by its depth.
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>

static FILE *out;
static int depth, domain;
static const char *category[8];

static nvtxDomainHandle_t NVTX_API create(const char *name)
{
    fprintf(out, "domain %s\n", name);
    return (nvtxDomainHandle_t)(void *)&domain;
}

static void NVTX_API name_category(nvtxDomainHandle_t d, uint32_t id, const char *name)
{
    (void)d;
    if (id < 8) category[id] = name;
}

static int NVTX_API push(nvtxDomainHandle_t d, const nvtxEventAttributes_t *a)
{
    (void)d;
    const char *kind = a->category < 8 ? category[a->category] : NULL;
    fprintf(out, "%*s%s %s\n", depth, "", kind ? kind : "?", a->message.ascii);
    return depth++;
}

static int NVTX_API pop(nvtxDomainHandle_t d)
{
    (void)d;
    return --depth;
}

static void NVTX_API destroy(nvtxDomainHandle_t d)
{
    (void)d;
    fprintf(out, "end at depth %d\n", depth);
    fclose(out);
}

__attribute__((visibility("default"))) int
InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table);
int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table)
{
    const NvtxExportTableCallbacks *callbacks = get_table(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable table = NULL;
    unsigned n = 0;
    const char *file = getenv("SWD_NVTX_LOG");
    if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &n))
        return 0;
    out = file ? fopen(file, "w") : NULL;
    if (!out) return 0;
    *table[NVTX_CBID_CORE2_DomainCreateA] = (NvtxFunctionPointer)create;
    *table[NVTX_CBID_CORE2_DomainDestroy] = (NvtxFunctionPointer)destroy;
    *table[NVTX_CBID_CORE2_DomainNameCategoryA] = (NvtxFunctionPointer)name_category;
    *table[NVTX_CBID_CORE2_DomainRangePushEx] = (NvtxFunctionPointer)push;
    *table[NVTX_CBID_CORE2_DomainRangePop] = (NvtxFunctionPointer)pop;
    return 1;
}
