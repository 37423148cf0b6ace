// SPDX-License-Identifier: MIT
// swd.json of models and adapters: schedules that cannot be sampled are refused when the file is read, with file, preset and reason.
#include "base/memory.h"
#include "../files.h"
#include "pipeline/swd_json.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <swd/swd.h>
#include <sys/stat.h>
#include <unistd.h>

static char model[64], adapter[80], path[96];

static void put(const char *dir, const char *name, const char *text)
{
    snprintf(path, sizeof path, "%s/%s", dir, name);
    write_text(path, text);
}

static void make_folders(void)
{
    make_temporary(model);
    snprintf(adapter, sizeof adapter, "%s/adapter", model);
    cr_assert_eq(mkdir(adapter, 0700), 0);
    put(model, "model_index.json", "{\"_class_name\": \"StableDiffusion3Pipeline\"}");
}

static void remove_folders(void)
{
    remove_temporary(model);
}

TestSuite(swd_json, .init = make_folders, .fini = remove_folders);

static swd_status read_text(const char *text, swd_err *err)
{
    config_swd *c = NULL;
    put(model, "swd.json", text);
    swd_status s = swd_json_read(&c, model, NULL, err);
    cr_expect_eq(c != NULL, s == SWD_OK, "%s", text);
    free(c);
    return s;
}

Test(swd_json, refused)
{
    static const struct {
        const char *lists, *reason;
    } bad[] = {
        {"\"scales\":[8,6],\"sigmas\":[1,0.5]", "scale 2 of the schedule is 6 after 8"},
        {"\"scales\":[4,7],\"sigmas\":[1,0.5]",
         "scale 2 of the schedule is 7; latent sides are even"},
        {"\"scales\":[0,8],\"sigmas\":[1,0.5]", "scale 1 of the schedule is 0"},
        {"\"scales\":[-4,8],\"sigmas\":[1,0.5]", "scale 1 of the schedule is -4"},
        {"\"scales\":[4,4098],\"sigmas\":[1,0.5]", "scale 2 of the schedule is 4098"},
        {"\"scales\":[4,1e3],\"sigmas\":[1,0.5]", "\"scales\"[1] is a number"},
        {"\"scales\":[4,99999999999],\"sigmas\":[1,0.5]", "\"scales\"[1] is 99999999999"},
        {"\"scales\":[4,true],\"sigmas\":[1,0.5]", "\"scales\"[1] is a boolean"},
        {"\"scales\":[4,8],\"sigmas\":[1.5,1]", "sigma 1 of the schedule is 1.5"},
        {"\"scales\":[4,8],\"sigmas\":[1,1e300]", "sigma 2 of the schedule is 1e+300"},
        {"\"scales\":[4,8],\"sigmas\":[1,-0.5]", "sigma 2 of the schedule is -0.5"},
        {"\"scales\":[4,8],\"sigmas\":[1,1]", "sigma 2 of the schedule is 1 after 1"},
        {"\"scales\":[4,8],\"sigmas\":[1,0.99999999999]", "sigma 2 of the schedule is 1 after 1"},
        {"\"scales\":[4,8],\"sigmas\":[0.5,1]", "sigmas must decrease"},
        {"\"scales\":[4,8],\"sigmas\":[0.9,0.5]", "the first sigma of the schedule is 0.9"},
        {"\"scales\":[4,8],\"sigmas\":[1,\"0.5\"]", "\"sigmas\"[1] is a string"},
        {"\"scales\":[4,8],\"sigmas\":[1]", "2 scales but 1 sigmas"},
        {"\"scales\":[4,8],\"sigmas\":[1,0]", "sigma 2 of the schedule is 0"},
        {"\"scales\":[4],\"sigmas\":[1,0.5,0.2]", "1 scales but 3 sigmas"},
        {"\"scales\":[4],\"sigmas\":[0]", "sigma 1 of the schedule is 0"},
        {"\"scales\":[],\"sigmas\":[]", "not empty"},
        {"\"scales\":[4],\"sigmas\":[]", "not empty"},
        {"\"scales\":[4]", "not empty"},
        {"\"sigmas\":[1]", "not empty"},
        {"\"scales\":4,\"sigmas\":[1]", "\"scales\" is an integer, a list is needed"},
        {"\"scales\":[4],\"sigmas\":{}", "\"sigmas\" is an object, a list is needed"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256];
        swd_err err = {0};
        snprintf(text, sizeof text,
                 "{\"presets\":{\"fine\":{\"scales\":[4],\"sigmas\":[1]},\"odd one\":{%s}}}",
                 bad[i].lists);
        cr_expect_eq(read_text(text, &err), SWD_ERR_FILE, "%s", text);
        cr_expect_not_null(strstr(err.message, path), "no file: %s", err.message);
        cr_expect_not_null(strstr(err.message, "odd one"), "no preset: %s", err.message);
        cr_expect_not_null(strstr(err.message, bad[i].reason), "%s: %s", text, err.message);
    }
}

