// SPDX-License-Identifier: MIT
// CSV, tar and the three layouts of a data set: what is read, what is left out with which reason, and that nothing hostile gets through.
#include "base/memory.h"
#include "../files.h"
#include "train/csv.h"
#include "train/dataset.h"
#include "train/tar.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static void make_dir(void)
{
    make_temporary(dir);
}

static void remove_dir(void)
{
    remove_temporary(dir);
}

TestSuite(dataset, .init = make_dir, .fini = remove_dir);

static char *in_dir(const char *name)
{
    return path_in(dir, name);
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(in_dir(name), "wb");
    cr_assert_not_null(f, "%s", name);
    fputs(text, f);
    fclose(f);
}

static void put_picture(const char *name, uint8_t gray)
{
    uint8_t rgb[2 * 3 * 3];
    memset(rgb, gray, sizeof rgb);
    cr_assert_eq(image_write(in_dir(name), rgb, 3, 2, NULL, NULL), SWD_OK);
}

static void shell(const char *command)
{
    char line[1024];
    snprintf(line, sizeof line, "cd %s && %s", dir, command);
    cr_assert_eq(system(line), 0, "%s", line);
}

static dataset *must_open(const char *path)
{
    dataset *d;
    swd_err err = {0};
    cr_assert_eq(dataset_open(&d, &path, 1, &err), SWD_OK, "%s", err.message);
    return d;
}

/* Item i has this file name at its end, this caption, and a picture of this gray. */
static void expect_item(const dataset *d, int64_t i, const char *name, const char *caption,
                        int gray)
{
    image_rgb8 image;
    swd_err err = {0};
    cr_assert_lt(i, dataset_count(d));
    cr_expect(str_ends(dataset_name(d, i), name), "%s, not %s", dataset_name(d, i), name);
    cr_expect_str_eq(dataset_caption(d, i), caption);
    cr_assert_eq(dataset_read(&image, d, i, &err), SWD_OK, "%s", err.message);
    cr_expect_eq(image.width, 3);
    cr_expect_eq(image.rgb[0], gray);
    image_free(&image);
}

static void expect_bad(const dataset *d, int64_t i, const char *file, const char *reason)
{
    cr_assert_lt(i, dataset_bad_count(d));
    dataset_bad b = dataset_bad_at(d, i);
    cr_expect(str_ends(b.file, file), "%s, not %s", b.file, file);
    cr_expect_not_null(strstr(b.reason, reason), "%s: %s", b.reason, reason);
}

/* ---- CSV ---- */

/* The fields joined by |, the rows by /. */
static const char *parsed(const char *text, size_t n, swd_err *err)
{
    static char out[512];
    csv_reader r = csv_begin("x.csv", text, n);
    csv_row row = {0};
    bool more = true;
    swd_status s = SWD_OK;
    out[0] = '\0';
    for (;;) {
        s = csv_next(&row, &more, &r, err);
        if (s != SWD_OK || !more) break;
        for (int i = 0; i < row.n; i++) {
            cr_assert_not_null(csv_field(&row, i));
            snprintf(out + strlen(out), sizeof out - strlen(out), "%s%s", i ? "|" : "",
                     csv_field(&row, i));
        }
        snprintf(out + strlen(out), sizeof out - strlen(out), "@%d/", row.line);
    }
    cr_assert_null(csv_field(&row, row.n));
    csv_row_free(&row);
    return s == SWD_OK ? out : NULL;
}

Test(dataset, csv)
{
    static const struct {
        const char *text, *rows;
    } good[] = {
        {"", ""},
        {"\n\r\n\n", ""},
        {"a,b,c\n1,2,3\n", "a|b|c@1/1|2|3@2/"},
        {"\xef\xbb\xbf"
         "a,b",
         "a|b@1/"},
        {"a,\"b, \"\"c\"\"\",d\r\nx,,\r\n", "a|b, \"c\"|d@1/x||@2/"},
        {"\"two\nlines\",1\nnext", "two\nlines|1@1/next@3/"},
        {"a\rb\r\rc", "a@1/b@2/c@4/"},
        {"mid\"dle,\"end\"x", "mid\"dle|endx@1/"},
        {",", "|@1/"},
        {"\"\"", "@1/"},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        swd_err err = {0};
        const char *got = parsed(good[i].text, strlen(good[i].text), &err);
        cr_assert_not_null(got, "%s", err.message);
        cr_expect_str_eq(got, good[i].rows);
    }
    swd_err err = {0};
    cr_expect_null(parsed("a\n\"b", 4, &err));
    cr_expect_str_eq(err.message, "x.csv: line 2: a quote that is never closed");
    char many[2 * CSV_FIELDS_MAX + 2];
    memset(many, ',', sizeof many);
    cr_expect_not_null(parsed(many, CSV_FIELDS_MAX - 1, &err));
    cr_expect_null(parsed(many, CSV_FIELDS_MAX, &err));
    cr_expect_not_null(strstr(err.message, "more than 64 fields"));
}

