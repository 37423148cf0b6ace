// SPDX-License-Identifier: MIT
#include "text/clip_bpe.h"
#include "base/memory.h"
#include "io/mapping.h"
#include "text/special.h"
#include "text/unicode_fix.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { CLIP_LENGTH = 77, CLIP_LENGTH_MAX = 1 << 20, CLIP_FILE_BYTES_MAX = 256 << 20 };

typedef struct merge {
    uint64_t pair; /* left << 32 | right */
    int32_t rank, id;
} merge;

struct clip_bpe {
    str_map vocab;
    added_tokens added;
    merge *merges; /* open addressing, id -1 = empty */
    size_t merges_capacity;
    int32_t unit[256], last[256]; /* ids of a byte, and of one that ends its word */
    int32_t bos, eos, pad, unk;
    int max_length;
};

/* Bytes are written as printable characters: themselves where printable in Latin-1, else U+0100 + a running number. */
static int32_t byte_char(int byte)
{
    static const unsigned char hidden[][2] = {{0, 32}, {127, 160}, {173, 173}};
    int n = 0;
    for (int k = 0; k < 3; k++) {
        if (byte >= hidden[k][0] && byte <= hidden[k][1]) return 256 + n + byte - hidden[k][0];
        n += hidden[k][1] - hidden[k][0] + 1;
    }
    return byte;
}

static merge *merge_slot(const clip_bpe *t, uint64_t pair)
{
    size_t i = (size_t)((pair * 0x9e3779b97f4a7c15u) >> 20) & (t->merges_capacity - 1);
    while (t->merges[i].id >= 0 && t->merges[i].pair != pair)
        i = (i + 1) & (t->merges_capacity - 1);
    return &t->merges[i];
}

static swd_status read_vocab(clip_bpe *t, const swd_json *j, swd_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(j->root, key, value)
    {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= TEXT_TOKENS_MAX)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: token \"%.40s\" has no id from 0 to %d",
                            j->path, key, TEXT_TOKENS_MAX - 1);
        SWD_TRY(str_map_put(&t->vocab, key, strlen(key), (int32_t)id, err), err);
    }
    if (!t->vocab.count) return SWD_FAIL(err, SWD_ERR_FILE, "%s: no tokens", j->path);
    for (int b = 0; b < 256; b++) {
        char text[8];
        size_t n = (size_t)utf8proc_encode_char(byte_char(b), (utf8proc_uint8_t *)text);
        t->unit[b] = str_map_find(&t->vocab, text, n);
        memcpy(text + n, "</w>", 4);
        t->last[b] = str_map_find(&t->vocab, text, n + 4);
    }
    return SWD_OK;
}

static swd_status put_merge(clip_bpe *t, const char *line, size_t n, int32_t rank, const char *path,
                            swd_err *err)
{
    const char *gap = memchr(line, ' ', n);
    size_t left = gap ? (size_t)(gap - line) : 0, right = n - left - 1;
    if (!left || !right || memchr(gap + 1, ' ', right))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: merge %d is not two tokens with a blank between",
                        path, (int)rank);
    char *joined = malloc(n);
    if (!joined) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a merge");
    memcpy(joined, line, left);
    memcpy(joined + left, gap + 1, right);
    int32_t a = str_map_find(&t->vocab, line, left), b = str_map_find(&t->vocab, gap + 1, right);
    int32_t id = str_map_find(&t->vocab, joined, n - 1);
    free(joined);
    if (a < 0 || b < 0 || id < 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: merge %d uses a token that vocab.json lacks", path,
                        (int)rank);
    uint64_t pair = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
    *merge_slot(t, pair) = (merge){pair, rank, id};
    return SWD_OK;
}

static swd_status read_merges(clip_bpe *t, const char *s, size_t n, const char *path, swd_err *err)
{
    size_t lines = 1;
    for (size_t i = 0; i < n; i++) lines += s[i] == '\n';
    if (lines > TEXT_TOKENS_MAX) return SWD_FAIL(err, SWD_ERR_FILE, "%s: %zu lines", path, lines);
    for (t->merges_capacity = 64; t->merges_capacity < 2 * lines;) t->merges_capacity *= 2;
    t->merges = malloc(t->merges_capacity * sizeof *t->merges);
    if (!t->merges) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for %zu merges", lines);
    for (size_t i = 0; i < t->merges_capacity; i++) t->merges[i] = (merge){0, 0, -1};
    int32_t rank = 0;
    for (size_t i = 0, end; i < n; i = end + 1) {
        const char *stop = memchr(s + i, '\n', n - i);
        end = stop ? (size_t)(stop - s) : n;
        size_t length = end - i;
        if (length && s[end - 1] == '\r') length--;
        if (!length || (!i && length >= 9 && !memcmp(s, "#version:", 9))) continue;
        SWD_TRY(put_merge(t, s + i, length, rank++, path, err), err);
    }
    return SWD_OK;
}

