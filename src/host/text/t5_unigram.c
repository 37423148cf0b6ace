// SPDX-License-Identifier: MIT
#include "text/t5_unigram.h"
#include "base/memory.h"
#include "io/mapping.h"
#include "text/special.h"
#include "text/unigram_model.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    T5_LENGTH = 512,
    T5_LENGTH_MAX = 1 << 20,
    T5_FILE_BYTES_MAX = 256 << 20,
    T5_EXTRA_IDS = 100
};
static const double UNKNOWN_PENALTY = 10.0;
static const char BLANK[] = "\xe2\x96\x81"; /* U+2581 */

struct t5_unigram {
    unigram_model m;
    int32_t eos, pad;
    int max_length;
    enum { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS } prepend;
};

/* How many <extra_id_N> there are: a list that has some must agree. */
static swd_status count_extra_ids(int64_t *n, const swd_json *config, swd_err *err)
{
    *n = T5_EXTRA_IDS;
    if (!config->root) return SWD_OK;
    SWD_TRY(json_int(n, config, "extra_ids", *n, 0, TEXT_ADDED_MAX / 2, err), err);
    const json_t *list = json_object_get(config->root, "additional_special_tokens");
    int64_t listed = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        const char *text = json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
        listed += text && strstr(text, "<extra_id_");
    }
    if (*n && listed && listed != *n)
        return SWD_FAIL(
            err, SWD_ERR_FILE,
            "%s: field \"extra_ids\" is %d, but \"additional_special_tokens\" has %d of them",
            config->path, (int)*n, (int)listed);
    return SWD_OK;
}

/* Pieces after those of the file, the last id first. */
static swd_status put_extra_ids(unigram_model *m, int64_t n, swd_err *err)
{
    for (int64_t i = n; i-- > 0;) {
        char text[32];
        int length = snprintf(text, sizeof text, "<extra_id_%d>", (int)i);
        SWD_TRY(unigram_model_put(m, text, (size_t)length, 0.0, err), err);
    }
    return SWD_OK;
}

static swd_status mark_extra_ids(unigram_model *m, int64_t n, swd_err *err)
{
    for (int64_t i = n; i-- > 0;) {
        char text[32];
        int length = snprintf(text, sizeof text, "<extra_id_%d>", (int)i);
        added_token token = {
            .text = text, .n = (size_t)length, .id = str_map_find(&m->vocab, text, (size_t)length)};
        SWD_TRY(added_tokens_put(&m->added, &token, err), err);
    }
    return SWD_OK;
}

/* As T5TokenizerFast: what ends a prompt is "</s>" whatever eos_token says. */
static swd_status read_special_tokens(t5_unigram *t, const swd_json *config, swd_err *err)
{
    unigram_model *m = &t->m;
    int64_t n_extra;
    SWD_TRY(count_extra_ids(&n_extra, config, err), err);
    SWD_TRY(put_extra_ids(m, n_extra, err), err);
    special_source s = {&m->added, config, &m->vocab, m->path, m->n};
    SWD_TRY(special_tokens_read_decoder(&s, err), err);
    SWD_TRY(mark_extra_ids(m, n_extra, err), err);
    SWD_TRY(special_token_id(NULL, &s, "eos_token", "</s>", false, err), err);
    SWD_TRY(special_token_id(NULL, &s, "unk_token", "<unk>", false, err), err);
    SWD_TRY(special_token_id(&t->pad, &s, "pad_token", "<pad>", false, err), err);
    SWD_TRY(special_tokens_read_additional(&s, err), err);
    t->eos = str_map_find(&m->vocab, "</s>", 4);
    if (t->eos < 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: no token \"</s>\", which ends a prompt", m->path);
    return SWD_OK;
}

/* Null counts as false for add_prefix_space, as true for legacy. */
static swd_status read_prepend(t5_unigram *t, const swd_json *config, swd_err *err)
{
    const json_t *prefix = json_object_get(config->root, "add_prefix_space");
    bool add, legacy;
    t->prepend = PREPEND_ALWAYS;
    if (!config->root) return SWD_OK;
    SWD_TRY(json_bool(&add, config, "add_prefix_space", !prefix, err), err);
    SWD_TRY(json_bool(&legacy, config, "legacy", true, err), err);
    t->prepend = !add ? PREPEND_NEVER : legacy ? PREPEND_ALWAYS : PREPEND_FIRST;
    return SWD_OK;
}

