// SPDX-License-Identifier: MIT
// Every id of 3,509 strings against transformers (tools/reference/make_tokenizer_goldens.py), and what must be refused.
#include "../files.h"
#include "io/mapping.h"
#include "text/clip_bpe.h"
#include "text/t5_unigram.h"
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LENGTH = 77, STRINGS = 3509 };

static swd_mapping map(const char *name)
{
    swd_mapping m;
    swd_err err = {0};
    cr_assert_eq(mapping_open(&m, in_source(name), 0, &err), SWD_OK, "%s", err.message);
    return m;
}

static clip_bpe *open_clip(const char *folder, const char *config_folder)
{
    char path[1024];
    clip_bpe *t;
    swd_err err = {0};
    snprintf(path, sizeof path, "%s/vocab.json", folder);
    swd_mapping vocab = map(path);
    snprintf(path, sizeof path, "%s/merges.txt", folder);
    swd_mapping merges = map(path);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", config_folder);
    swd_mapping config = map(path);
    swd_status s = clip_bpe_open_memory(&t, vocab.data, vocab.size, merges.data, merges.size,
                                        config.data, config.size, &err);
    cr_assert_eq(s, SWD_OK, "%s", err.message);
    mapping_close(&vocab);
    mapping_close(&merges);
    mapping_close(&config);
    return t;
}

static t5_unigram *open_t5(const char *folder)
{
    t5_unigram *t;
    swd_err err = {0};
    cr_assert_eq(t5_unigram_open(&t, in_source(folder), &err), SWD_OK, "%s", err.message);
    return t;
}

// Exactly one of clip and t5 is given; pad is what fills up.
static void compare(const clip_bpe *clip, const t5_unigram *t5, int32_t pad, const char *golden)
{
    char path[256];
    snprintf(path, sizeof path, "tests/goldens/tokenizer/%s.bin", golden);
    swd_mapping corpus = map("tests/goldens/tokenizer/corpus.bin"), want = map(path);
    const unsigned char *s = corpus.data, *w = want.data;
    int strings = 0;
    for (; s < corpus.data + corpus.size; strings++) {
        size_t n = (size_t)s[0] | (size_t)s[1] << 8;
        int32_t ids[LENGTH];
        int used = -1, count = w[0];
        swd_err err = {0};
        swd_status status =
            clip ? clip_bpe_encode(clip, ids, LENGTH, &used, (const char *)s + 2, n, &err)
                 : t5_unigram_encode(t5, ids, LENGTH, &used, (const char *)s + 2, n, &err);
        cr_assert_eq(status, SWD_OK, "%s: string %d: %s", golden, strings, err.message);
        cr_assert_eq(used, count, "%s: string %d: %d ids, not %d", golden, strings, used, count);
        for (int i = 0; i < LENGTH; i++) {
            int32_t id = i < count ? w[1 + 2 * i] | w[2 + 2 * i] << 8 : pad;
            cr_assert_eq(ids[i], id, "%s: string %d: id %d is %d, not %d", golden, strings, i,
                         (int)ids[i], (int)id);
        }
        s += 2 + n;
        w += 1 + 2 * count;
    }
    cr_assert_eq(strings, STRINGS);
    cr_assert_eq((size_t)(w - want.data), want.size);
    mapping_close(&corpus);
    mapping_close(&want);
}

static void compare_clip(const char *folder, const char *config, int32_t pad, int max_length,
                         const char *golden)
{
    clip_bpe *t = open_clip(folder, config);
    cr_assert_eq(clip_bpe_max_length(t), max_length);
    compare(t, NULL, pad, golden);
    clip_bpe_close(&t);
    cr_assert_null(t);
}

static void compare_t5(const char *folder, int max_length, const char *golden)
{
    t5_unigram *t = open_t5(folder);
    cr_assert_eq(t5_unigram_max_length(t), max_length);
    compare(NULL, t, 0, golden);
    t5_unigram_close(&t);
    cr_assert_null(t);
}

