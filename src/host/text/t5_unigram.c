// SPDX-License-Identifier: MIT
#include "text/t5_unigram.h"
#include "io/mapping.h"
#include "text/unicode_fix.h"
#include "text/vocab.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>

enum {
    T5_LENGTH = 512,
    T5_LENGTH_MAX = 1 << 20,
    T5_FILE_BYTES_MAX = 256 << 20,
    T5_EXTRA_IDS = 100,
    T5_PIECE_BYTES_MAX = 1024
};
enum { PIECE_CONTROL = 3, PIECE_USER = 4 };
static const double UNKNOWN_PENALTY = 10.0;
static const char BLANK[] = "\xe2\x96\x81"; /* U+2581 */

typedef struct edge {
    uint64_t key; /* node << 8 | byte, plus 1; 0 = empty */
    int32_t child;
} edge;

struct t5_unigram {
    str_map vocab;
    double *score; /* by id */
    int32_t n, capacity;
    added_tokens added;
    edge *edges; /* a trie of the pieces */
    size_t edges_capacity, n_edges;
    int32_t *leaf; /* node -> id or -1 */
    size_t nodes_capacity;
    int32_t n_nodes;
    uint32_t *map; /* double-array trie of the character map */
    size_t n_map;
    char *replaced; /* its strings, each ended by a NUL */
    size_t n_replaced;
    double min_score;
    int32_t unk, eos, pad;
    int max_length;
    enum { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS } prepend;
};

/* Protocol buffers: a cursor over one message. */
typedef struct proto {
    const unsigned char *at, *end;
} proto;
typedef struct proto_field {
    uint64_t number, value; /* value of a varint or fixed field */
    int wire;               /* 0 varint, 1 fixed64, 2 bytes, 5 fixed32 */
    proto bytes;
} proto_field;

static bool proto_varint(proto *p, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; shift < 64 && p->at < p->end; shift += 7) {
        unsigned char c = *p->at++;
        *out |= (uint64_t)(c & 0x7f) << shift;
        if (!(c & 0x80)) return true;
    }
    return false;
}

static bool proto_next(proto *p, proto_field *f)
{
    uint64_t tag;
    *f = (proto_field){0};
    if (!proto_varint(p, &tag)) return false;
    f->number = tag >> 3;
    f->wire = (int)(tag & 7);
    if (f->wire == 0) return proto_varint(p, &f->value);
    uint64_t n = f->wire == 1 ? 8 : 4;
    if (f->wire == 2 ? !proto_varint(p, &n) : f->wire != 1 && f->wire != 5) return false;
    if (n > (uint64_t)(p->end - p->at)) return false;
    f->bytes = (proto){p->at, p->at + n};
    if (f->wire != 2)
        for (uint64_t i = 0; i < n; i++) f->value |= (uint64_t)p->at[i] << 8 * i;
    p->at += n;
    return true;
}

static edge *edge_slot(const t5_unigram *t, uint64_t key)
{
    size_t i = (size_t)((key * 0x9e3779b97f4a7c15u) >> 20) & (t->edges_capacity - 1);
    while (t->edges[i].key && t->edges[i].key != key) i = (i + 1) & (t->edges_capacity - 1);
    return &t->edges[i];
}

static int32_t trie_child(const t5_unigram *t, int32_t node, unsigned char byte)
{
    const edge *e = edge_slot(t, ((uint64_t)node << 8 | byte) + 1);
    return e->key ? e->child : -1;
}

