// SPDX-License-Identifier: MIT
#include "image/markup.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

swd_status markup_begin(markup *m, swd_err *err)
{
    *m = (markup){0};
    m->mine = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    m->f = m->mine ? open_memstream(&m->text, &m->n) : NULL;
    if (!m->f) {
        if (m->mine) freelocale(m->mine);
        return SWD_FAIL(err, SWD_ERR_MEMORY, "out of memory for a text");
    }
    m->before = uselocale(m->mine);
    return SWD_OK;
}

swd_status markup_end(markup *m, char **text, size_t *n, swd_err *err)
{
    bool failed = ferror(m->f) != 0;
    failed = fclose(m->f) != 0 || failed;
    uselocale(m->before);
    freelocale(m->mine);
    if (failed || !text) {
        free(m->text);
        if (text) *text = NULL;
        return failed ? SWD_FAIL(err, SWD_ERR_MEMORY, "out of memory for a text") : SWD_OK;
    }
    *text = m->text;
    if (n) *n = m->n;
    return SWD_OK;
}

void markup_text(markup *m, const char *s)
{
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)s;
    for (utf8proc_ssize_t left = s ? (utf8proc_ssize_t)strlen(s) : 0; left > 0;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate(p, left, &c);
        if (n <= 0) n = 1, c = 0;
        const char *entity = c == '&'    ? "&amp;"
                             : c == '<'  ? "&lt;"
                             : c == '>'  ? "&gt;"
                             : c == '"'  ? "&quot;"
                             : c == '\'' ? "&#39;"
                                         : NULL;
        // XML 1.0 forbids C0 controls and the two non-characters even as entities.
        if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xfffe || c == 0xffff) entity = "?";
        if (entity)
            fputs(entity, m->f);
        else
            fwrite(p, 1, (size_t)n, m->f);
        p += n;
        left -= n;
    }
}

void markup_data_uri(markup *m, const char *media_type, const unsigned char *data, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    fprintf(m->f, "data:%s;base64,", media_type);
    for (size_t i = 0; i < n; i += 3) {
        size_t have = n - i < 3 ? n - i : 3;
        unsigned v = (unsigned)data[i] << 16;
        if (have > 1) v |= (unsigned)data[i + 1] << 8;
        if (have > 2) v |= data[i + 2];
        fputc(digit[v >> 18], m->f);
        fputc(digit[v >> 12 & 63], m->f);
        fputc(have > 1 ? digit[v >> 6 & 63] : '=', m->f);
        fputc(have > 2 ? digit[v & 63] : '=', m->f);
    }
}

int markup_width(const char *s)
{
    int n = 0;
    for (; s && *s; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}