Test(tokenize, published_clip)
{
    compare_clip("tests/data/vocab/tokenizer", "tests/data/vocab/tokenizer", 49407, 77, "clip");
}
Test(tokenize, published_clip_2)
{
    compare_clip("tests/data/vocab/tokenizer", "tests/data/vocab/tokenizer_2", 0, 77, "clip_2");
}
Test(tokenize, published_t5)
{
    compare_t5("tests/data/vocab/tokenizer_3", 512, "t5");
}
Test(tokenize, small_clip)
{
    compare_clip("weights/emoji/tokenizer", "weights/emoji/tokenizer", 2047, 16, "small");
}
Test(tokenize, small_clip_2)
{
    compare_clip("weights/emoji/tokenizer_2", "weights/emoji/tokenizer_2", 0, 16, "small_2");
}
Test(tokenize, small_t5)
{
    compare_t5("weights/emoji/tokenizer_3", 16, "small_3");
}

static clip_bpe *clip_under(const char *config)
{
    swd_mapping vocab = map("weights/emoji/tokenizer/vocab.json"),
                merges = map("weights/emoji/tokenizer/merges.txt");
    clip_bpe *t;
    swd_err err = {0};
    cr_assert_eq(clip_bpe_open_memory(&t, vocab.data, vocab.size, merges.data, merges.size, config,
                                      strlen(config), &err),
                 SWD_OK, "%s: %s", config, err.message);
    mapping_close(&vocab);
    mapping_close(&merges);
    return t;
}

static t5_unigram *t5_under(const char *config)
{
    swd_mapping model = map("weights/emoji/tokenizer_3/spiece.model");
    t5_unigram *t;
    swd_err err = {0};
    cr_assert_eq(t5_unigram_open_memory(&t, model.data, model.size, config, strlen(config), &err),
                 SWD_OK, "%s: %s", config, err.message);
    mapping_close(&model);
    return t;
}

// The bundled vocabularies under 45 other configs, as transformers takes them.
Test(tokenize, configs)
{
    swd_mapping file = map("tests/goldens/tokenizer/configs.json");
    json_t *root = json_loadb((const char *)file.data, file.size, 0, NULL), *k;
    const json_t *strings = json_object_get(root, "strings");
    size_t i;
    cr_assert_eq(json_array_size(strings), 22);
    cr_assert_eq(json_array_size(json_object_get(root, "cases")), 45);
    json_array_foreach(json_object_get(root, "cases"), i, k)
    {
        char *config = json_dumps(json_object_get(k, "config"), 0);
        bool is_clip = strcmp(json_string_value(json_object_get(k, "kind")), "clip") == 0;
        clip_bpe *clip = is_clip ? clip_under(config) : NULL;
        t5_unigram *t5 = is_clip ? NULL : t5_under(config);
        for (size_t j = 0; j < json_array_size(strings); j++) {
            const char *s = json_string_value(json_array_get(strings, j));
            const json_t *want = json_array_get(json_object_get(k, "ids"), j);
            int32_t ids[16];
            swd_status status = clip ? clip_bpe_encode(clip, ids, 16, NULL, s, strlen(s), NULL)
                                     : t5_unigram_encode(t5, ids, 16, NULL, s, strlen(s), NULL);
            cr_assert_eq(status, SWD_OK);
            cr_assert_eq(json_array_size(want), 16);
            for (size_t n = 0; n < 16; n++)
                cr_assert_eq(ids[n], json_integer_value(json_array_get(want, n)),
                             "%s: \"%s\": id %zu is %d, not %d", config, s, n, (int)ids[n],
                             (int)json_integer_value(json_array_get(want, n)));
        }
        clip_bpe_close(&clip);
        t5_unigram_close(&t5);
        free(config);
    }
    json_decref(root);
    mapping_close(&file);
}

