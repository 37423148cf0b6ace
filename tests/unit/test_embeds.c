// SPDX-License-Identifier: MIT
/* Embeddings that are kept: in memory up to a limit, in files that may be damaged; pictures are the same with and without them, and where
 * every prompt is known no text encoder is loaded. */
#include "../files.h"
#include "pipeline/embeds.h"
#include "io/digest.h"
#include "pipeline/generate.h"
#include "pipeline/prompt.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *temporary_folder(void)
{
    static char dir[64];
    make_temporary(dir);
    return dir;
}

static void shell(const char *format, const char *dir)
{
    char command[512];
    snprintf(command, sizeof command, format, dir);
    cr_assert_eq(system(command), 0, "%s", command);
}

static embeds_cache *cache(const char *identity, const char *dir)
{
    swd_err err = {0};
    embeds_cache *c;
    cr_assert_eq(embeds_create(&c, identity, dir, &err), SWD_OK, "%s", err.message);
    return c;
}

static const embeds_shape small = {.tokens = 3, .width = 5, .pooled = 4, .max_tokens = 2};
enum { SMALL = 3 * 5 + 4 };

static void expect_in_file(const char *dir, const char *prompt, const float *want, int damaged)
{
    char note[EMBEDS_NOTE_MAX];
    embeds_cache *c = cache("model a", dir);
    const float *got = embeds_find(c, prompt, &small);
    cr_expect_eq(!got, !want, "\"%s\" is %sthere", prompt, got ? "" : "not ");
    if (got && want) cr_expect_eq(memcmp(got, want, SMALL * sizeof(float)), 0);
    embeds_take_note(c, note);
    cr_expect_eq(strstr(note, "1 damaged") != NULL, damaged, "note \"%s\"", note);
    embeds_take_note(c, note);
    cr_expect_eq(note[0], '\0');
    embeds_destroy(&c);
}

Test(embeds, files_are_read_back_if_nothing_is_wrong_with_them)
{
    static const char start[] = "printf x | dd of=$(echo %s/*) bs=1 seek=7 conv=notrunc "
                                "2>/dev/null",
                      last_number[] = "f=$(echo %s/*); printf x | dd of=$f bs=1 "
                                      "seek=$(($(stat -c %%s $f) - 2)) conv=notrunc 2>/dev/null";
    static const char *const damages[] = {"truncate -s -1 %s/*",
                                          "truncate -s 0 %s/*",
                                          start,
                                          last_number,
                                          "sed -i 's/\"digest\":\"./\"digest\":\"x/' %s/*",
                                          "sed -i 's/a prompt/b prompt/' %s/*",
                                          "sed -i 's/\"F32\"/\"I32\"/' %s/*"};
    swd_err err = {0};
    float numbers[SMALL];
    char *dir = temporary_folder();
    for (int i = 0; i < SMALL; i++) numbers[i] = (float)i * 0.25f - 1;
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        embeds_cache *c = cache("model a", dir);
        cr_assert_eq(embeds_keep(c, "a prompt", &small, numbers, &err), SWD_OK, "%s", err.message);
        embeds_destroy(&c);
        expect_in_file(dir, "a prompt", numbers, 0);
        shell(damages[i], dir);
        expect_in_file(dir, "a prompt", NULL, 1);
    }
    expect_in_file(dir, "a prompt", NULL, 0); // gone
    cr_expect_eq(rmdir(dir), 0);
}

Test(embeds, what_differs_is_not_taken_for_the_same)
{
    swd_err err = {0};
    float numbers[64] = {1};
    char *dir = temporary_folder(), note[EMBEDS_NOTE_MAX];
    embeds_cache *c = cache("model a", dir), *other = cache("model b", dir);
    const embeds_shape shapes[] = {
        {3, 5, 4, 3}, {3, 5, 5, 2}, {5, 3, 4, 2}, {15, 1, 4, 2}, {3, 5, 4, 20}};
    cr_assert_eq(embeds_keep(c, "", &small, numbers, &err), SWD_OK);
    cr_expect_not_null(embeds_find(c, "", &small));
    cr_expect_null(embeds_find(c, " ", &small));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        cr_expect_null(embeds_find(c, "", &shapes[i]), "shape %zu", i);
    cr_expect_null(embeds_find(other, "", &small));
    // a prompt that is no UTF-8 has no name in a file
    cr_expect_eq(embeds_keep(c, "\xff", &small, numbers, &err), SWD_OK, "%s", err.message);
    cr_expect_not_null(embeds_find(c, "\xff", &small));
    embeds_take_note(c, note);
    cr_expect(strstr(note, "1 not written") && strstr(note, "UTF-8"), "%s", note);
    embeds_destroy(&c);
    embeds_destroy(&other);
    remove_temporary(dir);
}