static swd_status read_all(t5_unigram *t, const void *data, size_t n, const char *path,
                           const swd_json *config, swd_err *err)
{
    SWD_TRY(tokenizer_config_check(config, err), err);
    SWD_TRY(unigram_model_read(&t->m, data, n, path, err), err);
    SWD_TRY(read_special_tokens(t, config, err), err);
    SWD_TRY(read_prepend(t, config, err), err);
    return max_length_read(&t->max_length, config, T5_LENGTH, T5_LENGTH_MAX, err);
}

static swd_status finish_open(t5_unigram **out, const void *data, size_t n, const char *path,
                              const swd_json *config, swd_err *err)
{
    t5_unigram *t = calloc(1, sizeof *t);
    if (!t) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a tokenizer");
    swd_status s = read_all(t, data, n, path, config, err);
    t->m.path = NULL; /* it was only lent */
    if (s != SWD_OK) t5_unigram_close(&t);
    *out = t;
    return s;
}

swd_status t5_unigram_open_memory(t5_unigram **out, const void *model, size_t n_model,
                                  const void *config, size_t n_config, swd_err *err)
{
    swd_json c = {0};
    *out = NULL;
    if (config) SWD_TRY(json_parse(&c, "tokenizer_config.json", config, n_config, err), err);
    swd_status s = finish_open(out, model, n_model, "spiece.model", &c, err);
    json_close(&c);
    return s;
}

swd_status t5_unigram_open(t5_unigram **out, const char *dir, swd_err *err)
{
    swd_json c = {0};
    swd_mapping m = {0};
    char *model = NULL, *config = NULL;
    swd_status s;
    *out = NULL;
    SWD_TRY_GOTO(s, path_join(&model, dir, "spiece.model", err), err, done);
    SWD_TRY_GOTO(s, path_join(&config, dir, "tokenizer_config.json", err), err, done);
    SWD_TRY_GOTO(s, mapping_open(&m, model, T5_FILE_BYTES_MAX, err), err, done);
    if (path_exists(config)) SWD_TRY_GOTO(s, json_open(&c, config, err), err, done);
    SWD_TRY_GOTO(s, finish_open(out, m.data, m.size, model, &c, err), err, done);
done:
    free(model);
    free(config);
    json_close(&c);
    mapping_close(&m);
    return s;
}

void t5_unigram_close(t5_unigram **t)
{
    if (!t || !*t) return;
    unigram_model_free(&(*t)->m);
    free(*t);
    *t = NULL;
}

int t5_unigram_max_length(const t5_unigram *t)
{
    return t->max_length;
}

/* Blanks at the end off, two or more to one U+2581, single ones too, and the leading one. */
static swd_status blanks_to_marks(const t5_unigram *t, text_buf *out, const char *s, size_t n,
                                  bool first, swd_err *err)
{
    size_t k;
    while (n) {
        size_t at = n - 1;
        while (at && ((unsigned char)s[at] & 0xc0) == 0x80) at--;
        if (!text_is_space(text_decode(s + at, n - at, &k))) break;
        n = at;
    }
    bool prepend = t->prepend == PREPEND_ALWAYS || (t->prepend == PREPEND_FIRST && first);
    if (n && prepend && s[0] != ' ' && (n < 3 || memcmp(s, BLANK, 3)))
        SWD_TRY(text_buf_add(out, BLANK, 3, err), err);
    for (size_t i = 0; i < n; i++) {
        if (s[i] != ' ')
            SWD_TRY(text_buf_add(out, s + i, 1, err), err);
        else if (!i || s[i - 1] != ' ')
            SWD_TRY(text_buf_add(out, BLANK, 3, err), err);
    }
    return SWD_OK;
}

typedef struct node {
    double score;
    int32_t id, start; /* start -1: not reached */
} node;