// Truncation keeps start and end at every length.
Test(tokenize, lengths)
{
    clip_bpe *clip = open_clip("weights/emoji/tokenizer", "weights/emoji/tokenizer");
    t5_unigram *t5 = open_t5("weights/emoji/tokenizer_3");
    const char *s = "a red heart, a green apple and a smiling cat";
    int32_t full[LENGTH], ids[LENGTH];
    int n_full, n;
    swd_err err = {0};
    cr_assert_eq(clip_bpe_encode(clip, full, LENGTH, &n_full, s, strlen(s), &err), SWD_OK);
    for (int length = 2; length <= n_full; length++) {
        cr_assert_eq(clip_bpe_encode(clip, ids, length, &n, s, strlen(s), &err), SWD_OK);
        cr_assert_eq(n, length);
        cr_assert_arr_eq(ids, full, (size_t)(length - 1) * sizeof *ids);
        cr_assert_eq(ids[length - 1], 2047);
    }
    cr_assert_eq(clip_bpe_encode(clip, ids, 1, &n, s, strlen(s), &err), SWD_ERR_ARGUMENT);
    cr_assert_eq(t5_unigram_encode(t5, full, LENGTH, &n_full, s, strlen(s), &err), SWD_OK);
    for (int length = 1; length <= n_full; length++) {
        cr_assert_eq(t5_unigram_encode(t5, ids, length, NULL, s, strlen(s), &err), SWD_OK);
        cr_assert_arr_eq(ids, full, (size_t)(length - 1) * sizeof *ids);
        cr_assert_eq(ids[length - 1], 1);
    }
    cr_assert_eq(t5_unigram_encode(t5, ids, 0, NULL, s, strlen(s), &err), SWD_ERR_ARGUMENT);
    clip_bpe_close(&clip);
    t5_unigram_close(&t5);
}

Test(tokenize, invalid_utf8)
{
    static const struct {
        const char *s;
        size_t n;
        const char *where;
    } bad[] = {
        {"abc\xff", 4, "byte 3"},
        {"\x80", 1, "byte 0"},
        {"a\xc3", 2, "byte 1"},
        {"\xc0\xaf", 2, "byte 0"},
        {"ab\xed\xa0\x80", 5, "byte 2"},
        {"\xf4\x90\x80\x80", 4, "byte 0"},
        {"\0\xe2\x82", 3, "byte 1"},
        {"\xf0\x9f\x98", 3, "byte 0"},
        {"<|endoftext|>\xfe", 14, "byte 13"},
    };
    clip_bpe *clip = open_clip("weights/emoji/tokenizer", "weights/emoji/tokenizer");
    t5_unigram *t5 = open_t5("weights/emoji/tokenizer_3");
    int32_t ids[LENGTH];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        swd_err a = {0}, b = {0};
        cr_assert_eq(clip_bpe_encode(clip, ids, LENGTH, NULL, bad[i].s, bad[i].n, &a),
                     SWD_ERR_ARGUMENT, "case %zu", i);
        cr_assert_eq(t5_unigram_encode(t5, ids, LENGTH, NULL, bad[i].s, bad[i].n, &b),
                     SWD_ERR_ARGUMENT, "case %zu", i);
        cr_assert(strstr(a.message, bad[i].where), "%s", a.message);
        cr_assert(strstr(b.message, bad[i].where), "%s", b.message);
    }
    clip_bpe_close(&clip);
    t5_unigram_close(&t5);
}

static void refuse_clip(const char *vocab, const char *merges, const char *config)
{
    clip_bpe *t = NULL;
    swd_err err = {0};
    swd_status s = clip_bpe_open_memory(&t, vocab, strlen(vocab), merges, strlen(merges), config,
                                        config ? strlen(config) : 0, &err);
    cr_assert_eq(s, SWD_ERR_FILE, "%.60s | %.60s | %.60s: %d %s", vocab, merges,
                 config ? config : "", (int)s, err.message);
    cr_assert(err.message[0]);
    cr_assert_null(t);
}

#define ENDS "\"<|startoftext|>\": 2, \"<|endoftext|>\": 3"