/* As CLIPTokenizerFast: specials that are plain strings are looked for in the normalised text, but for the pad. */
static swd_status read_special_tokens(clip_bpe *t, const char *vocab_path, const swd_json *config,
                                      swd_err *err)
{
    static const char begin[] = "<|startoftext|>", end[] = "<|endoftext|>";
    special_source s = {&t->added, config, &t->vocab, vocab_path, (int32_t)t->vocab.count};
    SWD_TRY(special_tokens_read_decoder(&s, err), err);
    SWD_TRY(special_token_id(&t->bos, &s, "bos_token", begin, true, err), err);
    SWD_TRY(special_token_id(&t->eos, &s, "eos_token", end, true, err), err);
    SWD_TRY(special_token_id(&t->unk, &s, "unk_token", end, true, err), err);
    SWD_TRY(special_token_id(&t->pad, &s, "pad_token", end, false, err), err);
    return special_tokens_read_additional(&s, err);
}

static swd_status open_parts(clip_bpe *t, const swd_json *vocab, const swd_mapping *merges,
                             const char *merges_path, const swd_json *config, swd_err *err)
{
    SWD_TRY(tokenizer_config_check(config, err), err);
    SWD_TRY(read_vocab(t, vocab, err), err);
    SWD_TRY(read_merges(t, (const char *)merges->data, merges->size, merges_path, err), err);
    SWD_TRY(read_special_tokens(t, vocab->path, config, err), err);
    return max_length_read(&t->max_length, config, CLIP_LENGTH, CLIP_LENGTH_MAX, err);
}

static swd_status finish_open(clip_bpe **out, const swd_json *vocab, const swd_mapping *merges,
                              const char *merges_path, const swd_json *config, swd_err *err)
{
    clip_bpe *t = calloc(1, sizeof *t);
    if (!t) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a tokenizer");
    swd_status s = open_parts(t, vocab, merges, merges_path, config, err);
    if (s != SWD_OK) clip_bpe_close(&t);
    *out = t;
    return s;
}

swd_status clip_bpe_open_memory(clip_bpe **out, const void *vocab, size_t n_vocab,
                                const void *merges, size_t n_merges, const void *config,
                                size_t n_config, swd_err *err)
{
    swd_json v = {0}, c = {0};
    swd_mapping m = {.data = merges, .size = n_merges};
    *out = NULL;
    swd_status s = json_parse(&v, "vocab.json", vocab, n_vocab, err);
    if (s == SWD_OK && config) s = json_parse(&c, "tokenizer_config.json", config, n_config, err);
    if (s == SWD_OK) s = finish_open(out, &v, &m, "merges.txt", &c, err);
    json_close(&v);
    json_close(&c);
    return s;
}

swd_status clip_bpe_open(clip_bpe **out, const char *dir, swd_err *err)
{
    swd_json v = {0}, c = {0};
    swd_mapping m = {0};
    char *vocab = NULL, *merges = NULL, *config = NULL;
    swd_status s;
    *out = NULL;
    SWD_TRY_GOTO(s, path_join(&vocab, dir, "vocab.json", err), err, done);
    SWD_TRY_GOTO(s, path_join(&merges, dir, "merges.txt", err), err, done);
    SWD_TRY_GOTO(s, path_join(&config, dir, "tokenizer_config.json", err), err, done);
    SWD_TRY_GOTO(s, json_open(&v, vocab, err), err, done);
    SWD_TRY_GOTO(s, mapping_open(&m, merges, CLIP_FILE_BYTES_MAX, err), err, done);
    if (path_exists(config)) SWD_TRY_GOTO(s, json_open(&c, config, err), err, done);
    SWD_TRY_GOTO(s, finish_open(out, &v, &m, merges, &c, err), err, done);
done:
    free(vocab);
    free(merges);
    free(config);
    json_close(&v);
    json_close(&c);
    mapping_close(&m);
    return s;
}

void clip_bpe_close(clip_bpe **t)
{
    if (!t || !*t) return;
    str_map_free(&(*t)->vocab);
    added_tokens_free(&(*t)->added);
    free((*t)->merges);
    free(*t);
    *t = NULL;
}

int clip_bpe_max_length(const clip_bpe *t)
{
    return t->max_length;
}

static int combining_class(int32_t c)
{
    return unicode_fix_inert(c) ? 0 : utf8proc_get_property(c)->combining_class;
}

