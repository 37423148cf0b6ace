// SPDX-License-Identifier: MIT
#include "train/digest.h"
#include "io/mapping.h"
#include <string.h>

enum { BLOCK = 4096 };

static uint64_t mix(uint64_t h, uint64_t w)
{
    h ^= w * 0x9e3779b97f4a7c15u;
    h = h << 31 | h >> 33;
    return h * 0xbf58476d1ce4e5b9u + 0x94d049bb133111ebu;
}

uint64_t digest_u64(uint64_t h, uint64_t v)
{
    h = mix(h, v);
    return h ^ h >> 29;
}

uint64_t digest_bytes(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;
    uint64_t w;
    size_t left = n;
    for (; left >= sizeof w; p += sizeof w, left -= sizeof w) {
        memcpy(&w, p, sizeof w);
        h = mix(h, w);
    }
    w = 0;
    if (left) memcpy(&w, p, left);
    return digest_u64(mix(h, w), n);
}

uint64_t digest_string(uint64_t h, const char *s)
{
    return digest_bytes(h, s, strlen(s) + 1);
}

uint64_t digest_sample(uint64_t h, const void *data, size_t n, int blocks)
{
    const unsigned char *p = data;
    if (n <= (size_t)blocks * BLOCK) return digest_bytes(h, p, n);
    h = digest_u64(h, n);
    for (int i = 0; i < blocks; i++) {
        size_t last = n - BLOCK, at = blocks > 1 ? last / (size_t)(blocks - 1) * (size_t)i : 0;
        h = digest_bytes(h, p + (i == blocks - 1 ? last : at), BLOCK);
    }
    return h;
}

uint64_t digest_file(uint64_t h, const char *path, int blocks)
{
    swd_mapping m;
    if (mapping_open(&m, path, 0, NULL) != SWD_OK) return digest_u64(h, 0);
    h = digest_sample(h, m.data, m.size, blocks);
    mapping_close(&m);
    return h;
}
