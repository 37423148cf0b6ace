// SPDX-License-Identifier: MIT
// The keys of training: the table and the struct agree, JSON and flags set the same, what is wrong is told by name.
#include "../files.h"
#include "io/mapping.h"
#include "train/train_config.h"
#include "train/train_keys.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static swd_err err;
static swd_train_params p;

static swd_status parse(const char *json)
{
    return train_config_parse(&p, "x.json", json, strlen(json), &err);
}

static void expect_message(const char *what)
{
    cr_expect_not_null(strstr(err.message, what), "\"%s\", not \"%s\"", err.message, what);
}

static void begin(void)
{
    err = (swd_err){0};
    train_config_default(&p);
}

TestSuite(train_config, .init = begin);

/* Each key's default is a value it can have, each field belongs to one key, no two keys share bytes. */
Test(train_config, table)
{
    static unsigned char owner[sizeof(swd_train_params)];
    size_t owned = 0;
    for (int i = 0; i < train_n_keys; i++) {
        const train_key *k = &train_keys[i];
        cr_expect_eq(train_config_key(i), &k->pub);
        cr_expect_eq(train_config_set(&p, k->pub.name, k->pub.default_value, &err), SWD_OK, "%s",
                     err.message);
        for (size_t b = 0; b < k->size; b++) owned += owner[k->offset + b]++ == 0;
        if (k->count_offset)
            for (size_t b = 0; b < sizeof(int); b++) owned += owner[k->count_offset + b]++ == 0;
        cr_expect_gt(strlen(k->pub.about), 5);
    }
    for (size_t i = 0; i < sizeof owner; i++) cr_expect_leq(owner[i], 1, "byte %zu", i);
    /* size, progress, user, and what alignment leaves */
    cr_expect_leq(sizeof p - owned, 4 * sizeof(void *) + 32, "a field without a key: %zu bytes",
                  sizeof p - owned);
    cr_expect_null(train_config_key(-1));
    cr_expect_null(train_config_key(train_n_keys));
}

Test(train_config, defaults)
{
    cr_expect_eq(p.size, sizeof p);
    cr_expect_eq(p.mode, SWD_TRAIN_MMD);
    cr_expect_eq(p.steps, 3000);
    cr_expect_eq(p.lora_rank, 64);
    cr_expect_eq(p.learning_rate, 5e-6);
    cr_expect_eq(p.gan_weight, 5e-3);
    cr_expect_eq(p.discriminator_weight, 1e-2);
    cr_expect_eq(p.clip_norm, 10);
    cr_expect_eq(p.fake_updates, 5);
    cr_expect_eq(p.gradient_checkpointing, 1);
    cr_expect_eq(p.n_data, 0);
    cr_expect_str_eq(p.device, "auto");
}

/* docs/training.md has a row of each key, with its default and what the help says. */
Test(train_config, documented)
{
    char row[1024];
    swd_mapping m;
    cr_assert_eq(mapping_open(&m, in_source("docs/training.md"), 0, &err), SWD_OK, "%s",
                 err.message);
    for (int i = 0; train_config_key(i); i++) {
        const swd_train_key *k = train_config_key(i);
        snprintf(row, sizeof row, "\n| `%s` | %s | %s | %s |\n", k->name, k->type, k->default_value,
                 k->about);
        cr_expect_not_null(memmem(m.data, m.size, row, strlen(row)), "not in docs: %s", row);
    }
    mapping_close(&m);
}

Test(train_config, json_and_flags)
{
    cr_assert_eq(
        parse(
            "{\"data\": [\"a\", \"b,c\"], \"output\": \"o\", \"mode\": \"full\", \"scales\": [4, "
            "8],"
            "\"sigmas\": [1, 0.5], \"learning_rate\": 1e-4, \"clip_norm\": 3, \"steps\": 100000000,"
            "\"resume\": true, \"precision\": \"bf16\"}"),
        SWD_OK, "%s", err.message);
    cr_expect_eq(p.n_data, 2);
    cr_expect_str_eq(p.data[1], "b,c");
    cr_expect_eq(p.mode, SWD_TRAIN_FULL);
    cr_expect_eq(p.n_scales, 2);
    cr_expect_eq(p.scales[1], 8);
    cr_expect_eq(p.sigmas[1], 0.5);
    cr_expect_eq(p.steps, 100000000);
    cr_expect_eq(p.precision, SWD_PRECISION_BF16);
    cr_expect(p.resume);
    cr_expect_eq(train_config_check(&p, &err), SWD_OK, "%s", err.message);

    swd_train_params flags;
    train_config_default(&flags);
    static const char *const set[][2] = {{"data", "a"},          {"output", "o"},
                                         {"mode", "full"},       {"scales", "4,8"},
                                         {"sigmas", "1,.5"},     {"clip_norm", "3"},
                                         {"steps", "100000000"}, {"resume", "true"},
                                         {"precision", "bf16"},  {"learning_rate", "0.0001"}};
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++)
        cr_expect_eq(train_config_set(&flags, set[i][0], set[i][1], &err), SWD_OK, "%s",
                     err.message);
    memset(p.data[1], 0, sizeof p.data[1]);
    p.n_data = 1;
    cr_expect_arr_eq(&flags, &p, sizeof p);

    /* and back */
    char *text;
    cr_assert_eq(train_config_write(&text, &p, &err), SWD_OK);
    train_config_default(&flags);
    cr_assert_eq(train_config_parse(&flags, "y.json", text, strlen(text), &err), SWD_OK, "%s",
                 err.message);
    cr_expect_arr_eq(&flags, &p, sizeof p);
    cr_expect_eq(train_config_agrees(&p, "ck", text, &err), SWD_OK, "%s", err.message);
    p.steps = 5;
    p.threads = 3;
    cr_expect_eq(train_config_agrees(&p, "ck", text, &err), SWD_OK);
    p.learning_rate = 2e-4;
    cr_expect_eq(train_config_agrees(&p, "ck", text, &err), SWD_ERR_ARGUMENT);
    expect_message("ck was trained with learning_rate 0.0001, now it is 0.0002");
    free(text);
    cr_assert_eq(train_config_set(&p, "data", "", &err), SWD_OK);
    cr_expect_eq(p.n_data, 0);
}

