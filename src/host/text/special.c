// SPDX-License-Identifier: MIT
// What CLIPTokenizerFast and T5TokenizerFast make of tokenizer_config.json, found by trying (tools/reference/make_tokenizer_goldens.py).
#include "text/special.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- the list ---- */

const added_token *added_tokens_by_text(const added_tokens *a, const char *text)
{
    for (int i = 0; i < a->n; i++)
        if (!strcmp(a->token[i].text, text)) return &a->token[i];
    return NULL;
}

swd_status added_tokens_put(added_tokens *a, const added_token *t, swd_err *err)
{
    if (!t->n || added_tokens_by_text(a, t->text)) return SWD_OK;
    if (a->n >= TEXT_ADDED_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "more than %d special tokens", TEXT_ADDED_MAX);
    if (t->n > TEXT_ADDED_BYTES_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "a special token of %zu bytes; at most %d are supported",
                        t->n, TEXT_ADDED_BYTES_MAX);
    if (a->n == a->capacity) {
        int want = a->capacity ? 2 * a->capacity : 16;
        added_token *p = realloc(a->token, (size_t)want * sizeof *p);
        if (!p) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for %d special tokens", want);
        a->token = p;
        a->capacity = want;
    }
    added_token copy = *t;
    copy.text = malloc(t->n + 1);
    if (!copy.text) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a special token");
    memcpy(copy.text, t->text, t->n);
    copy.text[t->n] = '\0';
    a->token[a->n++] = copy;
    return SWD_OK;
}

void added_tokens_free(added_tokens *a)
{
    for (int i = 0; i < a->n; i++) free(a->token[i].text);
    free(a->token);
    *a = (added_tokens){0};
}

/* ---- tokenizer_config.json ---- */

swd_status tokenizer_config_check(const swd_json *config, swd_err *err)
{
    static const char *const sides[] = {"padding_side", "truncation_side"};
    bool split;
    for (int i = 0; i < 2; i++) {
        const char *side;
        SWD_TRY(json_str(&side, config, sides[i], "right", err), err);
        if (strcmp(side, "right") != 0)
            return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                            "%s: field \"%s\" is \"%.20s\"; supported: right", config->path,
                            sides[i], side);
    }
    SWD_TRY(json_bool(&split, config, "split_special_tokens", false, err), err);
    if (split)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: field \"split_special_tokens\" is true; supported: false",
                        config->path);
    return SWD_OK;
}

swd_status max_length_read(int *out, const swd_json *config, int dflt, int limit, swd_err *err)
{
    json_t *v = json_object_get(config->root, "model_max_length");
    *out = dflt;
    if (!v || json_is_null(v)) return SWD_OK;
    if (!json_is_number(v) || json_number_value(v) < 1)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: model_max_length is no positive number",
                        config->path);
    *out = json_number_value(v) > limit ? dflt : (int)json_number_value(v);
    return SWD_OK;
}

/* The token of a string or of an object with "content"; t->text NULL: it is neither. */
static added_token token_of(const json_t *v, bool normalized)
{
    const json_t *content = json_is_object(v) ? json_object_get(v, "content") : v;
    added_token t = {.text = (char *)(uintptr_t)json_string_value(content),
                     .normalized = normalized};
    if (t.text) t.n = strlen(t.text);
    if (!json_is_object(v)) return t;
    const json_t *given = json_object_get(v, "normalized");
    if (given) t.normalized = json_is_true(given);
    t.lstrip = json_is_true(json_object_get(v, "lstrip"));
    t.rstrip = json_is_true(json_object_get(v, "rstrip"));
    t.single_word = json_is_true(json_object_get(v, "single_word"));
    return t;
}

/* An id of its own if the vocabulary has none. */
static swd_status put(special_source *s, added_token *t, swd_err *err)
{
    t->id = str_map_find(s->vocab, t->text, t->n);
    if (t->id < 0 && !added_tokens_by_text(s->added, t->text)) t->id = s->next_id++;
    return added_tokens_put(s->added, t, err);
}

typedef struct written {
    long id;
    const json_t *entry;
} written;

static int by_id(const void *a, const void *b)
{
    long x = ((const written *)a)->id, y = ((const written *)b)->id;
    return (x > y) - (x < y);
}