Test(tokenize, malformed_clip)
{
    const char *good = "{\"a\": 0, \"b</w>\": 1, \"ab</w>\": 4, " ENDS "}";
    clip_bpe *t;
    swd_err err = {0};
    cr_assert_eq(
        clip_bpe_open_memory(&t, good, strlen(good), "#version: 0.2\na b</w>\n", 22, NULL, 0, &err),
        SWD_OK, "%s", err.message);
    int32_t ids[4];
    cr_assert_eq(clip_bpe_encode(t, ids, 4, NULL, "AB", 2, &err), SWD_OK);
    cr_assert_eq(ids[1], 4);
    clip_bpe_close(&t);
    refuse_clip("", "", NULL);
    refuse_clip("[]", "", NULL);
    refuse_clip("{}", "", NULL);
    refuse_clip("{\"a\": 0", "", NULL);
    refuse_clip("{\"a\": -1, " ENDS "}", "", NULL);
    refuse_clip("{\"a\": \"0\", " ENDS "}", "", NULL);
    refuse_clip("{\"a\": 99999999999, " ENDS "}", "", NULL);
    refuse_clip("{\"a\": 0}", "", NULL);
    refuse_clip(good, "a\n", NULL);
    refuse_clip(good, "a  b</w>\n", NULL);
    refuse_clip(good, "a b</w> c\n", NULL);
    refuse_clip(good, " a\n", NULL);
    refuse_clip(good, "a c\n", NULL);
    refuse_clip(good, "a b</", NULL);
    refuse_clip(good, "", "{");
    refuse_clip(good, "", "{\"bos_token\": 3}");
    refuse_clip(good, "", "{\"pad_token\": \"?\"}");
    refuse_clip(good, "", "{\"model_max_length\": 0}");
    refuse_clip(good, "", "{\"model_max_length\": \"77\"}");
    refuse_clip(good, "", "{\"added_tokens_decoder\": []}");
    refuse_clip(good, "", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"y\"}}}");
    refuse_clip(good, "", "{\"added_tokens_decoder\": {\"1\": {}}}");
}

// A published file that ends early is refused (or, where the cut is between two records, at least opens and closes).
Test(tokenize, truncated)
{
    swd_mapping vocab = map("weights/emoji/tokenizer/vocab.json"),
                merges = map("weights/emoji/tokenizer/merges.txt");
    swd_mapping model = map("weights/emoji/tokenizer_3/spiece.model");
    for (int i = 0; i < 40; i++) {
        size_t n = vocab.size * (size_t)i / 40;
        clip_bpe *clip = NULL;
        swd_err err = {0};
        cr_assert_eq(
            clip_bpe_open_memory(&clip, vocab.data, n, merges.data, merges.size, NULL, 0, &err),
            SWD_ERR_FILE);
        cr_assert(err.message[0] && !clip);
    }
    int refused = 0;
    for (int i = 0; i < 40; i++) {
        size_t n = model.size * (size_t)i / 40;
        void *exact = malloc(n + 1); // so that a sanitizer sees a read past the end
        memcpy(exact, model.data, n);
        t5_unigram *t5 = NULL;
        swd_err err = {0};
        swd_status s = t5_unigram_open_memory(&t5, exact, n, NULL, 0, &err);
        cr_assert(s == SWD_OK || (s == SWD_ERR_FILE && err.message[0] && !t5), "%zu bytes: %d %s",
                  n, (int)s, err.message);
        refused += s != SWD_OK;
        t5_unigram_close(&t5);
        free(exact);
    }
    cr_assert_geq(refused, 30);
    mapping_close(&vocab);
    mapping_close(&merges);
    mapping_close(&model);
}

