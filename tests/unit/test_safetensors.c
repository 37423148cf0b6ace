// SPDX-License-Identifier: MIT
// Every kind of damage has its own message, and what is written can be read.
#include "base/memory.h"
#include "../files.h"
#include "io/safetensors_write.h"
#include "weights/weights.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// A file of this header and n_data bytes (0, 1, 2, ...) into buf; returns its size.
static size_t make_file(unsigned char *buf, const char *header, size_t n_data)
{
    size_t n = strlen(header);
    for (int i = 0; i < 8; i++) buf[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(buf + 8, header, n);
    for (size_t i = 0; i < n_data; i++) buf[8 + n + i] = (unsigned char)i;
    return 8 + n + n_data;
}

static void refused_bytes(const unsigned char *bytes, size_t n, const char *text)
{
    // An exact block on the heap, so that a sanitizer sees a read behind the end.
    unsigned char *copy = malloc(n ? n : 1);
    memcpy(copy, bytes, n);
    safetensors *s = NULL;
    swd_err err = {0};
    cr_expect_eq(safetensors_parse(&s, "x.safetensors", copy, n, &err), SWD_ERR_FILE,
                 "accepted: %s", text);
    cr_expect_null(s);
    cr_expect_not_null(strstr(err.message, "x.safetensors"), "%s", err.message);
    cr_expect_not_null(strstr(err.message, text), "\"%s\" not in: %s", text, err.message);
    free(copy);
}

static void refused(const char *header, size_t n_data, const char *text)
{
    static unsigned char buf[1 << 16];
    refused_bytes(buf, make_file(buf, header, n_data), text);
}

#define T(name, dtype, shape, a, b)                                                                \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #a "," #b "]}"

Test(safetensors, each_damage_has_its_message)
{
    refused_bytes((const unsigned char *)"", 0, "empty");
    refused_bytes((const unsigned char *)"abc", 3, "too short");
    refused_bytes((const unsigned char *)"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10,
                  "is it a safetensors file?");
    refused_bytes((const unsigned char *)"\x20\0\0\0\0\0\0\0{}", 10,
                  "in a file of 10: the file is truncated");
    refused("", 0, "empty");
    refused("[]", 0, "not an object");
    refused("{\"a\":", 0, "malformed JSON at byte");
    refused("{\"a\":1}", 0, "not an object");
    refused("{" T("a", "F32", "[1]", 0, 4) "," T("a", "F32", "[1]", 4, 8) "}", 8, "duplicate");
    refused("{" T("", "F32", "[1]", 0, 4) "}", 4, "empty name");
    refused("{" T("a", "F99", "[1]", 0, 4) "}", 4, "unknown dtype F99");
    refused("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "\"dtype\" is missing");
    refused("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "\"shape\" is missing");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "\"data_offsets\" are missing");
    refused("{" T("a", "F32", "[-1]", 0, 4) "}", 4, "shape[0] is not a whole number");
    refused("{" T("a", "F32", "[1.5]", 0, 4) "}", 4, "shape[0] is not a whole number");
    refused("{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, "9 dimensions");
    refused("{" T("a", "F32", "[4294967296,4294967296]", 0, 4) "}", 4, "overflows");
    refused("{" T("a", "F32", "[4611686018427387904]", 0, 4) "}", 4, "does not fill");
    refused("{" T("a", "F32", "[2]", 0, 4) "}", 4, "does not fill its 4 bytes");
    refused("{" T("a", "F32", "[1]", 4, 0) "}", 4, "run backwards");
    refused("{" T("a", "F32", "[1]", -4, 0) "}", 4, "run backwards");
    refused("{" T("a", "F32", "[2]", 0, 8) "}", 7,
            "ends at byte 8 of the data, which has 7: the file is truncated");
    refused("{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[2]", 4, 12) "}", 12,
            "tensors a and b overlap");
    refused("{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 8, 12) "}", 12,
            "before tensor b, belong to no tensor");
    refused("{" T("a", "F32", "[1]", 0, 4) "}", 5, "1 bytes after the last tensor");
    refused("{\"__metadata__\":{\"a\":1}}", 0, "\"__metadata__\": the value of a");
    refused("{\"__metadata__\":[]}", 0, "\"__metadata__\" is not an object");
    char deep[256];
    memset(deep, '[', 200);
    deep[200] = 0;
    memcpy(deep, "{\"a\":", 5);
    refused(deep, 0, "nested deeper");
}