static swd_status trie_grow(t5_unigram *t, swd_err *err)
{
    if (2 * (t->n_edges + 1) > t->edges_capacity) {
        t5_unigram bigger = {.edges_capacity = t->edges_capacity ? 2 * t->edges_capacity : 1 << 12};
        bigger.edges = calloc(bigger.edges_capacity, sizeof *bigger.edges);
        if (!bigger.edges) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a vocabulary");
        for (size_t i = 0; i < t->edges_capacity; i++)
            if (t->edges[i].key) *edge_slot(&bigger, t->edges[i].key) = t->edges[i];
        free(t->edges);
        t->edges = bigger.edges;
        t->edges_capacity = bigger.edges_capacity;
    }
    if ((size_t)t->n_nodes + 1 >= t->nodes_capacity) {
        size_t want = 2 * t->nodes_capacity + 4096;
        int32_t *p = want > INT32_MAX ? NULL : realloc(t->leaf, want * sizeof *p);
        if (!p) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a vocabulary");
        t->leaf = p;
        t->nodes_capacity = want;
    }
    return SWD_OK;
}

static swd_status trie_put(t5_unigram *t, const char *s, size_t n, int32_t id, swd_err *err)
{
    int32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t child = trie_child(t, node, (unsigned char)s[i]);
        if (child < 0) {
            SWD_TRY(trie_grow(t, err), err);
            uint64_t key = ((uint64_t)node << 8 | (unsigned char)s[i]) + 1;
            child = t->n_nodes++;
            t->leaf[child] = -1;
            *edge_slot(t, key) = (edge){key, child};
            t->n_edges++;
        }
        node = child;
    }
    if (n) t->leaf[node] = id;
    return SWD_OK;
}

static swd_status put_piece(t5_unigram *t, const char *s, size_t n, double score, swd_err *err)
{
    if (t->n >= TEXT_TOKENS_MAX || n > T5_PIECE_BYTES_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "spiece.model: piece %d is too long or one too many",
                        (int)t->n);
    if (!(score > -1e30 && score < 1e30))
        return SWD_FAIL(err, SWD_ERR_FILE, "spiece.model: piece %d has no finite score", (int)t->n);
    if (t->n == t->capacity) {
        int32_t want = 2 * t->capacity + 1024;
        double *p = realloc(t->score, (size_t)want * sizeof *p);
        if (!p) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for %d pieces", (int)want);
        t->score = p;
        t->capacity = want;
    }
    if (!t->n || score < t->min_score) t->min_score = score;
    t->score[t->n] = score;
    SWD_TRY(str_map_put(&t->vocab, s, n, t->n, err), err);
    SWD_TRY(trie_put(t, s, n, t->n, err), err);
    t->n++;
    return SWD_OK;
}

static swd_status read_piece(t5_unigram *t, proto p, swd_err *err)
{
    proto text = {0};
    proto_field f;
    uint64_t type = 1;
    float score = 0;
    while (p.at < p.end) {
        if (!proto_next(&p, &f))
            return SWD_FAIL(err, SWD_ERR_FILE, "spiece.model: piece %d is malformed", (int)t->n);
        if (f.number == 1 && f.wire == 2) text = f.bytes;
        if (f.number == 2 && f.wire == 5)
            memcpy(&score, &(uint32_t){(uint32_t)f.value}, sizeof score);
        if (f.number == 3 && f.wire == 0) type = f.value;
    }
    size_t n = (size_t)(text.end - text.at);
    const char *s = n ? (const char *)text.at : "";
    if (text_check_utf8(s, n, NULL) != SWD_OK)
        return SWD_FAIL(err, SWD_ERR_FILE, "spiece.model: piece %d is not UTF-8", (int)t->n);
    SWD_TRY(put_piece(t, s, n, score, err), err);
    if ((type != PIECE_CONTROL && type != PIECE_USER) || !n || memchr(s, 0, n)) return SWD_OK;
    char copy[T5_PIECE_BYTES_MAX + 1];
    memcpy(copy, s, n);
    copy[n] = '\0';
    added_token token = {.text = copy, .n = n, .id = t->n - 1};
    return added_tokens_put(&t->added, &token, err);
}