/* ---- folders ---- */

Test(dataset, metainfo)
{
    swd_err err = {0};
    dataset *d;
    put_picture("0.png", 10);
    put_picture("1.png", 20);
    put("broken.png", "no picture");
    put("metainfo.csv", ",file_name,caption\n"
                        "0,1.png,\"a cat, \"\"black\"\"\"\n"
                        "1,0.png,\n"
                        "2,../0.png,x\n"
                        "3,missing.png,x\n"
                        "4,0.png\n"
                        "5,0.png,bad \xff byte\n"
                        "6,broken.png,x\n");
    d = must_open(dir);
    cr_assert_eq(dataset_count(d), 3);
    expect_item(d, 0, "1.png", "a cat, \"black\"", 20);
    expect_item(d, 1, "0.png", "", 10);
    expect_bad(d, 0, "metainfo.csv:4", "not there");
    expect_bad(d, 1, "metainfo.csv:5", "not there");
    expect_bad(d, 2, "metainfo.csv:6", "fewer than three");
    expect_bad(d, 3, "0.png", "not UTF-8");
    cr_expect_eq(dataset_bad_count(d), 4);
    image_rgb8 image;
    cr_expect_eq(dataset_read(&image, d, 2, &err), SWD_ERR_FILE);
    cr_expect_null(image.rgb);
    cr_assert_eq(dataset_reject(d, dataset_name(d, 2), err.message, NULL), SWD_OK);
    expect_bad(d, 4, "broken.png", "neither a JPEG nor a PNG");
    dataset_close(&d);
    cr_assert_null(d);
}

Test(dataset, texts)
{
    put_picture("b.jpg", 40);
    put("b.txt", "a dog\r\n");
    put_picture("a.b.PNG.png", 30);
    put("a.b.PNG.txt", "two\nlines\n\n");
    put_picture("c.png", 1);
    put("d.txt", "no picture");
    put_picture("z.png", 1);
    put("z.txt", "\xc0\x80");
    dataset *d = must_open(dir);
    cr_assert_eq(dataset_count(d), 2);
    expect_item(d, 0, "a.b.PNG.png", "two\nlines", 30);
    expect_item(d, 1, "b.jpg", "a dog", 40);
    cr_expect_eq(dataset_bad_count(d), 2);
    expect_bad(d, 0, "c.png", "no caption");
    expect_bad(d, 1, "z.png", "not UTF-8");
    dataset_close(&d);
}

Test(dataset, refused)
{
    swd_err err = {0};
    dataset *d;
    const char *path = dir, *missing = in_dir("nowhere");
    cr_expect_eq(dataset_open(&d, &path, 1, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "no pictures"), "%s", err.message);
    cr_expect_null(d);
    cr_expect_eq(dataset_open(&d, &missing, 1, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "no such folder"), "%s", err.message);
    cr_expect_eq(dataset_open(&d, &path, 0, &err), SWD_ERR_ARGUMENT);
    put_picture("a.png", 1);
    cr_expect_eq(dataset_open(&d, &path, 1, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "a.png: has no caption"), "%s", err.message);
    put("metainfo.csv", "i,f,c\n0,a.png,\"x\n");
    cr_expect_eq(dataset_open(&d, &path, 1, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "line 2: a quote"), "%s", err.message);
}

Test(dataset, digest)
{
    put_picture("a.png", 1);
    put("a.txt", "one");
    dataset *d = must_open(dir);
    uint64_t first = dataset_digest(d);
    cr_expect_eq(dataset_digest(d), first);
    dataset_close(&d);
    put("a.txt", "two");
    d = must_open(dir);
    cr_expect_neq(dataset_digest(d), first);
    dataset_close(&d);
    put("a.txt", "one");
    d = must_open(dir);
    cr_expect_eq(dataset_digest(d), first);
    dataset_close(&d);
    put_picture("a.png", 2);
    d = must_open(dir);
    cr_expect_neq(dataset_digest(d), first);
    dataset_close(&d);
}