/* Combining marks of one run in order of their class, stable; counted, so that a run of any length takes linear time. */
static void sort_marks(utf8proc_int32_t *c, utf8proc_int32_t *scratch, size_t n)
{
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++) start[combining_class(c[i]) + 1]++;
    for (int k = 0; k < 256; k++) start[k + 1] += start[k];
    for (size_t i = 0; i < n; i++) scratch[start[combining_class(c[i])]++] = c[i];
    memcpy(c, scratch, n * sizeof *c);
}

/* Inert characters part the text: nothing composes over them. */
static size_t compose(utf8proc_int32_t *c, utf8proc_int32_t *scratch, size_t n)
{
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && combining_class(c[end])) end++;
        if (end - i > 1) sort_marks(c + i, scratch, end - i);
        i = end + 1;
    }
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && !unicode_fix_inert(c[end])) end++;
        memmove(c + out, c + i, (end - i) * sizeof *c);
        utf8proc_ssize_t got = utf8proc_normalize_utf32(c + out, (utf8proc_ssize_t)(end - i),
                                                        UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (got > 0) out += (size_t)got;
        if (end < n) c[out++] = c[end];
        i = end + 1;
    }
    return out;
}

static int32_t lower(int32_t c)
{
    int32_t fixed = unicode_fix_lower(c);
    return fixed >= 0 ? fixed : utf8proc_tolower(c);
}

/* NFC, runs of blanks to one, lower case. */
static swd_status normalize(text_buf *out, const char *s, size_t n, swd_err *err)
{
    size_t capacity = 4 * n + 16, count = 0; /* a character of k bytes decomposes into at most 4 */
    utf8proc_int32_t *c = malloc(2 * capacity * sizeof *c);
    if (!c) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a prompt of %zu bytes", n);
    for (size_t i = 0, k; i < n; i += k) {
        int32_t one = text_decode(s + i, n - i, &k);
        int class_of = 0;
        if (unicode_fix_inert(one)) {
            c[count++] = one;
            continue;
        }
        utf8proc_ssize_t got =
            utf8proc_decompose_char(one, c + count, (utf8proc_ssize_t)(capacity - count),
                                    UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &class_of);
        if (got > 0) count += (size_t)got;
    }
    count = compose(c, c + capacity, count);
    swd_status status = SWD_OK;
    for (size_t i = 0; i < count && status == SWD_OK; i++) {
        bool space = text_is_space(c[i]);
        if (space && i && text_is_space(c[i - 1])) continue;
        status = text_buf_add_char(out, space ? ' ' : c[i] == 0x130 ? 'i' : lower(c[i]), err);
        if (status == SWD_OK && c[i] == 0x130) status = text_buf_add_char(out, 0x307, err);
    }
    free(c);
    return status;
}

typedef struct candidate {
    int32_t rank, at, id;
} candidate;
typedef struct word {
    int32_t *id, *prev, *next; /* a list of symbols; id -1 = merged away */
    candidate *heap;
    size_t n_heap;
} word;