/* precompiled_charsmap: bytes of the trie (u32), its units (u32 each), then the strings. */
static swd_status read_charsmap(t5_unigram *t, proto p, swd_err *err)
{
    size_t n = (size_t)(p.end - p.at);
    if (!n) return SWD_OK;
    uint32_t bytes = 0;
    if (n >= 4)
        bytes =
            p.at[0] | (uint32_t)p.at[1] << 8 | (uint32_t)p.at[2] << 16 | (uint32_t)p.at[3] << 24;
    if (n < 4 || bytes > n - 4 || bytes % 4 || !bytes)
        return SWD_FAIL(err, SWD_ERR_FILE, "spiece.model: the character map says %u bytes of %zu",
                        (unsigned)bytes, n);
    free(t->map);
    free(t->replaced);
    t->n_map = bytes / 4;
    t->n_replaced = n - 4 - bytes;
    t->map = malloc(bytes);
    t->replaced = malloc(t->n_replaced + 1);
    if (!t->map || !t->replaced)
        return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a character map");
    for (size_t i = 0; i < t->n_map; i++) {
        const unsigned char *u = p.at + 4 + 4 * i;
        t->map[i] = u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
    }
    memcpy(t->replaced, p.at + 4 + bytes, t->n_replaced);
    if (text_check_utf8(t->replaced, t->n_replaced, NULL) != SWD_OK)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "spiece.model: the character map's strings are not UTF-8");
    return SWD_OK;
}

static swd_status read_model(t5_unigram *t, const void *data, size_t n, swd_err *err)
{
    proto p = {data, (const unsigned char *)data + n}, sub;
    proto_field f, g;
    t->unk = 0;
    SWD_TRY(trie_grow(t, err), err);
    t->leaf[t->n_nodes++] = -1;
    while (p.at < p.end) {
        const unsigned char *at = p.at;
        if (!proto_next(&p, &f))
            return SWD_FAIL(err, SWD_ERR_FILE, "spiece.model: malformed at byte %zu",
                            (size_t)(at - (const unsigned char *)data));
        sub = f.bytes;
        if (f.wire == 2 && f.number == 1) SWD_TRY(read_piece(t, sub, err), err);
        if (f.wire != 2 || (f.number != 2 && f.number != 3)) continue;
        while (sub.at < sub.end) {
            if (!proto_next(&sub, &g))
                return SWD_FAIL(err, SWD_ERR_FILE,
                                "spiece.model: a malformed trainer or normalizer");
            if (f.number == 2 && g.number == 3 && g.wire == 0 && g.value != 1)
                return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "spiece.model: not a unigram model");
            if (f.number == 2 && g.number == 40 && g.wire == 0)
                t->unk = g.value < INT32_MAX ? (int32_t)g.value : INT32_MAX;
            if (f.number == 3 && g.number == 2 && g.wire == 2)
                SWD_TRY(read_charsmap(t, g.bytes, err), err);
        }
    }
    if (t->unk >= t->n)
        return SWD_FAIL(err, SWD_ERR_FILE, "spiece.model: %d pieces, and the unknown one is %d",
                        (int)t->n, (int)t->unk);
    return SWD_OK;
}

static swd_status put_extra_ids(t5_unigram *t, const swd_json *config, swd_err *err)
{
    int64_t n = T5_EXTRA_IDS;
    if (config->root)
        SWD_TRY(json_int(&n, config, "extra_ids", n, 0, TEXT_ADDED_MAX / 2, err), err);
    for (int64_t i = n; i-- > 0;) {
        char text[32];
        int length = snprintf(text, sizeof text, "<extra_id_%d>", (int)i);
        SWD_TRY(put_piece(t, text, (size_t)length, 0.0, err), err);
    }
    if (config->root) SWD_TRY(added_tokens_read(&t->added, config, &t->vocab, err), err);
    for (int64_t i = n; i-- > 0;) {
        char text[32];
        int length = snprintf(text, sizeof text, "<extra_id_%d>", (int)i);
        added_token token = {
            .text = text, .n = (size_t)length, .id = str_map_find(&t->vocab, text, (size_t)length)};
        SWD_TRY(added_tokens_put(&t->added, &token, err), err);
    }
    return SWD_OK;
}