Test(safetensors, every_truncation_is_refused)
{
    static unsigned char buf[4096];
    size_t n =
        make_file(buf, "{" T("a", "F32", "[3]", 0, 12) "," T("b", "U8", "[5]", 12, 17) "}", 17);
    for (size_t k = 0; k < n; k++) {
        unsigned char *copy = malloc(k ? k : 1);
        memcpy(copy, buf, k);
        safetensors *s;
        swd_err err = {0};
        cr_assert_eq(safetensors_parse(&s, "x", copy, k, &err), SWD_ERR_FILE,
                     "%zu of %zu bytes accepted", k, n);
        free(copy);
    }
}

static char folder[64];

static void make_folder(void)
{
    make_temporary(folder);
}

static void remove_folder(void)
{
    remove_temporary(folder);
}

static const char *in_folder(const char *name)
{
    return path_in(folder, name);
}

static void write_one(const char *file, const char *name, swd_dtype dtype, int64_t n,
                      const void *data)
{
    swd_err err = {0};
    st_write_tensor t = {.name = name, .dtype = dtype, .ndim = 1, .shape = {n}, .data = data};
    cr_assert_eq(safetensors_write(in_folder(file), &t, 1, NULL, 0, &err), SWD_OK, "%s",
                 err.message);
}

TestSuite(files, .init = make_folder, .fini = remove_folder);

Test(files, what_is_written_is_read)
{
    swd_err err = {0};
    const float a[6] = {1, 2, 3, 4, 5, 6};
    const uint8_t b[3] = {7, 8, 9};
    const float c[1] = {0.5f};
    const st_write_tensor t[] = {
        {.name = "b", .dtype = SWD_U8, .ndim = 1, .shape = {3}, .data = b},
        {.name = "a", .dtype = SWD_F32, .ndim = 2, .shape = {2, 3}, .data = a},
        {.name = "scalar", .dtype = SWD_F32, .data = c},
        {.name = "none", .dtype = SWD_F32, .ndim = 2, .shape = {0, 4}}};
    const st_metadata m[] = {{"format", "pt"}, {"note", "a \"quoted\" \xc3\xa9"}};
    cr_assert_eq(safetensors_write(in_folder("x.safetensors"), t, 4, m, 2, &err), SWD_OK, "%s",
                 err.message);
    safetensors *s;
    cr_assert_eq(safetensors_open(&s, in_folder("x.safetensors"), "", &err), SWD_OK, "%s",
                 err.message);
    cr_assert_eq(safetensors_count(s), 4);
    const st_tensor *x = safetensors_find(s, "a");
    cr_assert_not_null(x);
    cr_assert_eq(x->ndim, 2);
    cr_assert_eq(x->shape[1], 3);
    cr_assert_eq(memcmp(x->data, a, sizeof a), 0); // misaligned: it follows three bytes
    cr_assert_eq(safetensors_find(s, "scalar")->numel, 1);
    cr_assert_eq(safetensors_find(s, "none")->numel, 0);
    cr_assert_null(safetensors_find(s, "c"));
    cr_assert_str_eq(safetensors_metadata(s, "note"), m[1].value);
    cr_assert_null(safetensors_metadata(s, "nothing"));
    safetensors_release(s, x);
    cr_assert_eq(memcmp(x->data, a, sizeof a), 0);
    safetensors_close(&s);
    cr_assert_null(s);
    // A second writing replaces the first; nothing temporary stays.
    write_one("x.safetensors", "only", SWD_F32, 6, a);
    cr_assert_eq(safetensors_open(&s, in_folder("x.safetensors"), "", &err), SWD_OK);
    cr_assert_eq(safetensors_count(s), 1);
    safetensors_close(&s);
    cr_assert_eq(rmdir(folder), -1);
    cr_assert_eq(unlink(in_folder("x.safetensors")), 0);
    cr_assert_eq(rmdir(folder), 0, "a temporary file was left");
    cr_assert_eq(mkdir(folder, 0700), 0);
}