static bool before(candidate a, candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_push(word *w, candidate c)
{
    size_t i = w->n_heap++;
    for (; i && before(c, w->heap[(i - 1) / 2]); i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static candidate heap_pop(word *w)
{
    candidate top = w->heap[0], c = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t k = 1; k < w->n_heap; k = 2 * i + 1) {
        if (k + 1 < w->n_heap && before(w->heap[k + 1], w->heap[k])) k++;
        if (!before(w->heap[k], c)) break;
        w->heap[i] = w->heap[k];
        i = k;
    }
    w->heap[i] = c;
    return top;
}

static const merge *pair_at(const clip_bpe *t, const word *w, int32_t at)
{
    if (at < 0 || w->id[at] < 0 || w->next[at] < 0) return NULL;
    const merge *m =
        merge_slot(t, (uint64_t)(uint32_t)w->id[at] << 32 | (uint32_t)w->id[w->next[at]]);
    return m->id >= 0 ? m : NULL;
}

static void try_pair(const clip_bpe *t, word *w, int32_t at)
{
    const merge *m = pair_at(t, w, at);
    if (m) heap_push(w, (candidate){m->rank, at, m->id});
}

static swd_status encode_word(const clip_bpe *t, text_ids *ids, const char *s, size_t n,
                              swd_err *err)
{
    if (n > INT32_MAX / 4)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the prompt has a word of %zu bytes", n);
    word w = {.heap = malloc(3 * n * sizeof *w.heap), .id = malloc(3 * n * sizeof *w.id)};
    if (!w.heap || !w.id) {
        free(w.heap);
        free(w.id);
        return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a word of %zu bytes", n);
    }
    w.prev = w.id + n;
    w.next = w.prev + n;
    for (size_t i = 0; i < n; i++) {
        int32_t id = i + 1 < n ? t->unit[(unsigned char)s[i]] : t->last[(unsigned char)s[i]];
        w.id[i] = id < 0 ? t->unk : id;
        w.prev[i] = (int32_t)i - 1;
        w.next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    for (size_t i = 0; i + 1 < n; i++) try_pair(t, &w, (int32_t)i);
    while (w.n_heap) {
        candidate c = heap_pop(&w);
        const merge *m = pair_at(t, &w, c.at);
        if (!m || m->id != c.id) continue; /* a neighbour changed since */
        int32_t gone = w.next[c.at];
        w.id[c.at] = c.id;
        w.id[gone] = -1;
        w.next[c.at] = w.next[gone];
        if (w.next[gone] >= 0) w.prev[w.next[gone]] = c.at;
        try_pair(t, &w, w.prev[c.at]);
        try_pair(t, &w, c.at);
    }
    for (int32_t i = 0; i >= 0 && n; i = w.next[i]) text_ids_put(ids, w.id[i]);
    free(w.heap);
    free(w.id);
    return SWD_OK;
}

typedef enum { SPACE, LETTER, NUMBER, OTHER } char_class;

static char_class classify(int32_t c)
{
    if (text_is_space(c)) return SPACE;
    switch (unicode_fix_class(c)) {
    case UNICODE_LETTER:
        return LETTER;
    case UNICODE_NUMBER:
        return NUMBER;
    case UNICODE_OTHER:
        return OTHER;
    case UNICODE_AS_IS:
        break;
    }
    int k = utf8proc_category(c);
    if (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) return LETTER;
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO ? NUMBER : OTHER;
}

static size_t contraction(const char *s, size_t n)
{
    static const char *const ends[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (int i = 0; i < 7; i++)
        if (strlen(ends[i]) <= n && !memcmp(s, ends[i], strlen(ends[i]))) return strlen(ends[i]);
    return 0;
}

/* 's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+ ; the rest (blanks) is dropped. */
static swd_status encode_words(const clip_bpe *t, text_ids *ids, const char *s, size_t n,
                               swd_err *err)
{
    for (size_t i = 0, k; i < n && ids->n < ids->max;) {
        size_t length = contraction(s + i, n - i);
        if (!length) {
            char_class kind = classify(text_decode(s + i, n - i, &k));
            length = k;
            if (kind == LETTER || kind == OTHER)
                while (i + length < n &&
                       classify(text_decode(s + i + length, n - i - length, &k)) == kind)
                    length += k;
            if (kind == SPACE) {
                i += length;
                continue;
            }
        }
        SWD_TRY(encode_word(t, ids, s + i, length, err), err);
        i += length;
    }
    return SWD_OK;
}

/* A stretch without raw special tokens: normalised, then those matched in normalised text are cut out. */
static swd_status encode_stretch(const clip_bpe *t, text_ids *ids, const char *s, size_t n,
                                 swd_err *err)
{
    text_buf b = {0};
    swd_status status = n ? normalize(&b, s, n, err) : SWD_OK;
    for (size_t at = 0, start, stop; status == SWD_OK && at < b.n; at = stop) {
        int32_t id = -1;
        if (!added_tokens_next(&t->added, true, b.data, b.n, at, &start, &stop, &id))
            start = stop = b.n;
        status = encode_words(t, ids, b.data + at, start - at, err);
        if (id >= 0) text_ids_put(ids, id);
    }
    free(b.data);
    return status;
}

swd_status clip_bpe_encode(const clip_bpe *t, int32_t *ids, int max_length, int *n_used,
                           const char *utf8, size_t n, swd_err *err)
{
    if (max_length < 2)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d tokens do not hold a start and an end",
                        max_length);
    SWD_TRY(text_check_utf8(utf8, n, err), err);
    text_ids list = {.id = ids + 1, .max = max_length - 2};
    for (size_t at = 0, start, stop; at < n && list.n < list.max; at = stop) {
        int32_t id = -1;
        if (!added_tokens_next(&t->added, false, utf8, n, at, &start, &stop, &id)) start = stop = n;
        SWD_TRY(encode_stretch(t, &list, utf8 + at, start - at, err), err);
        if (id >= 0) text_ids_put(&list, id);
    }
    ids[0] = t->bos;
    ids[list.n + 1] = t->eos;
    for (int i = list.n + 2; i < max_length; i++) ids[i] = t->pad;
    if (n_used) *n_used = list.n + 2;
    return SWD_OK;
}
