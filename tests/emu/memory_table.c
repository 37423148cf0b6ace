// SPDX-License-Identifier: MIT
// The table of docs/memory.md: what one picture of a published model takes on a device, learnt by planning (backend/slab.h) with no weights
// at all. The emulated device stands for any: sizes do not depend on it, but for the workspace of NVIDIA's libraries (docs/memory.md).
#include "pipeline/ahead.h"
#include "tap.h"
#include "weights/shapes.h"

static const struct {
    const char *shape, *title, *preset;
} models[] = {{"sd3-medium", "SD3-M", "sd3.5-medium-6"},
              {"sd3.5-medium", "SD3.5-M", "sd3.5-medium-6"},
              {"sd3.5-large", "SD3.5-L", "sd3.5-large-4"},
              {"flux-dev", "FLUX.1", "flux-4"}};

static swd_err error;

static pipeline *open_shape(const char *shape, bool with_t5, swd_precision precision)
{
    pipeline *p = calloc(1, sizeof *p);
    swd_open_params o;
    swd_open_params_default(&o);
    o.device = "cuda";
    o.precision = precision;
    o.text_encoders = with_t5 ? SWD_TEXT_ALL : SWD_CLIP_L | SWD_CLIP_G;
    p->random = shape_find(shape);
    CHECK(p->random, "no shape %s", shape);
    OK(pipeline_open(p, &o, &error), error);
    return p;
}

// What a card of so many GB has for a program: a part goes to the driver, the context and the desktop.
static const char *card_for(double bytes)
{
    static const int sizes[] = {4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 80, 96, 141};
    static char text[8][16];
    static int at;
    char *out = text[at++ % 8];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (bytes <= 0.93 * sizes[i] * 1024 * 1024 * 1024) {
            snprintf(out, sizeof text[0], "%d GB", sizes[i]);
            return out;
        }
    return "-";
}

static double larger(size_t a, size_t b)
{
    return (double)(a > b ? a : b);
}

static void row(int i, swd_precision precision, bool with_t5, int side)
{
    static const char *const prompt = "";
    swd_generate_params a;
    memory_plan m;
    pipeline *p = open_shape(models[i].shape, with_t5, precision);
    swd_generate_params_default(&a);
    a.prompts = &prompt;
    a.preset = models[i].preset;
    a.width = a.height = side;
    OK(ahead_plan(&m, &a, p, &error), error);
    double turns = larger(m.text, m.pictures),
           apart = larger(m.text, m.denoise > m.decode ? m.denoise : m.decode),
           streamed = larger(m.text, m.streamed > m.decode ? m.streamed : m.decode);
    printf("| %s | %s | %s | %d | %.1f | %s | %.1f | %.1f | %s | %.1f | %.1f | %s | %.1f | %s |\n",
           models[i].title, precision == SWD_PRECISION_F32 ? "f32" : "bf16", with_t5 ? "yes" : "no",
           side, (double)m.all / 1e9, card_for((double)m.all), (double)m.text / 1e9,
           (double)m.pictures / 1e9, card_for(turns), (double)m.denoise / 1e9,
           (double)m.decode / 1e9, card_for(apart), (double)m.streamed / 1e9, card_for(streamed));
    pipeline_close(p);
    free(p);
}

int main(void)
{
    printf("| model | arithmetic | T5 | pixels | everything | card | text | pictures | card | "
           "denoise | "
           "decode | card | streamed | card |\n");
    printf("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < (int)(sizeof models / sizeof *models); i++)
        for (int f32 = 0; f32 < 2; f32++)
            for (int with_t5 = 1; with_t5 >= (strcmp(models[i].title, "FLUX.1") == 0); with_t5--)
                for (int side = 512; side <= 1024; side *= 2)
                    row(i, f32 ? SWD_PRECISION_F32 : SWD_PRECISION_BF16, with_t5, side);
    return 0;
}
