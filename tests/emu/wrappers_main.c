// SPDX-License-Identifier: MIT
// emu_wrappers: what the emulator makes of dev.cuh's wrappers is what wrappers_expected.h holds; with --print, writes that file.
#include "wrappers.h"
#include <stdio.h>
#include <string.h>

static void tell(void *ctx, const char *name, const char *message)
{
    if (!message) return;
    printf("%s: %s\n", name, message);
    ++*(int *)ctx;
}

int main(int argc, char **argv)
{
    static uint32_t words[WRAPPER_WORDS];
    uint32_t *out;
    if (cudaMalloc((void **)&out, sizeof words) || wrappers_run(out, true, NULL) ||
        cudaMemcpy(words, out, sizeof words, cudaMemcpyDeviceToHost) || cudaFree(out)) {
        printf("%s\n", cudaGetErrorString(cudaGetLastError()));
        return 1;
    }
    if (argc > 1 && strcmp(argv[1], "--print") == 0) {
        puts("/* SPDX-License-Identifier: MIT */\n"
             "/* Printed by emu_wrappers --print: the words that dev.cuh's wrappers leave in the "
             "emulator (wrappers.h). */\n"
             "#ifndef SWD_TOOLS_GPU_CHECK_WRAPPERS_EXPECTED_H\n"
             "#define SWD_TOOLS_GPU_CHECK_WRAPPERS_EXPECTED_H\n"
             "#include <stdint.h>\n"
             "/* clang-format off */\n"
             "static const uint32_t wrappers_expected[] = {");
        for (int i = 0; i < WRAPPER_WORDS; i++)
            printf("0x%08x,%s", words[i], i % 8 == 7 || i + 1 == WRAPPER_WORDS ? "\n" : " ");
        puts("};\n/* clang-format on */\n#endif");
        return 0;
    }
    int n_off = 0;
    wrappers_compare(words, true, tell, &n_off);
    return n_off != 0;
}
