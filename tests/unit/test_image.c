// SPDX-License-Identifier: MIT
// Files written are read back: pixels, metadata, damage, limits, and what is left in the folder.
#include "../files.h"
#include "image/image.h"
#include "image/jpeg.h"
#include "image/png.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static void setup(void)
{
    make_temporary(folder);
}

static int count_files(bool remove_them)
{
    int n = 0;
    DIR *d = opendir(folder);
    cr_assert(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        n++;
        if (remove_them) remove(path_in(folder, e->d_name));
    }
    closedir(d);
    return n;
}

static void teardown(void)
{
    count_files(true);
    rmdir(folder);
}
TestSuite(image, .init = setup, .fini = teardown);

static const char *in_folder(const char *name)
{
    return path_in(folder, name);
}

static uint8_t *smooth_picture(int w, int h)
{
    uint8_t *p = malloc((size_t)w * (size_t)h * 3);
    cr_assert(p);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            uint8_t *q = p + 3 * (y * w + x);
            q[0] = (uint8_t)(x * 255 / w);
            q[1] = (uint8_t)(y * 255 / h);
            q[2] = (uint8_t)(255 - (x + y) * 255 / (w + h));
        }
    return p;
}

static void check_round_trip(const char *name, int w, int h, const char *comment, int tolerance)
{
    swd_err err = {0};
    image_rgb8 back;
    uint8_t *p = smooth_picture(w, h);
    const char *path = in_folder(name);
    cr_assert_eq(image_write(path, p, w, h, comment, &err), SWD_OK, "%s", err.message);
    cr_assert_eq(count_files(false), 1);
    cr_assert_eq(image_read(&back, path, &err), SWD_OK, "%s", err.message);
    cr_assert_eq(back.width, w);
    cr_assert_eq(back.height, h);
    int worst = 0;
    for (int i = 0; i < 3 * w * h; i++) {
        int d = abs(p[i] - back.rgb[i]);
        if (d > worst) worst = d;
    }
    cr_assert_leq(worst, tolerance, "%s %dx%d: %d", name, w, h, worst);
    if (comment)
        cr_assert_str_eq(back.comment, comment);
    else
        cr_assert_null(back.comment);
    image_free(&back);
    cr_assert_null(back.rgb);
    free(p);
    remove(path);
}

Test(image, round_trips)
{
    static const int sizes[][2] = {{1, 1}, {16, 16}, {17, 5}, {33, 64}, {127, 3}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int w = sizes[i][0], h = sizes[i][1];
        check_round_trip("a.png", w, h, NULL, 0);
        check_round_trip("a.PNG", w, h, "prompt: a cat\nseed: 7", 0);
        check_round_trip("a.png", w, h, "gr\xc3\xbc\xc3\x9f \xe7\x8c\xab", 0);
        // 17x5 of a gradient has steps of 50 between rows; quality 95 is near enough everywhere.
        check_round_trip("a.jpg", w, h, "gr\xc3\xbc\xc3\x9f \xe7\x8c\xab", 8);
        check_round_trip("a.JpEg", w, h, NULL, 8);
    }
}

Test(image, jpeg_has_no_chroma_subsampling)
{
    swd_err err = {0};
    uint8_t p[16 * 16 * 3] = {0}, *data;
    size_t n;
    cr_assert_eq(jpeg_encode(&data, &n, p, 16, 16, NULL, &err), SWD_OK, "%s", err.message);
    size_t i = 0;
    while (i + 20 < n && !(data[i] == 0xff && data[i + 1] == 0xc0)) i++;
    cr_assert_eq(data[i + 1], 0xc0);
    for (int c = 0; c < 3; c++) cr_assert_eq(data[i + 11 + 3 * (size_t)c], 0x11);
    free(data);
}

Test(image, long_jpeg_comment_is_cut_between_characters)
{
    swd_err err = {0};
    uint8_t p[3] = {1, 2, 3}, *data;
    size_t n, length = 70000;
    char *comment = malloc(length + 1);
    cr_assert(comment);
    for (size_t i = 0; i < length; i += 2) memcpy(comment + i, "\xc3\xa9", 2);
    comment[length] = 0;
    image_rgb8 back;
    cr_assert_eq(jpeg_encode(&data, &n, p, 1, 1, comment, &err), SWD_OK, "%s", err.message);
    cr_assert_eq(jpeg_decode(&back, data, n, "x", &err), SWD_OK, "%s", err.message);
    cr_assert_eq(strlen(back.comment), 65532);
    cr_assert_eq(memcmp(back.comment, comment, 65532), 0);
    image_free(&back);
    free(data);
    free(comment);
}