static swd_status read_entry(written *out, const char *key, const json_t *entry,
                             const swd_json *config, swd_err *err)
{
    char *end;
    *out = (written){strtol(key, &end, 10), entry};
    if (*end || end == key || out->id < 0 || out->id >= TEXT_TOKENS_MAX || !json_is_object(entry) ||
        !token_of(entry, false).text)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: added_tokens_decoder: bad entry \"%.40s\"",
                        config->path, key);
    return SWD_OK;
}

swd_status special_tokens_read_decoder(special_source *s, swd_err *err)
{
    json_t *list = json_object_get(s->config->root, "added_tokens_decoder"), *entry;
    if (!list || json_is_null(list)) return SWD_OK;
    if (!json_is_object(list))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: added_tokens_decoder is no object",
                        s->config->path);
    written *all = malloc((json_object_size(list) + 1) * sizeof *all);
    if (!all) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for the special tokens");
    swd_status status = SWD_OK;
    size_t n = 0;
    const char *key;
    json_object_foreach(list, key, entry)
    {
        if (status == SWD_OK) status = read_entry(&all[n++], key, entry, s->config, err);
    }
    qsort(all, n, sizeof *all, by_id);
    for (size_t i = 0; i < n && status == SWD_OK; i++) {
        added_token t =
            token_of(all[i].entry, !json_is_true(json_object_get(all[i].entry, "special")));
        status = put(s, &t, err);
    }
    free(all);
    return status;
}

swd_status special_token_id(int32_t *id, special_source *s, const char *field, const char *dflt,
                            bool normalized, swd_err *err)
{
    const json_t *v = json_object_get(s->config->root, field);
    added_token t = {.text = (char *)(uintptr_t)dflt, .n = strlen(dflt), .normalized = normalized};
    if (v) t = token_of(v, normalized);
    if (!t.text)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: %s is neither a string nor an object with content",
                        s->config->path, field);
    const added_token *known = added_tokens_by_text(s->added, t.text);
    t.id = known ? known->id : str_map_find(s->vocab, t.text, t.n);
    if (t.id < 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: no token \"%.40s\", which is the %s", s->vocab_path,
                        t.text, field);
    if (id) *id = t.id;
    return added_tokens_put(s->added, &t, err);
}

swd_status special_tokens_read_additional(special_source *s, swd_err *err)
{
    const json_t *list = json_object_get(s->config->root, "additional_special_tokens");
    if (!list || json_is_null(list)) return SWD_OK;
    if (!json_is_array(list))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: additional_special_tokens is no list",
                        s->config->path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        added_token t = token_of(json_array_get(list, i), false);
        if (!t.text)
            return SWD_FAIL(
                err, SWD_ERR_FILE,
                "%s: additional_special_tokens[%zu] is neither a string nor an object with content",
                s->config->path, i);
        SWD_TRY(put(s, &t, err), err);
    }
    return SWD_OK;
}

/* ---- finding them in a prompt ---- */

static bool is_word(int32_t c)
{
    int k = utf8proc_category(c);
    return c == 0x200c || c == 0x200d || (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_ND) ||
           k == UTF8PROC_CATEGORY_PC;
}

static size_t char_before(const char *s, size_t at)
{
    do at--;
    while (at && ((unsigned char)s[at] & 0xc0) == 0x80);
    return at;
}

static bool alone(const char *s, size_t n, size_t start, size_t stop)
{
    size_t k;
    if (start && is_word(text_decode(s + char_before(s, start), n, &k))) return false;
    return stop == n || !is_word(text_decode(s + stop, n - stop, &k));
}

bool added_tokens_next(const added_tokens *a, bool normalized, const char *s, size_t n, size_t at,
                       size_t *start, size_t *stop, int32_t *id)
{
    for (size_t i = at; i < n; i++) {
        const added_token *best = NULL;
        for (int j = 0; j < a->n; j++) {
            const added_token *t = &a->token[j];
            if (t->normalized != normalized || t->text[0] != s[i] || t->n > n - i ||
                memcmp(t->text, s + i, t->n))
                continue;
            if (!best || t->n > best->n) best = t;
        }
        if (!best) continue;
        if (best->single_word && !alone(s, n, i, i + best->n)) {
            i += best->n - 1;
            continue;
        }
        *start = i;
        *stop = i + best->n;
        *id = best->id;
        size_t k;
        while (best->lstrip && *start > at &&
               text_is_space(text_decode(s + char_before(s, *start), n, &k)))
            *start = char_before(s, *start);
        while (best->rstrip && *stop < n && text_is_space(text_decode(s + *stop, n - *stop, &k)))
            *stop += k;
        return true;
    }
    return false;
}
