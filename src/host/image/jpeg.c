// SPDX-License-Identifier: MIT
#include "image/jpeg.h"
#include "base/memory.h"
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

enum { SCANS_MAX = 500 }; // of a progressive file: each costs a pass over the picture

// libjpeg reports failure by a callback that must not return: it jumps to the function that called setjmp. That function keeps nothing
// in locals; all state is here, in its caller's frame.
typedef struct jpeg_state {
    struct jpeg_error_mgr errors; // first: cinfo->err points here
    jmp_buf escape;
    char message[JMSG_LENGTH_MAX];
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct reader;
    struct jpeg_compress_struct writer;
    const uint8_t *in;
    size_t n_in;
    const char *name, *comment;
    image_rgb8 image;
    const uint8_t *rgb;
    unsigned char *out;
    unsigned long n_out;
    swd_status status;
    swd_err *err;
} jpeg_state;

static void on_error(j_common_ptr c)
{
    jpeg_state *j = (jpeg_state *)(void *)c->err;
    c->err->format_message(c, j->message);
    longjmp(j->escape, 1);
}

// A warning means that data is damaged and grey or noise comes out instead; some are about nothing that matters.
static void on_message(j_common_ptr c, int level)
{
    int code = c->err->msg_code;
    if (level < 0 && code != JWRN_EXTRANEOUS_DATA && code != JWRN_ADOBE_XFORM &&
        code != JWRN_JFIF_MAJOR)
        on_error(c);
}

static void on_progress(j_common_ptr c)
{
    j_decompress_ptr d = (j_decompress_ptr)c;
    if (d->input_scan_number <= SCANS_MAX) return;
    jpeg_state *j = (jpeg_state *)(void *)c->err;
    snprintf(j->message, sizeof(j->message), "more than %d scans", SCANS_MAX);
    longjmp(j->escape, 1);
}

static void set_error_handlers(jpeg_state *j)
{
    jpeg_std_error(&j->errors);
    j->errors.error_exit = on_error;
    j->errors.emit_message = on_message;
}

static swd_status take_comment(jpeg_state *j)
{
    for (jpeg_saved_marker_ptr m = j->reader.marker_list; m; m = m->next) {
        if (m->marker != JPEG_COM) continue;
        SWD_TRY(
            swd_calloc(&j->image.comment, m->data_length + 1u, 1, "a picture's comment", j->err),
            j->err);
        memcpy(j->image.comment, m->data, m->data_length);
        return SWD_OK;
    }
    return SWD_OK;
}

static swd_status read_all(jpeg_state *j)
{
    j_decompress_ptr d = &j->reader;
    jpeg_create_decompress(d);
    d->progress = &j->progress;
    j->progress.progress_monitor = on_progress;
    jpeg_mem_src(d, j->in, (unsigned long)j->n_in);
    jpeg_save_markers(d, JPEG_COM, 0xffff);
    jpeg_read_header(d, TRUE);
    SWD_TRY(image_check_size(d->image_width, d->image_height, j->name, SWD_ERR_FILE, j->err),
            j->err);
    if (d->jpeg_color_space == JCS_CMYK || d->jpeg_color_space == JCS_YCCK)
        return SWD_FAIL(j->err, SWD_ERR_FILE, "%s: a CMYK picture; convert it to RGB", j->name);
    d->out_color_space = JCS_RGB;
    jpeg_start_decompress(d);
    j->image.width = (int)d->output_width;
    j->image.height = (int)d->output_height;
    size_t row_bytes = (size_t)d->output_width * 3;
    SWD_TRY(swd_malloc(&j->image.rgb, d->output_height, row_bytes, "a picture", j->err), j->err);
    while (d->output_scanline < d->output_height) {
        JSAMPROW row = j->image.rgb + d->output_scanline * row_bytes;
        jpeg_read_scanlines(d, &row, 1);
    }
    SWD_TRY(take_comment(j), j->err); // finishing forgets it
    jpeg_finish_decompress(d);
    return SWD_OK;
}

static void read_guarded(jpeg_state *j)
{
    if (setjmp(j->escape))
        j->status = SWD_FAIL(j->err, SWD_ERR_FILE, "%s: not a sound JPEG: %s", j->name, j->message);
    else
        j->status = read_all(j);
}

swd_status jpeg_decode(image_rgb8 *out, const uint8_t *data, size_t n, const char *name,
                       swd_err *err)
{
    jpeg_state j = {.in = data, .n_in = n, .name = name, .err = err};
    *out = (image_rgb8){0};
    if (n == 0) return SWD_FAIL(err, SWD_ERR_FILE, "%s: the file is empty", name);
    set_error_handlers(&j);
    j.reader.err = &j.errors;
    read_guarded(&j);
    jpeg_destroy_decompress(&j.reader);
    if (j.status == SWD_OK)
        *out = j.image;
    else
        image_free(&j.image);
    return j.status;
}

// Length of comment, cut to what a segment holds, not inside a character.
static unsigned comment_length(const char *comment)
{
    size_t n = strlen(comment);
    if (n <= JPEG_COMMENT_BYTES_MAX) return (unsigned)n;
    n = JPEG_COMMENT_BYTES_MAX;
    while (n > 0 && ((unsigned char)comment[n] & 0xc0) == 0x80) n--;
    return (unsigned)n;
}

static void write_all(jpeg_state *j)
{
    j_compress_ptr c = &j->writer;
    jpeg_create_compress(c);
    jpeg_mem_dest(c, &j->out, &j->n_out);
    c->image_width = (JDIMENSION)j->image.width;
    c->image_height = (JDIMENSION)j->image.height;
    c->input_components = 3;
    c->in_color_space = JCS_RGB;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, JPEG_QUALITY, TRUE);
    c->dct_method = JDCT_ISLOW;
    c->optimize_coding = TRUE;
    for (int i = 0; i < c->num_components; i++)
        c->comp_info[i].h_samp_factor = c->comp_info[i].v_samp_factor = 1;
    jpeg_start_compress(c, TRUE);
    if (j->comment)
        jpeg_write_marker(c, JPEG_COM, (const JOCTET *)j->comment, comment_length(j->comment));
    while (c->next_scanline < c->image_height) {
        JSAMPROW row =
            (JSAMPROW)(uintptr_t)(j->rgb + (size_t)c->next_scanline * c->image_width * 3);
        jpeg_write_scanlines(c, &row, 1);
    }
    jpeg_finish_compress(c);
}

static void write_guarded(jpeg_state *j)
{
    if (setjmp(j->escape)) {
        j->status = SWD_FAIL(j->err, SWD_ERR_MEMORY, "the JPEG encoder failed: %s", j->message);
    } else {
        write_all(j);
        j->status = SWD_OK;
    }
}

swd_status jpeg_encode(uint8_t **out, size_t *n, const uint8_t *rgb, int width, int height,
                       const char *comment, swd_err *err)
{
    jpeg_state j = {
        .rgb = rgb, .image = {.width = width, .height = height}, .comment = comment, .err = err};
    *out = NULL;
    *n = 0;
    set_error_handlers(&j);
    j.writer.err = &j.errors;
    write_guarded(&j);
    jpeg_destroy_compress(&j.writer);
    if (j.status != SWD_OK) {
        free(j.out);
        return j.status;
    }
    *out = j.out;
    *n = j.n_out;
    return SWD_OK;
}
