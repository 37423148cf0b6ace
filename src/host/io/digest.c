// SPDX-License-Identifier: MIT
#include "io/digest.h"
#include "base/memory.h"
#include "io/mapping.h"
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOCK = 4096, WHOLE_BLOCKS = 1024, FOLDER_BLOCKS = 64 };

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

static int no_dot(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static swd_status add_file(uint64_t *h, const char *folder, const char *name, swd_err *err)
{
    char *path;
    struct stat st;
    swd_mapping m = {0};
    SWD_TRY(path_join(&path, folder, name, err), err);
    bool regular = stat(path, &st) == 0 && S_ISREG(st.st_mode);
    swd_status s = regular ? mapping_open(&m, path, 0, err) : SWD_OK;
    free(path);
    if (s != SWD_OK || !regular) return s;
    *h = digest_sample(digest_string(*h, name), m.data, m.size,
                       m.size <= WHOLE_BLOCKS * BLOCK ? WHOLE_BLOCKS : FOLDER_BLOCKS);
    mapping_close(&m);
    return SWD_OK;
}

swd_status digest_folder(uint64_t *h, const char *path, swd_err *err)
{
    struct dirent **list = NULL;
    int n = scandir(path, &list, no_dot, alphasort);
    swd_status s = SWD_OK;
    *h = digest_u64(*h, (uint64_t)(n + 1));
    for (int i = 0; i < n; i++) {
        if (s == SWD_OK) s = add_file(h, path, list[i]->d_name, err);
        free(list[i]);
    }
    free(list);
    return s;
}