Test(train_config, refused)
{
    static const char *const wrong[][2] = {
        {"{\"lerning_rate\": 1}",
         "x.json: \"lerning_rate\" is no key; the nearest is \"learning_rate\""},
        {"{\"batch_size\": 1}", "the nearest is \"batch\""},
        {"{\"batch\": 0}", "batch: a whole number from 1 to 4096 is needed"},
        {"{\"batch\": 2.5}", "batch: a whole number"},
        {"{\"batch\": \"2\"}", "batch: a whole number"},
        {"{\"batch\": null}", "batch: a whole number"},
        {"{\"steps\": 1e400}", "malformed JSON"},
        {"{\"ema\": 1}", "ema: a number from 0 to 0.999999"},
        {"{\"mode\": \"MMD\"}", "mode: mmd, full or flow-matching is needed"},
        {"{\"mode\": 1}", "mode: mmd, full or flow-matching is needed"},
        {"{\"resume\": 1}", "resume: true or false"},
        {"{\"scales\": 4}", "scales: a list"},
        {"{\"scales\": [4, \"8\"]}", "scales: a whole number"},
        {"{\"device\": \"0123456789012345678901234567890123456789\"}", "device: a shorter text"},
        {"{\"output\": \"a\\u0000b\"}", "malformed JSON"},
        {"{\"steps\": 5, \"steps\": 6}", "malformed JSON"},
        {"[1]", "not an object"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        swd_train_params before = p;
        cr_expect_eq(parse(wrong[i][0]), SWD_ERR_FILE, "%s", wrong[i][0]);
        expect_message(wrong[i][1]);
        cr_expect_arr_eq(&before, &p, sizeof p);
    }
    char many[400] = "{\"scales\": [1";
    for (int i = 0; i < SWD_TRAIN_SCALES_MAX; i++) strcat(many, ",2");
    cr_expect_eq(parse(strcat(many, "]}")), SWD_ERR_FILE);
    expect_message("scales: a shorter list");
    static const char *const flags[][2] = {{"batch", ""},
                                           {"batch", "1x"},
                                           {"batch", "1.0"},
                                           {"ema", "nan"},
                                           {"steps", "99999999999999999999"},
                                           {"resume", "yes"},
                                           {"scales", "4,,8"},
                                           {"sigmas", "a"},
                                           {"output", "\xff"},
                                           {"nothing", "1"}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        cr_expect_eq(train_config_set(&p, flags[i][0], flags[i][1], &err), SWD_ERR_ARGUMENT, "%s",
                     flags[i][0]);
    expect_message("\"nothing\" is no key; the nearest is \"");
}

Test(train_config, together)
{
    static const char *const wrong[][2] = {
        {"{}", "data is empty"},
        {"{\"data\": \"d\"}", "output is empty"},
        {"{\"data\": \"d\", \"output\": \"o\", \"preset\": \"p\", \"scales\": [1], \"sigmas\": "
         "[1]}",
         "both given"},
        {"{\"data\": \"d\", \"output\": \"o\", \"scales\": [1]}", "sigmas are missing"},
        {"{\"data\": \"d\", \"output\": \"o\", \"batch\": 8, \"micro_batch\": 3}",
         "does not divide"},
        {"{\"data\": \"d\", \"output\": \"o\", \"weights\": \"whole\", \"init_lora\": \"a\"}",
         "weights are whole"},
        {"{\"data\": \"d\", \"output\": \"o\", \"mode\": \"flow-matching\", \"preset\": \"p\"}",
         "no preset"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        train_config_default(&p);
        cr_assert_eq(parse(wrong[i][0]), SWD_OK, "%s", err.message);
        cr_expect_eq(train_config_check(&p, &err), SWD_ERR_ARGUMENT);
        expect_message(wrong[i][1]);
    }
}
