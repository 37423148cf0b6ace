/* SPDX-License-Identifier: MIT */
/* A whole model folder of the tiny random shape, made by tools/random_model (in the environment: SWD_RANDOM_MODEL), and requests for it. */
#ifndef SWD_TESTS_EMU_TINY_FOLDER_H
#define SWD_TESTS_EMU_TINY_FOLDER_H
#include "tap.h"
#include <swd/swd.h>
#include <unistd.h>

static char tiny_folder[64];

static inline void tiny_folder_remove(void)
{
    char command[128];
    *strrchr(tiny_folder, '/') = '\0'; // what the model lies in goes, too
    snprintf(command, sizeof command, "rm -rf %s", tiny_folder);
    if (system(command) != 0) printf("# %s stays\n", tiny_folder);
}

/* Made at the first call, removed at exit. */
static inline const char *tiny_model(void)
{
    if (tiny_folder[0]) return tiny_folder;
    char command[4096];
    const char *maker = getenv("SWD_RANDOM_MODEL");
    snprintf(tiny_folder, sizeof tiny_folder, "/tmp/swd-emu-XXXXXX");
    CHECK(maker && mkdtemp(tiny_folder), "SWD_RANDOM_MODEL is not set, or no temporary folder");
    strcat(tiny_folder, "/model");
    atexit(tiny_folder_remove);
    snprintf(command, sizeof command, "'%s' tiny %s --t5 --tokenizers '%s' 2>/dev/null", maker,
             tiny_folder, in_source("weights/emoji"));
    CHECK(system(command) == 0, "%s", command);
    return tiny_folder;
}

static inline swd_open_params opening(const char *folder, const char *device,
                                      swd_precision precision)
{
    swd_open_params o;
    swd_open_params_default(&o);
    o.model = folder;
    o.device = device;
    o.precision = precision;
    o.threads = 1;
    return o;
}

/* Where a sanitizer makes the emulator slow only what is small runs. */
static inline int only_small(void)
{
    return getenv("EMU_SMALL") != NULL;
}

/* 64 x 64 pixels, or 32 x 32, the seed 5, eight tokens of T5. */
static inline swd_generate_params request(const char *const *prompts, int n)
{
    swd_generate_params a;
    swd_generate_params_default(&a);
    a.prompts = prompts;
    a.n_prompts = n;
    a.random_seed = 0;
    a.seed = 5;
    a.max_tokens = 8;
    a.width = a.height = only_small() ? 32 : 64;
    return a;
}

static inline swd_context *opened(const swd_open_params *o)
{
    swd_context *ctx = NULL;
    CHECK(swd_open(&ctx, o) == SWD_OK, "%s", swd_message(ctx));
    return ctx;
}
#endif