// Squares of the element's index, wherever the piece begins.
static void fill_squares(void *ctx, void *to, int64_t first, int64_t n)
{
    int *pieces = ctx;
    for (int64_t i = 0; i < n; i++)
        ((uint32_t *)to)[i] = (uint32_t)(first + i) * (uint32_t)(first + i);
    ++*pieces;
}

Test(files, tensors_can_be_filled_piece_by_piece)
{
    enum { NUMBERS = 5 << 20 };
    swd_err err = {0};
    int pieces = 0;
    const int32_t after = 7;
    const st_write_tensor t[] = {
        {.name = "filled",
         .dtype = SWD_I32,
         .ndim = 1,
         .shape = {NUMBERS},
         .fill = fill_squares,
         .ctx = &pieces},
        {.name = "plain", .dtype = SWD_I32, .ndim = 1, .shape = {1}, .data = &after}};
    cr_assert_eq(safetensors_write(in_folder("x.safetensors"), t, 2, NULL, 0, &err), SWD_OK, "%s",
                 err.message);
    cr_assert_gt(pieces, 1);
    safetensors *s;
    cr_assert_eq(safetensors_open(&s, in_folder("x.safetensors"), "", &err), SWD_OK, "%s",
                 err.message);
    const uint32_t *x = (const uint32_t *)(const void *)safetensors_find(s, "filled")->data;
    for (uint32_t i = 0; i < NUMBERS; i++) cr_assert_eq(x[i], i * i);
    cr_assert_eq(memcmp(safetensors_find(s, "plain")->data, &after, sizeof after), 0);
    safetensors_close(&s);
}

static void open_refused(const char *path, const char *text)
{
    safetensors *s;
    swd_err err = {0};
    cr_expect_eq(safetensors_open(&s, path, "model", &err), SWD_ERR_FILE, "accepted: %s", text);
    cr_expect_not_null(strstr(err.message, text), "\"%s\" not in: %s", text, err.message);
}

Test(files, shards)
{
    const float a[2] = {1, 2}, b[1] = {3};
    safetensors *s;
    swd_err err = {0};
    open_refused(folder, "no model.safetensors");
    open_refused(in_folder("missing.safetensors"), "No such file");
    write_one("model-1.safetensors", "a", SWD_F32, 2, a);
    write_one("model-2.safetensors", "b", SWD_F32, 1, b);
    write_text(in_folder("model.safetensors.index.json"),
               "{\"weight_map\":{\"a\":\"model-1.safetensors\",\"b\":\"model-2.safetensors\"}}");
    cr_assert_eq(safetensors_open(&s, folder, "model", &err), SWD_OK, "%s", err.message);
    cr_assert_eq(safetensors_file_count(s), 2);
    cr_assert_eq(memcmp(safetensors_find(s, "b")->data, b, sizeof b), 0);
    safetensors_close(&s);
    write_text(in_folder("model.safetensors.index.json"),
               "{\"weight_map\":{\"a\":\"model-2.safetensors\"}}");
    open_refused(folder, "tensor a is not in model-2.safetensors");
    write_text(in_folder("model.safetensors.index.json"),
               "{\"weight_map\":{\"c\":\"model-1.safetensors\"}}");
    open_refused(folder, "tensor c is not in model-1.safetensors");
    write_text(in_folder("model.safetensors.index.json"),
               "{\"weight_map\":{\"a\":\"../model-1.safetensors\"}}");
    open_refused(folder, "not a file name in the same folder");
    write_text(in_folder("model.safetensors.index.json"),
               "{\"weight_map\":{\"a\":\"model-3.safetensors\"}}");
    open_refused(folder, "model-3.safetensors: No such file");
    write_text(in_folder("model.safetensors.index.json"), "{\"weight_map\":[]}");
    open_refused(folder, "\"weight_map\" is missing");
    write_one("model-2.safetensors", "a", SWD_F32, 2, a);
    write_text(in_folder("model.safetensors.index.json"),
               "{\"weight_map\":{\"a\":\"model-1.safetensors\",\"b\":\"model-2.safetensors\"}}");
    open_refused(folder, "tensor a is in two files");
}