/* The best way to every end; ties keep the first found, which is the longest last piece. */
static void search(const t5_unigram *t, node *best, const char *s, size_t n)
{
    for (size_t at = 0, k; at < n; at += k) {
        bool single = false;
        double so_far = best[at].score;
        text_decode(s + at, n - at, &k);
        int32_t state = 0;
        for (size_t i = at; i < n; i++) {
            state = unigram_model_child(&t->m, state, (unsigned char)s[i]);
            if (state < 0) break;
            int32_t id = t->m.leaf[state];
            if (id < 0) continue;
            node *to = &best[i + 1];
            if (to->start < 0 || t->m.score[id] + so_far > to->score)
                *to = (node){t->m.score[id] + so_far, id, (int32_t)at};
            single |= i + 1 - at == k;
        }
        node *to = &best[at + k];
        double unknown = t->m.min_score - UNKNOWN_PENALTY + so_far;
        if (!single && (to->start < 0 || unknown > to->score))
            *to = (node){unknown, t->m.unk, (int32_t)at};
    }
}

/* One word: unknown characters side by side become one token. */
static swd_status encode_word(const t5_unigram *t, text_ids *ids, const char *s, size_t n,
                              swd_err *err)
{
    if (!n) return SWD_OK;
    if (n >= INT32_MAX / 2)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the prompt has a word of %zu bytes", n);
    node *best = malloc((n + 1) * sizeof *best);
    int32_t *stops = malloc((n + 1) * sizeof *stops);
    if (!best || !stops) {
        free(best);
        free(stops);
        return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a word of %zu bytes", n);
    }
    for (size_t i = 0; i <= n; i++) best[i] = (node){0, -1, -1};
    search(t, best, s, n);
    size_t n_stops = 0;
    for (size_t at = n; at;) {
        stops[n_stops++] = (int32_t)at;
        int32_t id = best[at].id;
        at = (size_t)best[at].start;
        while (id == t->m.unk && at && best[at].id == t->m.unk) at = (size_t)best[at].start;
    }
    size_t start = 0;
    while (n_stops) {
        size_t stop = (size_t)stops[--n_stops];
        int32_t id = str_map_find(&t->m.vocab, s + start, stop - start);
        text_ids_put(ids, id >= 0 ? id : t->m.unk);
        start = stop;
    }
    free(best);
    free(stops);
    return SWD_OK;
}

static swd_status encode_words(const t5_unigram *t, text_ids *ids, const char *s, size_t n,
                               swd_err *err)
{
    for (size_t i = 0, end; i < n && ids->n < ids->max; i = end) {
        for (end = i + 1; end < n; end++)
            if (n - end >= 3 && !memcmp(s + end, BLANK, 3)) break;
        SWD_TRY(encode_word(t, ids, s + i, end - i, err), err);
    }
    return SWD_OK;
}

static swd_status encode_stretch(const t5_unigram *t, text_ids *ids, const char *s, size_t n,
                                 bool first, swd_err *err)
{
    if (!n) return SWD_OK;
    text_buf mapped = {0}, b = {0};
    swd_status status = unigram_model_map(&t->m, &mapped, s, n, err);
    for (size_t at = 0, start, stop; status == SWD_OK && at < mapped.n; at = stop, first = false) {
        int32_t id = -1;
        if (!added_tokens_next(&t->m.added, true, mapped.data, mapped.n, at, &start, &stop, &id))
            start = stop = mapped.n;
        b.n = 0;
        if (start > at) status = blanks_to_marks(t, &b, mapped.data + at, start - at, first, err);
        if (status == SWD_OK) status = encode_words(t, ids, b.data, b.n, err);
        if (id >= 0) text_ids_put(ids, id);
    }
    free(mapped.data);
    free(b.data);
    return status;
}

swd_status t5_unigram_encode(const t5_unigram *t, int32_t *ids, int max_length, int *n_used,
                             const char *utf8, size_t n, swd_err *err)
{
    if (max_length < 1)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d tokens do not hold an end", max_length);
    SWD_TRY(text_check_utf8(utf8, n, err), err);
    text_ids list = {.id = ids, .max = max_length - 1};
    for (size_t at = 0, start, stop; at < n && list.n < list.max; at = stop) {
        int32_t id = -1;
        if (!added_tokens_next(&t->m.added, false, utf8, n, at, &start, &stop, &id))
            start = stop = n;
        SWD_TRY(encode_stretch(t, &list, utf8 + at, start - at, !at, err), err);
        if (id >= 0) text_ids_put(&list, id);
    }
    ids[list.n] = t->eos;
    for (int i = list.n + 1; i < max_length; i++) ids[i] = t->pad;
    if (n_used) *n_used = list.n + 1;
    return SWD_OK;
}