static swd_status special_id(int32_t *id, t5_unigram *t, const swd_json *config, const char *field,
                             const char *dflt, swd_err *err)
{
    const char *text = dflt;
    if (config->root) SWD_TRY(special_token_read(&text, config, field, dflt, err), err);
    const added_token *known = added_tokens_by_text(&t->added, text);
    *id = known ? known->id : str_map_find(&t->vocab, text, strlen(text));
    if (*id < 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "spiece.model: no piece \"%.40s\", which is the %s",
                        text, field);
    added_token token = {.text = (char *)text, .n = strlen(text), .id = *id};
    return added_tokens_put(&t->added, &token, err);
}

static swd_status read_all(t5_unigram *t, const void *data, size_t n, const swd_json *config,
                           swd_err *err)
{
    int32_t unk;
    SWD_TRY(read_model(t, data, n, err), err);
    SWD_TRY(put_extra_ids(t, config, err), err);
    SWD_TRY(special_id(&t->eos, t, config, "eos_token", "</s>", err), err);
    SWD_TRY(special_id(&unk, t, config, "unk_token", "<unk>", err), err);
    SWD_TRY(special_id(&t->pad, t, config, "pad_token", "<pad>", err), err);
    t->max_length = T5_LENGTH;
    t->prepend = PREPEND_ALWAYS;
    if (!config->root) return SWD_OK;
    json_t *prefix = json_object_get(config->root, "add_prefix_space"),
           *legacy = json_object_get(config->root, "legacy");
    if (prefix && !json_is_true(prefix))
        t->prepend = PREPEND_NEVER; /* null counts as false there */
    else if (json_is_false(legacy))
        t->prepend = PREPEND_FIRST;
    return max_length_read(&t->max_length, config, T5_LENGTH, T5_LENGTH_MAX, err);
}

static swd_status finish_open(t5_unigram **out, const void *data, size_t n, const swd_json *config,
                              swd_err *err)
{
    t5_unigram *t = calloc(1, sizeof *t);
    if (!t) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a tokenizer");
    swd_status s = read_all(t, data, n, config, err);
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
    swd_status s = finish_open(out, model, n_model, &c, err);
    json_close(&c);
    return s;
}

swd_status t5_unigram_open(t5_unigram **out, const char *dir, swd_err *err)
{
    swd_json c = {0};
    swd_mapping m = {0};
    char path[4096];
    swd_status s;
    *out = NULL;
    if (strlen(dir) > sizeof path - 64)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%.80s...: the path is too long", dir);
    snprintf(path, sizeof path, "%s/spiece.model", dir);
    SWD_TRY_GOTO(s, mapping_open(&m, path, T5_FILE_BYTES_MAX, err), err, done);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    if (!access(path, F_OK)) SWD_TRY_GOTO(s, json_open(&c, path, err), err, done);
    SWD_TRY_GOTO(s, finish_open(out, m.data, m.size, &c, err), err, done);
done:
    json_close(&c);
    mapping_close(&m);
    return s;
}

void t5_unigram_close(t5_unigram **t)
{
    if (!t || !*t) return;
    str_map_free(&(*t)->vocab);
    added_tokens_free(&(*t)->added);
    free((*t)->score);
    free((*t)->edges);
    free((*t)->leaf);
    free((*t)->map);
    free((*t)->replaced);
    free(*t);
    *t = NULL;
}

int t5_unigram_max_length(const t5_unigram *t)
{
    return t->max_length;
}

