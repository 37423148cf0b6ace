// SPDX-License-Identifier: MIT
#include "text/vocab.h"
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