Test(embeds, those_used_least_recently_make_room)
{
    swd_err err = {0};
    embeds_shape large = {.tokens = 1 << 10, .width = (1 << 13) - 1, .pooled = 1 << 10};
    float *numbers = calloc(embeds_numbers(&large), sizeof *numbers);
    embeds_cache *c = cache("", NULL);
    int room = embeds_room(c, &large);
    cr_assert_eq(room, 8);
    char name[2] = "a";
    for (int i = 0; i <= room; i++, name[0]++) {
        if (i == room) cr_assert_not_null(embeds_find(c, "a", &large)); // again: b is the oldest
        numbers[7] = (float)i;
        cr_assert_eq(embeds_keep(c, name, &large, numbers, &err), SWD_OK, "%s", err.message);
    }
    for (int i = 0; i <= room; i++) {
        name[0] = (char)('a' + i);
        const float *got = embeds_find(c, name, &large);
        cr_expect_eq(got == NULL, i == 1, "%s", name);
        if (got) cr_expect_eq(got[7], (float)i);
    }
    large.width *= 16;
    cr_expect_eq(embeds_room(c, &large), 0);
    cr_expect_eq(embeds_keep(c, "too large", &large, numbers, &err), SWD_OK);
    cr_expect_null(embeds_find(c, "too large", &large));
    embeds_destroy(&c);
    free(numbers);
}

static uint64_t folder(const char *dir)
{
    swd_err err = {0};
    uint64_t h = DIGEST_SEED;
    cr_assert_eq(digest_folder(&h, dir, &err), SWD_OK, "%s", err.message);
    return h;
}

Test(embeds, a_folder_is_known_by_its_files)
{
    static const char *const changes[] = {
        // one byte of a file that is read whole; the size and the last byte of one that is not
        "printf x | dd of=%s/whole bs=1 seek=1500000 conv=notrunc 2>/dev/null",
        "truncate -s +1 %s/sampled",
        "f=%s/sampled; truncate -s -1 $f && printf x >>$f",
        "cd %s && mv whole whale",
        "touch %s/empty",
        "rm -r %s"};
    char *dir = temporary_folder();
    shell("cd %s && truncate -s 4194304 whole && truncate -s 4194305 sampled", dir);
    uint64_t before = folder(dir);
    shell("touch %s/.hidden", dir);
    cr_expect_eq(folder(dir), before);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        shell(changes[i], dir);
        uint64_t after = folder(dir);
        cr_expect_neq(after, before, "%s", changes[i]);
        before = after;
    }
}

/* ---- pictures ---- */

static const char *const prompts[] = {"a red apple", "", "a cat face", "a red apple"};

static pipeline *open_with(const char *dir, swd_offload offload)
{
    swd_err err = {0};
    swd_open_params o;
    swd_open_params_default(&o);
    o.model = in_source("weights/emoji");
    o.device = "cpu";
    o.embeds_cache = dir;
    o.offload = offload;
    pipeline *p = calloc(1, sizeof *p);
    cr_assert_eq(pipeline_open(p, &o, &err), SWD_OK, "%s", err.message);
    return p;
}

// The first n prompts; 32 x 32 pixels in two steps, with guidance.
static uint64_t pictures(pipeline *p, int n, const char *note)
{
    swd_err err = {0};
    swd_result *r;
    swd_generate_params a;
    swd_generate_params_default(&a);
    a.prompts = prompts;
    a.n_prompts = n;
    a.random_seed = 0;
    a.seed = 3;
    a.width = a.height = 32;
    a.sampler = SWD_SAMPLER_EULER;
    a.steps = 2;
    a.guidance = 3;
    a.negative = "blurry";
    a.max_tokens = 8;
    a.batch = 4;
    cr_assert_eq(generate(&r, &a, p, &err), SWD_OK, "%s", err.message);
    cr_expect(note[0] ? strstr(r->note, note) != NULL : !strstr(r->note, "embeds"), "note \"%s\"",
              r->note);
    uint64_t h = 14695981039346656037u;
    for (int i = 0; i < r->n_images; i++)
        for (int j = 0; j < 32 * 32 * 3; j++) h = (h ^ r->images[i].rgb[j]) * 1099511628211u;
    swd_result_free(&r);
    return h;
}