Test(image, damage_is_refused)
{
    swd_err err = {0};
    uint8_t *p = smooth_picture(64, 48);
    for (int png = 0; png < 2; png++) {
        uint8_t *data;
        size_t n;
        image_rgb8 back;
        cr_assert_eq((png ? png_encode : jpeg_encode)(&data, &n, p, 64, 48, "text", &err), SWD_OK,
                     "%s", err.message);
        // The last chunk of a PNG (12 bytes) and the end marker of a JPEG carry no pixels.
        for (size_t k = 0; k + 13 < n; k += 7) {
            cr_assert_eq(image_decode(&back, data, k, "cut", &err), SWD_ERR_FILE,
                         "format %d, %zu of %zu bytes", png, k, n);
            cr_assert_null(back.rgb);
            cr_assert_null(back.comment);
        }
        for (size_t k = 0; k < n; k++) { // any answer, but no crash and no leak
            data[k] ^= 0x55;
            if (image_decode(&back, data, n, "flipped", &err) == SWD_OK) image_free(&back);
            data[k] ^= 0x55;
        }
        free(data);
    }
    free(p);
}

Test(image, lying_png_header_takes_no_memory)
{
    // A sound IHDR of 8192x8192 in a file of 45 bytes.
    static const uint8_t data[] = {0x89, 'P', 'N', 'G', 13,  10,   26,   10,   0,    0, 0,  13,
                                   'I',  'H', 'D', 'R', 0,   0,    32,   0,    0,    0, 32, 0,
                                   8,    2,   0,   0,   0,   0xfd, 0xc8, 0x5d, 0x0e, 0, 0,  0,
                                   0,    'I', 'E', 'N', 'D', 0xae, 0x42, 0x60, 0x82};
    swd_err err = {0};
    image_rgb8 back;
    cr_assert_eq(png_decode(&back, data, sizeof data, "liar", &err), SWD_ERR_FILE);
    cr_assert(strstr(err.message, "cut off"), "%s", err.message);
    cr_assert_null(back.rgb);
}

Test(image, wrong_calls)
{
    swd_err err = {0};
    uint8_t p[3] = {0};
    image_rgb8 back;
    cr_assert_eq(image_write(in_folder("a.gif"), p, 1, 1, NULL, &err), SWD_ERR_ARGUMENT);
    cr_assert(strstr(err.message, ".jpg or .png"));
    cr_assert_eq(image_write(in_folder("noext"), p, 1, 1, NULL, &err), SWD_ERR_ARGUMENT);
    cr_assert_eq(image_write(in_folder("a.png"), p, 0, 1, NULL, &err), SWD_ERR_ARGUMENT);
    cr_assert_eq(image_write(in_folder("a.png"), p, 16385, 1, NULL, &err), SWD_ERR_ARGUMENT);
    cr_assert_eq(image_write(in_folder("none/a.png"), p, 1, 1, NULL, &err), SWD_ERR_FILE);
    cr_assert(strstr(err.message, "none/a.png"));
    cr_assert_eq(image_read(&back, in_folder("missing.png"), &err), SWD_ERR_FILE);
    cr_assert_eq(image_read(&back, folder, &err), SWD_ERR_FILE);
    cr_assert_eq(image_decode(&back, (const uint8_t *)"GIF89a", 6, "g", &err), SWD_ERR_FILE);
    cr_assert_eq(image_decode(&back, NULL, 0, "empty", &err), SWD_ERR_FILE);
    cr_assert_eq(count_files(false), 0);
}

Test(image, a_failed_rename_leaves_nothing)
{
    swd_err err = {0};
    uint8_t p[3] = {0};
    char path[200];
    snprintf(path, sizeof path, "%s", in_folder("dir.png"));
    cr_assert_eq(mkdir(path, 0700), 0);
    cr_assert_eq(image_write(path, p, 1, 1, NULL, &err), SWD_ERR_FILE);
    cr_assert_eq(count_files(false), 1);
    rmdir(path);
}
