// SPDX-License-Identifier: MIT
#include "text/vocab.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static uint64_t hash_bytes(const char *s, size_t n)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return h ^ (h >> 29);
}

static size_t str_map_slot_of(const str_map *m, const char *key, size_t n)
{
    size_t i = hash_bytes(key, n) & (m->capacity - 1);
    while (m->slot[i].offset) {
        if (m->slot[i].length == n && !memcmp(m->bytes + m->slot[i].offset - 1, key, n)) break;
        i = (i + 1) & (m->capacity - 1);
    }
    return i;
}

static swd_status str_map_grow(str_map *m, swd_err *err)
{
    str_map bigger = *m;
    bigger.capacity = m->capacity ? m->capacity * 2 : 1024;
    bigger.slot = calloc(bigger.capacity, sizeof *bigger.slot);
    if (!bigger.slot)
        return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a vocabulary of %zu tokens", m->count);
    for (size_t i = 0; i < m->capacity; i++) {
        if (!m->slot[i].offset) continue;
        bigger.slot[str_map_slot_of(&bigger, m->bytes + m->slot[i].offset - 1, m->slot[i].length)] =
            m->slot[i];
    }
    free(m->slot);
    *m = bigger;
    return SWD_OK;
}

swd_status str_map_put(str_map *m, const char *key, size_t n, int32_t id, swd_err *err)
{
    if (n > UINT32_MAX / 2 || m->n_bytes + n >= UINT32_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "the vocabulary has more than 4 GiB of text");
    if (2 * (m->count + 1) > m->capacity) SWD_TRY(str_map_grow(m, err), err);
    size_t i = str_map_slot_of(m, key, n);
    if (!m->slot[i].offset) {
        if (m->n_bytes + n + 1 > m->bytes_capacity) {
            size_t want = 2 * (m->n_bytes + n + 1) + 4096;
            char *p = realloc(m->bytes, want);
            if (!p)
                return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for %zu bytes of vocabulary", want);
            m->bytes = p;
            m->bytes_capacity = want;
        }
        memcpy(m->bytes + m->n_bytes, key, n);
        m->slot[i].offset = (uint32_t)m->n_bytes + 1;
        m->slot[i].length = (uint32_t)n;
        m->n_bytes += n;
        m->count++;
    }
    m->slot[i].id = id;
    return SWD_OK;
}

int32_t str_map_find(const str_map *m, const char *key, size_t n)
{
    if (!m->capacity) return -1;
    size_t i = str_map_slot_of(m, key, n);
    return m->slot[i].offset ? m->slot[i].id : -1;
}

void str_map_free(str_map *m)
{
    free(m->slot);
    free(m->bytes);
    *m = (str_map){0};
}

swd_status text_buf_add(text_buf *b, const void *data, size_t n, swd_err *err)
{
    if (n > SIZE_MAX / 4 - b->n)
        return SWD_FAIL(err, SWD_ERR_MEMORY, "a prompt of %zu bytes is too long", n);
    if (b->n + n + 1 > b->capacity) {
        size_t want = 2 * (b->n + n) + 64;
        char *p = realloc(b->data, want);
        if (!p) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for %zu bytes of a prompt", want);
        b->data = p;
        b->capacity = want;
    }
    if (n) memcpy(b->data + b->n, data, n);
    b->n += n;
    return SWD_OK;
}

swd_status text_buf_add_char(text_buf *b, int32_t code_point, swd_err *err)
{
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t n = utf8proc_encode_char(code_point, bytes);
    return text_buf_add(b, bytes, (size_t)n, err);
}

void text_ids_put(text_ids *ids, int32_t id)
{
    if (ids->n < ids->max) ids->id[ids->n++] = id;
}

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

swd_status added_tokens_read(added_tokens *a, const swd_json *config, const str_map *vocab,
                             swd_err *err)
{
    json_t *list = json_object_get(config->root, "added_tokens_decoder"), *entry;
    if (!list || json_is_null(list)) return SWD_OK;
    if (!json_is_object(list))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: added_tokens_decoder is no object", config->path);
    const char *key;
    json_object_foreach(list, key, entry)
    {
        char *end;
        long id = strtol(key, &end, 10);
        const char *text = json_string_value(json_object_get(entry, "content"));
        if (*end || end == key || id < 0 || id >= TEXT_TOKENS_MAX || !text)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: added_tokens_decoder: bad entry \"%.40s\"",
                            config->path, key);
        added_token t = {
            .text = (char *)text, .n = strlen(text), .id = str_map_find(vocab, text, strlen(text))};
        if (t.id < 0) t.id = (int32_t)id;
        json_t *normalized = json_object_get(entry, "normalized");
        t.normalized = normalized ? json_is_true(normalized)
                                  : !json_is_true(json_object_get(entry, "special"));
        t.lstrip = json_is_true(json_object_get(entry, "lstrip"));
        t.rstrip = json_is_true(json_object_get(entry, "rstrip"));
        t.single_word = json_is_true(json_object_get(entry, "single_word"));
        SWD_TRY(added_tokens_put(a, &t, err), err);
    }
    return SWD_OK;
}

void added_tokens_free(added_tokens *a)
{
    for (int i = 0; i < a->n; i++) free(a->token[i].text);
    free(a->token);
    *a = (added_tokens){0};
}

swd_status special_token_read(const char **text, const swd_json *config, const char *field,
                              const char *dflt, swd_err *err)
{
    json_t *v = json_object_get(config->root, field);
    if (json_is_object(v)) v = json_object_get(v, "content");
    if (v && !json_is_null(v) && !json_is_string(v))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: %s is neither a string nor an object with content",
                        config->path, field);
    *text = json_is_string(v) ? json_string_value(v) : dflt;
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

int32_t text_decode(const char *s, size_t n, size_t *length)
{
    utf8proc_int32_t c;
    utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &c);
    *length = k > 0 ? (size_t)k : 1;
    return k > 0 ? c : 0xfffd;
}

swd_status text_check_utf8(const char *s, size_t n, swd_err *err)
{
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t k =
            utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(n - i), &c);
        if (k <= 0)
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the prompt is not valid UTF-8 at byte %zu", i);
        i += (size_t)k;
    }
    return SWD_OK;
}

bool text_is_space(int32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

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
