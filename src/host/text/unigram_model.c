// SPDX-License-Identifier: MIT
#include "text/unigram_model.h"
#include "text/unicode_fix.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { PIECE_BYTES_MAX = 1024 };
enum { PIECE_CONTROL = 3, PIECE_USER = 4 };

/* ---- protocol buffers: a cursor over one message ---- */

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

/* ---- pieces ---- */

typedef struct unigram_edge {
    uint64_t key; /* node << 8 | byte, plus 1; 0 = empty */
    int32_t child;
} unigram_edge;

static unigram_edge *edge_slot(const unigram_model *t, uint64_t key)
{
    size_t i = (size_t)((key * 0x9e3779b97f4a7c15u) >> 20) & (t->edges_capacity - 1);
    while (t->edges[i].key && t->edges[i].key != key) i = (i + 1) & (t->edges_capacity - 1);
    return &t->edges[i];
}

int32_t unigram_model_child(const unigram_model *t, int32_t node, unsigned char byte)
{
    const unigram_edge *e = edge_slot(t, ((uint64_t)node << 8 | byte) + 1);
    return e->key ? e->child : -1;
}

static swd_status trie_grow(unigram_model *t, swd_err *err)
{
    if (2 * (t->n_edges + 1) > t->edges_capacity) {
        unigram_model bigger = {.edges_capacity =
                                    t->edges_capacity ? 2 * t->edges_capacity : 1 << 12};
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

static swd_status trie_put(unigram_model *t, const char *s, size_t n, int32_t id, swd_err *err)
{
    int32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t child = unigram_model_child(t, node, (unsigned char)s[i]);
        if (child < 0) {
            SWD_TRY(trie_grow(t, err), err);
            uint64_t key = ((uint64_t)node << 8 | (unsigned char)s[i]) + 1;
            child = t->n_nodes++;
            t->leaf[child] = -1;
            *edge_slot(t, key) = (unigram_edge){key, child};
            t->n_edges++;
        }
        node = child;
    }
    if (n) t->leaf[node] = id;
    return SWD_OK;
}

swd_status unigram_model_put(unigram_model *t, const char *s, size_t n, double score, swd_err *err)
{
    if (t->n >= TEXT_TOKENS_MAX || n > PIECE_BYTES_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: piece %d is too long or one too many", t->path,
                        (int)t->n);
    if (!(score > -1e30 && score < 1e30))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: piece %d has no finite score", t->path, (int)t->n);
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

static swd_status read_piece(unigram_model *t, proto p, swd_err *err)
{
    proto text = {0};
    proto_field f;
    uint64_t type = 1;
    float score = 0;
    while (p.at < p.end) {
        if (!proto_next(&p, &f))
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: piece %d is malformed", t->path, (int)t->n);
        if (f.number == 1 && f.wire == 2) text = f.bytes;
        if (f.number == 2 && f.wire == 5)
            memcpy(&score, &(uint32_t){(uint32_t)f.value}, sizeof score);
        if (f.number == 3 && f.wire == 0) type = f.value;
    }
    size_t n = (size_t)(text.end - text.at);
    const char *s = n ? (const char *)text.at : "";
    if (text_check_utf8(s, n, NULL) != SWD_OK)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: piece %d is not UTF-8", t->path, (int)t->n);
    SWD_TRY(unigram_model_put(t, s, n, score, err), err);
    if ((type != PIECE_CONTROL && type != PIECE_USER) || !n || memchr(s, 0, n)) return SWD_OK;
    char copy[PIECE_BYTES_MAX + 1];
    memcpy(copy, s, n);
    copy[n] = '\0';
    added_token token = {.text = copy, .n = n, .id = t->n - 1};
    return added_tokens_put(&t->added, &token, err);
}

/* precompiled_charsmap: bytes of the trie (u32), its units (u32 each), then the strings. */
static swd_status read_charsmap(unigram_model *t, proto p, swd_err *err)
{
    size_t n = (size_t)(p.end - p.at);
    if (!n) return SWD_OK;
    uint32_t bytes = 0;
    if (n >= 4)
        bytes =
            p.at[0] | (uint32_t)p.at[1] << 8 | (uint32_t)p.at[2] << 16 | (uint32_t)p.at[3] << 24;
    if (n < 4 || bytes > n - 4 || bytes % 4 || !bytes)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: the character map says %u bytes of %zu", t->path,
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
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: the character map's strings are not UTF-8",
                        t->path);
    return SWD_OK;
}

swd_status unigram_model_read(unigram_model *t, const void *data, size_t n, const char *path,
                              swd_err *err)
{
    proto p = {data, (const unsigned char *)data + n}, sub;
    proto_field f, g;
    t->path = path;
    SWD_TRY(trie_grow(t, err), err);
    t->leaf[t->n_nodes++] = -1;
    while (p.at < p.end) {
        const unsigned char *at = p.at;
        if (!proto_next(&p, &f))
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: malformed at byte %zu", t->path,
                            (size_t)(at - (const unsigned char *)data));
        sub = f.bytes;
        if (f.wire == 2 && f.number == 1) SWD_TRY(read_piece(t, sub, err), err);
        if (f.wire != 2 || (f.number != 2 && f.number != 3)) continue;
        while (sub.at < sub.end) {
            if (!proto_next(&sub, &g))
                return SWD_FAIL(err, SWD_ERR_FILE, "%s: a malformed trainer or normalizer",
                                t->path);
            if (f.number == 2 && g.number == 3 && g.wire == 0 && g.value != 1)
                return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: not a unigram model", t->path);
            if (f.number == 2 && g.number == 40 && g.wire == 0)
                t->unk = g.value < INT32_MAX ? (int32_t)g.value : INT32_MAX;
            if (f.number == 3 && g.number == 2 && g.wire == 2)
                SWD_TRY(read_charsmap(t, g.bytes, err), err);
        }
    }
    if (t->unk >= t->n)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: %d pieces, and the unknown one is %d", t->path,
                        (int)t->n, (int)t->unk);
    return SWD_OK;
}

/* ---- the character map ---- */

static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* The replacement of the shortest prefix of s in the map, for all of s; NULL: none. A malformed trie ends the search. */
static const char *map_find(const unigram_model *t, const char *s, size_t n)
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

static swd_status map_or_copy(const unigram_model *t, text_buf *out, const char *s, size_t n,
                              bool *done, swd_err *err)
{
    const char *to = map_find(t, s, n);
    *done = to != NULL;
    if (!to) return SWD_OK;
    return text_buf_add(out, to, strnlen(to, t->n_replaced - (size_t)(to - t->replaced)), err);
}

/* A grapheme of under six bytes is looked up as a whole, else character by character. */
static swd_status map_grapheme(const unigram_model *t, text_buf *out, const char *s, size_t n,
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

swd_status unigram_model_map(const unigram_model *t, text_buf *out, const char *s, size_t n,
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

void unigram_model_free(unigram_model *t)
{
    str_map_free(&t->vocab);
    added_tokens_free(&t->added);
    free(t->score);
    free(t->edges);
    free(t->leaf);
    free(t->map);
    free(t->replaced);
    *t = (unigram_model){0};
}
