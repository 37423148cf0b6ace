// SPDX-License-Identifier: MIT
// Names without operators, which is nearly all of them, are compared directly. The rest is translated to a POSIX extended
// expression: with an anchor on both sides, greedy and lazy repetition accept the same names.
#include "weights/lora_pattern.h"
#include <ctype.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>

// Letters, digits, '_', '-' and '.', which matches any character.
static bool is_plain(const char *p)
{
    for (; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr("_-.", *p)) return false;
    }
    return true;
}

static bool match_plain(const char *pattern, const char *module, bool anchored)
{
    size_t n = strlen(pattern), m = strlen(module);
    if (m < n || (anchored && m != n)) return false;
    const char *tail = module + (m - n);
    for (size_t i = 0; i < n; i++) {
        if (pattern[i] != '.' && pattern[i] != tail[i]) return false;
    }
    return m == n || tail[-1] == '.';
}

// One escape of Python's syntax, *p behind the backslash. Appends at most 9 characters; false: not known.
static bool translate_escape(char *out, size_t *k, char c, bool in_bracket)
{
    const char *text = NULL;
    char literal[3] = {'\\', c, 0};
    if (in_bracket && c && strchr("]^-[", c)) return false;
    if (c == 'd')
        text = in_bracket ? "0-9" : "[0-9]";
    else if (c == 'w')
        text = in_bracket ? "A-Za-z0-9_" : "[A-Za-z0-9_]";
    else if (c && ispunct((unsigned char)c))
        text = in_bracket ? literal + 1 : literal;
    if (!text) return false;
    *k += (size_t)sprintf(out + *k, "%s", text);
    return true;
}

// out holds 16 bytes per byte of p, and more for the frame. false: a construct without a POSIX twin.
static bool translate(char *out, const char *p)
{
    size_t k = (size_t)sprintf(out, "^(.*\\.)?(");
    bool in_bracket = false;
    for (; *p; p++) {
        if (*p == '\\') {
            if (!translate_escape(out, &k, *++p, in_bracket)) return false;
            continue;
        }
        if (*p == '{') return false;
        if (in_bracket && *p == '[') return false;
        if (*p == '[') in_bracket = true;
        if (*p == ']') in_bracket = false;
        if (!in_bracket && *p == '(' && p[1] == '?') {
            if (p[2] != ':') return false;
            p += 2;
            out[k++] = '(';
            continue;
        }
        out[k++] = *p;
        if (!in_bracket && strchr("*+?", *p)) {
            if (p[1] == '?')
                p++; // lazy
            else if (p[1] == '+')
                return false; // possessive
        }
    }
    sprintf(out + k, ")$");
    return true;
}

swd_status lora_pattern_match(bool *out, const char *pattern, const char *module, const char *path,
                              const char *field, swd_err *err)
{
    *out = false;
    if (strlen(pattern) > LORA_PATTERN_BYTES_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\": a pattern is longer than %d bytes",
                        path, field, LORA_PATTERN_BYTES_MAX);
    bool anchored = pattern[0] == '^';
    if (is_plain(pattern + anchored)) {
        *out = match_plain(pattern + anchored, module, anchored);
        return SWD_OK;
    }
    char posix[LORA_PATTERN_BYTES_MAX * 16 + 32];
    regex_t re;
    if (!translate(posix, pattern) || regcomp(&re, posix, REG_EXTENDED | REG_NOSUB) != 0)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: field \"%s\": the pattern %s cannot be used",
                        path, field, pattern);
    *out = regexec(&re, module, 0, NULL, 0) == 0;
    regfree(&re);
    return SWD_OK;
}