// JSON has no such numbers: the file is malformed, and the message says where.
Test(swd_json, no_numbers)
{
    static const char *const bad[] = {"NaN", "nan", "Infinity", "-Infinity", "1e999", ".5", "0x1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[128];
        swd_err err = {0};
        snprintf(text, sizeof text, "{\"presets\":{\"a\":{\"scales\":[4,8],\"sigmas\":[1,%s]}}}",
                 bad[i]);
        cr_expect_eq(read_text(text, &err), SWD_ERR_FILE, "%s", text);
        cr_expect_not_null(strstr(err.message, path), "no file: %s", err.message);
        cr_expect_not_null(strstr(err.message, "malformed JSON at byte"), "%s", err.message);
    }
}

Test(swd_json, too_many_steps)
{
    char text[8192];
    for (int n = 256; n <= 257; n++) {
        swd_err err = {0};
        int at = snprintf(text, sizeof text, "{\"presets\":{\"a\":{\"scales\":[4");
        for (int i = 1; i < n; i++) at += snprintf(text + at, sizeof text - (size_t)at, ",4");
        at += snprintf(text + at, sizeof text - (size_t)at, "],\"sigmas\":[1");
        for (int i = 1; i < n; i++)
            at += snprintf(text + at, sizeof text - (size_t)at, ",%g", 1 - i / 512.);
        snprintf(text + at, sizeof text - (size_t)at, ",0]}}}");
        cr_expect_eq(read_text(text, &err), n == 256 ? SWD_OK : SWD_ERR_FILE, "%s", err.message);
    }
}

// The rule once more, in other words: an oracle for lists of values that are easily wrong.
static bool makes_a_schedule(const int *scales, int n_scales, const double *sigmas, int n_sigmas)
{
    if (n_sigmas == n_scales + 1 && sigmas[n_scales] == 0) n_sigmas--;
    bool ok = n_scales > 0 && n_scales == n_sigmas && sigmas[0] == 1;
    for (int i = 0; ok && i < n_scales; i++) {
        ok = scales[i] >= (i ? scales[i - 1] : 2) && scales[i] <= 4096 && scales[i] % 2 == 0;
        ok = ok && sigmas[i] > 0 && (i == 0 || (float)sigmas[i] < (float)sigmas[i - 1]);
    }
    return ok;
}

