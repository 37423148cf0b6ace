// SPDX-License-Identifier: MIT
#include "train/tar.h"
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512, NAME = 100, SIZE_AT = 124, SUM_AT = 148, TYPE_AT = 156, MAGIC_AT = 257 };
enum { PREFIX_AT = 345, PREFIX = 155 };

tar_reader tar_begin(const char *path, const void *data, size_t n)
{
    return (tar_reader){.path = path, .data = data, .n = n, .pax_size = -1};
}

void tar_end(tar_reader *r)
{
    free(r->name.data);
    free(r->long_name.data);
    *r = (tar_reader){0};
}

static swd_status damaged(const tar_reader *r, const char *what, swd_err *err)
{
    return SWD_FAIL(err, SWD_ERR_FILE, "%s: byte %zu: %s", r->path, r->at, what);
}

// Octal digits between blanks, or GNU's base 256 with the top bit set. -1: neither.
static int64_t number(const unsigned char *p, int n)
{
    int64_t v = 0;
    if (p[0] & 0x80) {
        if ((p[0] & 0x7f) != 0) return -1; // negative, or beyond 2^88
        for (int i = 1; i < n; i++) {
            if (v >> 55) return -1;
            v = v << 8 | p[i];
        }
        return v;
    }
    int i = 0;
    while (i < n && p[i] == ' ') i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) v = v << 3 | (p[i] - '0');
    return i == n || p[i] == ' ' || p[i] == 0 ? v : -1;
}

// The sum of the header's bytes, those of the sum itself counted as blanks.
static bool sum_fits(const unsigned char *h)
{
    int64_t sum = 0;
    for (int i = 0; i < BLOCK; i++) sum += i >= SUM_AT && i < SUM_AT + 8 ? ' ' : h[i];
    return number(h + SUM_AT, 8) == sum;
}

static bool is_zero(const unsigned char *h)
{
    for (int i = 0; i < BLOCK; i++)
        if (h[i]) return false;
    return true;
}

static swd_status set_name(text_buf *to, const unsigned char *h, swd_err *err)
{
    const char *name = (const char *)h, *prefix = (const char *)h + PREFIX_AT;
    to->n = 0;
    if (memcmp(h + MAGIC_AT, "ustar\0", 6) == 0 && *prefix) {
        SWD_TRY(text_buf_add(to, prefix, strnlen(prefix, PREFIX), err), err);
        SWD_TRY(text_buf_add(to, "/", 1, err), err);
    }
    SWD_TRY(text_buf_add(to, name, strnlen(name, NAME), err), err);
    return text_buf_add(to, "", 1, err);
}

static swd_status set_long_name(tar_reader *r, const char *s, size_t n, swd_err *err)
{
    n = strnlen(s, n);
    if (n > TAR_NAME_BYTES_MAX) return damaged(r, "a name longer than 4096 bytes", err);
    r->long_name.n = 0;
    SWD_TRY(text_buf_add(&r->long_name, s, n, err), err);
    return text_buf_add(&r->long_name, "", 1, err);
}

// Records "LENGTH key=value\n" of a pax header [n]; those that we know hold for the next member.
static swd_status read_pax(tar_reader *r, const char *p, size_t n, swd_err *err)
{
    for (const char *end = p + n; p < end && *p;) {
        size_t length = 0, digits = 0;
        for (; p + digits < end && p[digits] >= '0' && p[digits] <= '9' && digits < 9; digits++)
            length = length * 10 + (size_t)(p[digits] - '0');
        if (!digits || length < digits + 4 || length > (size_t)(end - p) || p[digits] != ' ' ||
            p[length - 1] != '\n')
            return damaged(r, "a pax record that is none", err);
        const char *key = p + digits + 1, *stop = p + length - 1;
        const char *equals = memchr(key, '=', (size_t)(stop - key));
        if (!equals) return damaged(r, "a pax record without =", err);
        if (equals - key == 4 && memcmp(key, "path", 4) == 0)
            SWD_TRY(set_long_name(r, equals + 1, (size_t)(stop - equals - 1), err), err);
        if (equals - key == 4 && memcmp(key, "size", 4) == 0) {
            int64_t v = 0;
            for (const char *q = equals + 1; q < stop; q++) {
                if (*q < '0' || *q > '9' || v >> 58) return damaged(r, "a pax size", err);
                v = v * 10 + (*q - '0');
            }
            r->pax_size = v;
        }
        p += length;
    }
    return SWD_OK;
}

// One member; *regular says whether entry is a file.
static swd_status read_member(tar_entry *entry, bool *regular, tar_reader *r, swd_err *err)
{
    const unsigned char *h = r->data + r->at;
    char type = (char)h[TYPE_AT];
    bool describes = type == 'x' || type == 'g' || type == 'L' || type == 'K';
    if (!sum_fits(h)) return damaged(r, "a tar header whose checksum does not fit", err);
    if (type == 'S') return damaged(r, "a sparse file; pack it without --sparse", err);
    int64_t size = !describes && r->pax_size >= 0 ? r->pax_size : number(h + SIZE_AT, 12);
    if (type >= '1' && type <= '6') size = 0; // links, devices, folders: no data, whatever is said
    size_t start = r->at + BLOCK;
    if (size < 0 || (uint64_t)size > r->n - start)
        return damaged(r, "a member that reaches beyond the end of the file", err);
    const char *data = (const char *)r->data + start;
    if (type == 'x') SWD_TRY(read_pax(r, data, (size_t)size, err), err);
    if (type == 'L') SWD_TRY(set_long_name(r, data, (size_t)size, err), err);
    if (!describes) {
        SWD_TRY(set_name(&r->name, h, err), err);
        bool longer = r->long_name.n > 0;
        *regular = type == '0' || type == 0 || type == '7';
        *entry = (tar_entry){longer ? r->long_name.data : r->name.data, start, (size_t)size};
        r->long_name.n = 0; // its bytes stay until the next call
        r->pax_size = -1;
    }
    size_t padded = ((size_t)size + BLOCK - 1) / BLOCK * BLOCK;
    r->at = padded > r->n - start ? r->n : start + padded;
    return SWD_OK;
}

swd_status tar_next(tar_entry *entry, bool *more, tar_reader *r, swd_err *err)
{
    *more = false;
    while (r->n - r->at >= BLOCK && !is_zero(r->data + r->at)) {
        SWD_TRY(read_member(entry, more, r, err), err);
        if (*more) return SWD_OK;
    }
    if (r->n - r->at > 0 && r->n - r->at < BLOCK)
        return damaged(r, "the file ends inside a header", err);
    return SWD_OK;
}