static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* The replacement of the shortest prefix of s in the map, for all of s; NULL: none. A malformed trie ends the search. */
static const char *map_find(const t5_unigram *t, const char *s, size_t n)
{
    if (!t->n_map) return NULL;
    size_t node = unit_offset(t->map[0]);
    for (size_t i = 0; i < n && s[i]; i++) {
        unsigned char c = (unsigned char)s[i];
        node ^= c;
        if (node >= t->n_map || (t->map[node] & (1u << 31 | 0xff)) != c) return NULL;
        uint32_t unit = t->map[node];
        node ^= unit_offset(unit);
        if (!(unit >> 8 & 1)) continue;
        if (node >= t->n_map) return NULL;
        size_t at = t->map[node] & ((1u << 31) - 1);
        return at <= t->n_replaced ? t->replaced + at : NULL;
    }
    return NULL;
}

static swd_status map_or_copy(const t5_unigram *t, text_buf *out, const char *s, size_t n,
                              bool *done, swd_err *err)
{
    const char *to = map_find(t, s, n);
    *done = to != NULL;
    if (!to) return SWD_OK;
    return text_buf_add(out, to, strnlen(to, t->n_replaced - (size_t)(to - t->replaced)), err);
}

/* A grapheme of under six bytes is looked up as a whole, else character by character. */
static swd_status map_grapheme(const t5_unigram *t, text_buf *out, const char *s, size_t n,
                               swd_err *err)
{
    bool done = false;
    if (n < 6) SWD_TRY(map_or_copy(t, out, s, n, &done, err), err);
    for (size_t i = 0, k; i < n && !done; i += k) {
        bool mapped;
        text_decode(s + i, n - i, &k);
        SWD_TRY(map_or_copy(t, out, s + i, k, &mapped, err), err);
        if (!mapped) SWD_TRY(text_buf_add(out, s + i, k, err), err);
    }
    return SWD_OK;
}

static swd_status map_text(const t5_unigram *t, text_buf *out, const char *s, size_t n,
                           swd_err *err)
{
    utf8proc_int32_t state = 0, last = 0;
    size_t start = 0;
    for (size_t i = 0, k; i < n; i += k) {
        int32_t c = unicode_fix_grapheme(text_decode(s + i, n - i, &k));
        if (i && utf8proc_grapheme_break_stateful(last, c, &state)) {
            SWD_TRY(map_grapheme(t, out, s + start, i - start, err), err);
            start = i;
        }
        last = c;
    }
    return map_grapheme(t, out, s + start, n - start, err);
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
            state = trie_child(t, state, (unsigned char)s[i]);
            if (state < 0) break;
            int32_t id = t->leaf[state];
            if (id < 0) continue;
            node *to = &best[i + 1];
            if (to->start < 0 || t->score[id] + so_far > to->score)
                *to = (node){t->score[id] + so_far, id, (int32_t)at};
            single |= i + 1 - at == k;
        }
        node *to = &best[at + k];
        double unknown = t->min_score - UNKNOWN_PENALTY + so_far;
        if (!single && (to->start < 0 || unknown > to->score))
            *to = (node){unknown, t->unk, (int32_t)at};
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
        while (id == t->unk && at && best[at].id == t->unk) at = (size_t)best[at].start;
    }
    size_t start = 0;
    while (n_stops) {
        size_t stop = (size_t)stops[--n_stops];
        int32_t id = str_map_find(&t->vocab, s + start, stop - start);
        text_ids_put(ids, id >= 0 ? id : t->unk);
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
    swd_status status = map_text(t, &mapped, s, n, err);
    for (size_t at = 0, start, stop; status == SWD_OK && at < mapped.n; at = stop, first = false) {
        int32_t id = -1;
        if (!added_tokens_next(&t->added, true, mapped.data, mapped.n, at, &start, &stop, &id))
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
        if (!added_tokens_next(&t->added, false, utf8, n, at, &start, &stop, &id)) start = stop = n;
        SWD_TRY(encode_stretch(t, &list, utf8 + at, start - at, !at, err), err);
        if (id >= 0) text_ids_put(&list, id);
    }
    ids[list.n] = t->eos;
    for (int i = list.n + 1; i < max_length; i++) ids[i] = t->pad;
    if (n_used) *n_used = list.n + 1;
    return SWD_OK;
}