Test(swd_json, random_lists)
{
    static const int sides[] = {2, 4, 4, 6, 8, 64, 4096, 3, 0, -2, 4098, 2147483647};
    static const double levels[] = {1, 0.9, 0.5, 0.25, 0.1, 1e-9, 0, -0.0, -1, 1.0000001, 1e308};
    uint64_t state = 1;
    int accepted = 0;
    for (int round = 0; round < 4000; round++) {
        int scales[4], n_scales, n_sigmas, at;
        double sigmas[4];
        char text[512];
        swd_err err = {0};
#define DRAW(n) ((int)((state = state * 6364136223846793005u + 1442695040888963407u) >> 33) % (n))
        n_scales = DRAW(4);
        n_sigmas = DRAW(3) ? n_scales + DRAW(2) : DRAW(5);
        at = snprintf(text, sizeof text, "{\"presets\":{\"p\":{\"scales\":[");
        for (int i = 0; i < n_scales; i++) {
            scales[i] = sides[DRAW(3) ? DRAW(2) + i : DRAW(12)]; // mostly sound
            at += snprintf(text + at, sizeof text - (size_t)at, i ? ",%d" : "%d", scales[i]);
        }
        at += snprintf(text + at, sizeof text - (size_t)at, "],\"sigmas\":[");
        for (int i = 0; i < n_sigmas; i++) {
            sigmas[i] = levels[DRAW(3) ? i == n_scales ? 6 : i : DRAW(11)];
            at += snprintf(text + at, sizeof text - (size_t)at, i ? ",%.17g" : "%.17g", sigmas[i]);
        }
        snprintf(text + at, sizeof text - (size_t)at, "]}}}");
        bool sound = makes_a_schedule(scales, n_scales, sigmas, n_sigmas);
        cr_assert_eq(read_text(text, &err), sound ? SWD_OK : SWD_ERR_FILE, "%s: %s", text,
                     err.message);
        if (!sound)
            cr_assert(strstr(err.message, path) && strstr(err.message, "p"), "%s", err.message);
        accepted += sound;
    }
    printf("# %d of 4000 lists make a schedule\n", accepted);
    cr_expect(accepted > 200 && accepted < 3000, "%d", accepted); // both sides were tried
}

static swd_status open_both(const swd_lora *l, char *message, size_t n)
{
    swd_context *ctx;
    swd_open_params a;
    swd_open_params_default(&a);
    a.model = model;
    a.loras = l;
    a.n_loras = l ? 1 : 0;
    swd_status s = swd_open(&ctx, &a);
    snprintf(message, n, "%s", swd_message(ctx));
    swd_close(&ctx);
    return s;
}

// Through the public door, for models and adapters; an adapter's default may be a preset of the model.
Test(swd_json, opening)
{
    static const char sound[] = "{\"presets\":{\"mine\":{\"scales\":[4,8],\"sigmas\":[1,0.5]}},"
                                "\"default\":\"mine\"}",
                      wrong[] = "{\"presets\":{\"mine\":{\"scales\":[8,4],\"sigmas\":[1,0.5]}}}";
    char message[1024];
    swd_lora l = {.path = adapter, .scale = 1};
    put(model, "swd.json", sound);
    cr_expect_eq(open_both(NULL, message, sizeof message), SWD_OK, "%s", message);
    put(adapter, "swd.json", "{\"default\":\"mine\"}");
    cr_expect_eq(open_both(&l, message, sizeof message), SWD_OK, "%s", message);
    put(adapter, "swd.json", "{\"default\":\"sd3.5-medium-6\"}");
    cr_expect_eq(open_both(&l, message, sizeof message), SWD_OK, "%s", message);
    put(adapter, "swd.json", "{\"default\":\"yours\"}");
    cr_expect_eq(open_both(&l, message, sizeof message), SWD_ERR_FILE);
    cr_expect(strstr(message, path) && strstr(message, "\"default\": \"yours\""), "%s", message);
    put(adapter, "swd.json", wrong);
    cr_expect_eq(open_both(&l, message, sizeof message), SWD_ERR_FILE);
    cr_expect(strstr(message, path) && strstr(message, "\"mine\""), "%s", message);
    put(model, "swd.json", wrong);
    cr_expect_eq(open_both(NULL, message, sizeof message), SWD_ERR_FILE);
    cr_expect(strstr(message, path) && strstr(message, "\"mine\""), "%s", message);
}