/* ---- tar ---- */

/* What the system's tar writes in each of its formats, long names among it. */
Test(dataset, tar_formats)
{
    static const char *const formats[] = {"ustar", "pax", "gnu", "v7"};
    char deep[300];
    for (size_t i = 0; i < 4; i++) {
        bool long_names = i == 1 || i == 2;
        memset(deep, 'x', sizeof deep);
        strcpy(deep + (long_names ? 200 : 60), "/0.png");
        shell("rm -rf t t.tar && mkdir t");
        deep[long_names ? 200 : 60] = '\0';
        char folder[320], text[340], picture[340], command[128];
        snprintf(folder, sizeof folder, "t/%s", deep);
        snprintf(text, sizeof text, "%s/0.txt", folder);
        snprintf(picture, sizeof picture, "%s/0.png", folder);
        cr_assert_eq(mkdir(in_dir(folder), 0700), 0);
        put(text, "deep");
        put_picture(picture, 5);
        put_picture("t/1.seg.png", 9);
        put_picture("t/2.jpg", 60);
        put("t/1.txt", "of 1.seg.png, which is no picture of webdataset");
        put("t/2.txt", "");
        snprintf(command, sizeof command, "tar --format=%s -C t -cf t.tar .", formats[i]);
        shell(command);
        dataset *d = must_open(in_dir("t.tar"));
        cr_assert_eq(dataset_bad_count(d), 0, "%s", formats[i]);
        cr_assert_eq(dataset_count(d), 2, "%s", formats[i]);
        expect_item(d, 0, "2.jpg", "", 60);
        expect_item(d, 1, "/0.png", "deep", 5);
        dataset_close(&d);
    }
}

Test(dataset, tar_with_metainfo)
{
    put_picture("0.png", 10);
    put("metainfo.csv", "index,file,caption\n0,0.png,zero\n");
    shell("tar -cf t.tar 0.png metainfo.csv && rm 0.png metainfo.csv");
    dataset *d = must_open(in_dir("t.tar"));
    cr_assert_eq(dataset_count(d), 1);
    expect_item(d, 0, "t.tar/0.png", "zero", 10);
    uint64_t h = dataset_digest(d);
    cr_expect_eq(dataset_digest(d), h);
    dataset_close(&d);
}

static void seal(unsigned char *h)
{
    unsigned sum = 0;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < 512; i++) sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
}

static void header(unsigned char *h, const char *name, char type, const char *size)
{
    memset(h, 0, 512);
    strcpy((char *)h, name);
    memcpy(h + 124, size, strlen(size));
    h[156] = (unsigned char)type;
    memcpy(h + 257,
           "ustar\0"
           "00",
           8);
    seal(h);
}

static void expect_refused(const unsigned char *data, size_t n, const char *why)
{
    tar_reader r = tar_begin("x.tar", data, n);
    tar_entry e;
    bool more = true;
    swd_err err = {0};
    swd_status s = SWD_OK;
    while (s == SWD_OK && more) s = tar_next(&e, &more, &r, &err);
    tar_end(&r);
    cr_expect_eq(s, SWD_ERR_FILE, "%s", why);
    cr_expect_not_null(strstr(err.message, why), "\"%s\", not \"%s\"", err.message, why);
}

Test(dataset, tar_damaged)
{
    unsigned char t[2048] = {0};
    header(t, "a", '0', "00000000001");
    t[0] = 'b';
    expect_refused(t, 2048, "byte 0: a tar header whose checksum");
    static const char *const sizes[] = {"00000003001", "77777777777", "12x",
                                        "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        header(t, "a", '0', sizes[i]);
        expect_refused(t, 2048, "beyond the end");
    }
    header(t, "a", 'S', "0");
    expect_refused(t, 2048, "a sparse file");
    header(t, "a", '0', "0");
    expect_refused(t, 600, "byte 512: the file ends inside a header");
    header(t, "p", 'x', "11");
    static const char *const records[] = {"99 path=\n", "0 path=a\n", "9 path-a\n", "9 size=x\n",
                                          "path=aaa\n"};
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        memset(t + 512, 0, 512);
        memcpy(t + 512, records[i], 9);
        expect_refused(t, 2048, "a pax ");
    }
}