Test(files, fp16_variant_is_found)
{
    const uint16_t h[3] = {0x3c00, 0x0001, 0xc000}; // 1, 2^-24, -2
    weights *w;
    swd_err err = {0};
    float x[3];
    write_one("diffusion_pytorch_model.fp16.safetensors", "a", SWD_F16, 3, h);
    cr_assert_eq(weights_open(&w, folder, "diffusion_pytorch_model", &err), SWD_OK, "%s",
                 err.message);
    cr_assert_eq(weights_read(w, "a", (int64_t[]){3}, 1, x, SWD_F32, &err), SWD_OK, "%s",
                 err.message);
    cr_assert(x[0] == 1 && x[1] == 0x1p-24f && x[2] == -2);
    weights_close(&w);
}

Test(files, weights_are_checked_against_the_model)
{
    enum { N = 3000 }; // more than a block of the conversion
    static float a[N], x[N];
    static uint16_t h[N];
    for (int i = 0; i < N; i++) a[i] = (float)(i - 1500) / 7;
    weights *w;
    swd_err err = {0};
    swd_tensor t;
    const int32_t ids[2] = {1, 2};
    const st_write_tensor list[] = {
        {.name = "a", .dtype = SWD_F32, .ndim = 1, .shape = {N}, .data = a},
        {.name = "ids", .dtype = SWD_I32, .ndim = 1, .shape = {2}, .data = ids}};
    cr_assert_eq(safetensors_write(in_folder("model.safetensors"), list, 2, NULL, 0, &err), SWD_OK);
    cr_assert_eq(weights_open(&w, folder, "model", &err), SWD_OK, "%s", err.message);
    cr_assert_eq(weights_check_unused(w, NULL, &err), SWD_ERR_FILE);
    cr_assert_not_null(strstr(err.message, "a, ids"), "%s", err.message);
    cr_assert_eq(weights_read(w, "a", (int64_t[]){N, 1}, 2, x, SWD_F32, &err), SWD_ERR_FILE);
    cr_assert_not_null(strstr(err.message, "[3000], but the config implies [3000,1]"), "%s",
                       err.message);
    cr_assert_eq(weights_read(w, "z", (int64_t[]){N}, 1, x, SWD_F32, &err), SWD_ERR_FILE);
    cr_assert_not_null(strstr(err.message, "tensor z is missing"), "%s", err.message);
    cr_assert_eq(weights_read(w, "ids", (int64_t[]){2}, 1, x, SWD_F32, &err), SWD_ERR_UNSUPPORTED);
    cr_assert_not_null(strstr(err.message, "ids is I32"), "%s", err.message);
    cr_assert_eq(weights_alias(w, "tied", "a", &err), SWD_OK);
    cr_assert_eq(weights_get(w, &t, "tied", (int64_t[]){N}, 1, SWD_F32, &err), SWD_OK, "%s",
                 err.message);
    cr_assert_eq(memcmp(t.data, a, sizeof a), 0);
    cr_assert_eq(weights_read(w, "a", (int64_t[]){N}, 1, h, SWD_BF16, &err), SWD_OK, "%s",
                 err.message);
    for (int i = 0; i < N; i++) cr_assert_eq(h[i], f32_to_bf16(a[i]));
    cr_assert_eq(weights_check_unused(w, (const char *const[]){"id", NULL}, &err), SWD_OK, "%s",
                 err.message);
    weights_close(&w);
    // NaN and infinity anywhere in the tensor, in each type.
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 9; i++) {
        float keep = a[2999];
        a[i % 3 == 0 ? 2999 : i * 300] = bad[i / 3];
        write_one("model.safetensors", "a", SWD_F32, N, a);
        a[i % 3 == 0 ? 2999 : i * 300] = keep;
        cr_assert_eq(weights_open(&w, folder, "model", &err), SWD_OK);
        cr_assert_eq(weights_read(w, "a", (int64_t[]){N}, 1, x, SWD_F32, &err), SWD_ERR_FILE);
        cr_assert_not_null(strstr(err.message, "tensor a at byte"), "%s", err.message);
        cr_assert_eq(weights_get(w, &t, "a", (int64_t[]){N}, 1, SWD_F32, &err), SWD_ERR_FILE);
        weights_close(&w);
    }
}
