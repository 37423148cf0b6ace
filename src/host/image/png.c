// SPDX-License-Identifier: MIT
#include "image/png.h"
#include "base/memory.h"
#include <stdbool.h>
#include <string.h>

#include <spng.h>

static const char keyword[] = "parameters";
// Deflate cannot expand more than 1032 times: a header that promises more is a lie, told before memory is taken for it.
enum { DEFLATE_RATIO_MAX = 1032 };

static swd_status png_error(int code, const char *name, swd_err *err)
{
    if (code == SPNG_EMEM)
        return SWD_FAIL(err, SWD_ERR_MEMORY, "%s: out of memory while reading a PNG", name);
    return SWD_FAIL(err, SWD_ERR_FILE, "%s: not a sound PNG: %s", name, spng_strerror(code));
}

#define TRY_PNG(call, name, err)                                                                   \
    do {                                                                                           \
        int code_ = (call);                                                                        \
        if (code_) return png_error(code_, (name), (err));                                         \
    } while (0)

static swd_status take_comment(char **out, spng_ctx *ctx, const char *name, swd_err *err)
{
    uint32_t n = 0;
    int code = spng_get_text(ctx, NULL, &n);
    if (code == SPNG_ECHUNKAVAIL || (code == 0 && n == 0)) return SWD_OK;
    TRY_PNG(code, name, err);
    struct spng_text *texts = NULL;
    SWD_TRY(swd_calloc(&texts, n, sizeof(*texts), "PNG texts", err), err);
    swd_status s = SWD_OK;
    code = spng_get_text(ctx, texts, &n);
    if (code) s = png_error(code, name, err);
    for (uint32_t i = 0; s == SWD_OK && i < n; i++) {
        if (strcmp(texts[i].keyword, keyword) != 0 || !texts[i].text) continue;
        s = swd_calloc(out, texts[i].length + 1, 1, "a picture's comment", err);
        if (s == SWD_OK) memcpy(*out, texts[i].text, texts[i].length);
        break;
    }
    free(texts);
    return s;
}

static swd_status read_all(image_rgb8 *out, spng_ctx *ctx, const uint8_t *data, size_t n,
                           const char *name, swd_err *err)
{
    struct spng_ihdr header;
    size_t bytes;
    TRY_PNG(spng_set_image_limits(ctx, IMAGE_SIDE_MAX, IMAGE_SIDE_MAX), name, err);
    TRY_PNG(spng_set_chunk_limits(ctx, (size_t)IMAGE_COMMENT_BYTES_MAX * 4,
                                  (size_t)IMAGE_COMMENT_BYTES_MAX * 16),
            name, err);
    TRY_PNG(spng_set_png_buffer(ctx, data, n), name, err);
    TRY_PNG(spng_get_ihdr(ctx, &header), name, err);
    SWD_TRY(image_check_size(header.width, header.height, name, SWD_ERR_FILE, err), err);
    static const int channels_of[7] = {1, 0, 3, 1,
                                       2, 0, 4}; // by colour type, which libspng has checked
    uint64_t bits = (uint64_t)header.width * header.height * header.bit_depth *
                    (uint64_t)channels_of[header.color_type];
    if (bits / 8 / DEFLATE_RATIO_MAX > n)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: %zu bytes cannot hold a PNG of %ux%u; the file is cut off", name, n,
                        (unsigned)header.width, (unsigned)header.height);
    TRY_PNG(spng_decoded_image_size(ctx, SPNG_FMT_RGB8, &bytes), name, err);
    out->width = (int)header.width;
    out->height = (int)header.height;
    SWD_TRY(swd_malloc(&out->rgb, bytes, 1, "a picture", err), err);
    TRY_PNG(spng_decode_image(ctx, out->rgb, bytes, SPNG_FMT_RGB8, 0), name, err);
    return take_comment(&out->comment, ctx, name, err);
}

swd_status png_decode(image_rgb8 *out, const uint8_t *data, size_t n, const char *name,
                      swd_err *err)
{
    *out = (image_rgb8){0};
    spng_ctx *ctx = spng_ctx_new(0);
    if (!ctx) return SWD_FAIL(err, SWD_ERR_MEMORY, "out of memory for a PNG decoder");
    image_rgb8 image = {0};
    swd_status s = read_all(&image, ctx, data, n, name, err);
    spng_ctx_free(ctx);
    if (s == SWD_OK)
        *out = image;
    else
        image_free(&image);
    return s;
}

static bool is_ascii(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s >= 0x80) return false;
    return true;
}

static int write_all(spng_ctx *ctx, const uint8_t *rgb, int width, int height, char *comment)
{
    struct spng_ihdr header = {.width = (uint32_t)width,
                               .height = (uint32_t)height,
                               .bit_depth = 8,
                               .color_type = SPNG_COLOR_TYPE_TRUECOLOR};
    int code = spng_set_option(ctx, SPNG_ENCODE_TO_BUFFER, 1);
    if (!code) code = spng_set_ihdr(ctx, &header);
    char empty[1] = "";
    struct spng_text text = {
        .type = SPNG_TEXT, .text = comment, .language_tag = empty, .translated_keyword = empty};
    if (!code && comment) { // libspng keeps the pointer to text until the picture is encoded
        memcpy(text.keyword, keyword, sizeof(keyword));
        text.length = strlen(comment);
        if (!is_ascii(comment)) text.type = SPNG_ITXT;
        code = spng_set_text(ctx, &text, 1);
    }
    if (!code)
        code = spng_encode_image(ctx, rgb, (size_t)width * (size_t)height * 3, SPNG_FMT_PNG,
                                 SPNG_ENCODE_FINALIZE);
    return code;
}

swd_status png_encode(uint8_t **out, size_t *n, const uint8_t *rgb, int width, int height,
                      const char *comment, swd_err *err)
{
    *out = NULL;
    *n = 0;
    char *text = NULL; // libspng's text is not const
    if (comment && *comment) SWD_TRY(swd_strdup(&text, comment, err), err);
    spng_ctx *ctx = spng_ctx_new(SPNG_CTX_ENCODER);
    int code = ctx ? write_all(ctx, rgb, width, height, text) : SPNG_EMEM;
    if (!code) *out = spng_get_png_buffer(ctx, n, &code);
    spng_ctx_free(ctx);
    free(text);
    if (code || !*out)
        return SWD_FAIL(err, code == SPNG_EMEM ? SWD_ERR_MEMORY : SWD_ERR_ARGUMENT,
                        "the PNG encoder failed: %s", spng_strerror(code));
    return SWD_OK;
}