// What transformers refuses, cannot pad with, or does in a way that is not here: by the name of the field.
Test(tokenize, refused_configs)
{
    static const struct {
        const char *config, *part;
        swd_status status;
        bool t5_only;
    } bad[] = {
        {"{\"padding_side\":\"left\"}", "padding_side", SWD_ERR_UNSUPPORTED, false},
        {"{\"truncation_side\":\"left\"}", "truncation_side", SWD_ERR_UNSUPPORTED, false},
        {"{\"truncation_side\":1}", "truncation_side", SWD_ERR_FILE, false},
        {"{\"split_special_tokens\":true}", "split_special_tokens", SWD_ERR_UNSUPPORTED, false},
        {"{\"pad_token\":null}", "pad_token", SWD_ERR_FILE, false},
        {"{\"pad_token\":\"[PAD]\"}", "[PAD]", SWD_ERR_FILE, false},
        {"{\"unk_token\":null}", "unk_token", SWD_ERR_FILE, false},
        {"{\"eos_token\":{\"text\":\"</s>\"}}", "eos_token", SWD_ERR_FILE, false},
        {"{\"additional_special_tokens\":\"x\"}", "additional_special_tokens", SWD_ERR_FILE, false},
        {"{\"additional_special_tokens\":[1]}", "additional_special_tokens[0]", SWD_ERR_FILE,
         false},
        {"{\"added_tokens_decoder\":{\"1\":\"x\"}}", "bad entry \"1\"", SWD_ERR_FILE, false},
        {"{\"model_max_length\":-1}", "model_max_length", SWD_ERR_FILE, false},
        {"{\"add_prefix_space\":\"yes\"}", "add_prefix_space", SWD_ERR_FILE, true},
        {"{\"legacy\":0}", "legacy", SWD_ERR_FILE, true},
        {"{\"extra_ids\":-1}", "extra_ids", SWD_ERR_FILE, true},
        {"{\"extra_ids\":\"100\"}", "extra_ids", SWD_ERR_FILE, true},
        {"{\"extra_ids\":5,\"additional_special_tokens\":[\"<extra_id_0>\"]}",
         "\"extra_ids\" is 5, but \"additional_special_tokens\" has 1", SWD_ERR_FILE, true},
    };
    swd_mapping vocab = map("weights/emoji/tokenizer/vocab.json"),
                merges = map("weights/emoji/tokenizer/merges.txt"),
                model = map("weights/emoji/tokenizer_3/spiece.model");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *c = bad[i].config;
        for (int t5 = bad[i].t5_only; t5 < 2; t5++) {
            swd_err err = {0};
            clip_bpe *clip = NULL;
            t5_unigram *unigram = NULL;
            swd_status s =
                t5 ? t5_unigram_open_memory(&unigram, model.data, model.size, c, strlen(c), &err)
                   : clip_bpe_open_memory(&clip, vocab.data, vocab.size, merges.data, merges.size,
                                          c, strlen(c), &err);
            cr_expect_eq(s, bad[i].status, "%s: %d %s", c, (int)s, err.message);
            cr_expect(strstr(err.message, bad[i].part), "%s: %s", c, err.message);
            cr_expect(!clip && !unigram);
        }
    }
    mapping_close(&vocab);
    mapping_close(&merges);
    mapping_close(&model);
}

static void refuse_t5(const void *model, size_t n)
{
    t5_unigram *t = NULL;
    swd_err err = {0};
    cr_assert_eq(t5_unigram_open_memory(&t, model, n, NULL, 0, &err), SWD_ERR_FILE, "%zu bytes: %s",
                 n, err.message);
    cr_assert(err.message[0] && !t);
}

Test(tokenize, malformed_t5)
{
    refuse_t5("", 0);
    refuse_t5("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11); // a tag that does not end
    refuse_t5("\x0a\x7f"
              "a",
              3);                                                  // a piece longer than the file
    refuse_t5("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11); // 2^64 - 1 bytes
    refuse_t5("\x0b", 1);                                          // a group
    refuse_t5("hello, world", 12);
}

Test(tokenize, missing_files)
{
    clip_bpe *clip;
    t5_unigram *t5;
    swd_err err = {0};
    cr_assert_neq(clip_bpe_open(&clip, "/nonexistent", &err), SWD_OK);
    cr_assert_null(clip);
    cr_assert(strstr(err.message, "/nonexistent/vocab.json"), "%s", err.message);
    err = (swd_err){0};
    cr_assert_neq(t5_unigram_open(&t5, "/nonexistent", &err), SWD_OK);
    cr_assert_null(t5);
    cr_assert(strstr(err.message, "/nonexistent/spiece.model"), "%s", err.message);
}