static void close_it(pipeline *p)
{
    pipeline_close(p);
    free(p);
}

Test(embeds, pictures_are_the_same_and_a_known_prompt_needs_no_encoder)
{
    char *dir = temporary_folder();
    rmdir(dir); // made by the first request
    pipeline *p = open_with(NULL, SWD_OFFLOAD_AUTO);
    uint64_t want = pictures(p, 4, ""), two = pictures(p, 2, "");
    cr_expect(p->text_loaded);
    cr_expect_eq(pictures(p, 4, ""), want, "from memory");
    close_it(p);
    p = open_with(dir, SWD_OFFLOAD_AUTO);
    cr_expect_eq(pictures(p, 2, ""), two, "the first with a folder");
    cr_expect(p->text_loaded);
    close_it(p);
    p = open_with(dir, SWD_OFFLOAD_AUTO);
    cr_expect_eq(pictures(p, 2, ""), two, "from the folder");
    cr_expect(!p->text_loaded && !p->clip[0] && !p->t5, "encoders were loaded");
    cr_expect_eq(pictures(p, 4, ""), want, "one prompt more");
    cr_expect(p->text_loaded);
    close_it(p);
    shell("for f in %s/*; do truncate -s -4 $f; break; done", dir);
    p = open_with(dir, SWD_OFFLOAD_AUTO);
    cr_expect_eq(pictures(p, 4, "1 damaged"), want, "a damaged file");
    cr_expect(p->text_loaded);
    close_it(p);
    shell("test $(ls %s | wc -l) = 4", dir); // four prompts and nothing temporary
    p = open_with(dir, SWD_OFFLOAD_AUTO);
    cr_expect_eq(pictures(p, 4, ""), want, "made anew");
    cr_expect_not(p->text_loaded);
    remove_temporary(dir);
    close_it(p);
}

// One after the other, T5 layer by layer: the same sums in the same order, so the same bytes.
Test(embeds, networks_that_take_turns_give_the_same_pictures)
{
    pipeline *p = open_with(NULL, SWD_OFFLOAD_AUTO);
    uint64_t want = pictures(p, 4, "");
    cr_expect(p->text_loaded && p->transformer, "nobody asked for it");
    close_it(p);
    p = open_with(NULL, SWD_OFFLOAD_ON);
    for (int i = 0; i < 2; i++) {
        cr_expect_eq(pictures(p, 4, ""), want, "call %d", i);
        cr_expect(!p->clip[0] && !p->clip[1] && !p->t5 && p->transformer && p->decoder);
    }
    p->no_embeds = true;
    cr_expect_eq(pictures(p, 4, ""), want, "encoded again");
    close_it(p);
}

// A call of more prompts than there is room for is made in parts, in the order of its pictures.
Test(embeds, many_prompts_are_encoded_in_parts)
{
    char *dir = temporary_folder();
    swd_err err = {0};
    for (int first = 0; first < 2; first++) { // one after the other; then known, from files
        pipeline *p = open_with(NULL, SWD_OFFLOAD_OFF);
        uint64_t want = pictures(p, 4, "");
        close_it(p);
        for (int room = 2; room <= 4; room++) {
            p = open_with(dir, first ? SWD_OFFLOAD_OFF : SWD_OFFLOAD_ON);
            cr_assert_eq(pipeline_read_configs(p, &err), SWD_OK);
            cr_assert_eq(pipeline_load_tokenizers(p, &err), SWD_OK);
            cr_assert_eq(pipeline_load_embeds(p, &err), SWD_OK);
            embeds_shape shape = {prompt_tokens(p, 8), p->facts.context_width,
                                  p->facts.pooled_width, 8};
            embeds_limit(p->embeds, embeds_numbers(&shape) * sizeof(float) * (size_t)room);
            cr_expect_eq(embeds_room(p->embeds, &shape), room);
            cr_expect_eq(pictures(p, 4, ""), want, "room for %d", room);
            cr_expect(!p->text_loaded, "text encoders were loaded, or stayed");
            close_it(p);
            if (!first && room < 4) shell("rm %s/*", dir);
        }
    }
    remove_temporary(dir);
}
