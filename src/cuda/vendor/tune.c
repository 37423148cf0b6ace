// SPDX-License-Identifier: MIT
#include "vendor/tune.h"
#include "base/memory.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char magic[] = "swd choices 1\n";

// FNV-1a.
static uint64_t checksum(uint64_t h, const char *s)
{
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return h;
}

static uint64_t checksum_of(const tune_table *t)
{
    uint64_t h = checksum(0xcbf29ce484222325u, t->identity);
    for (size_t i = 0; i < t->n; i++)
        h = checksum(checksum(h, t->lines[i].key), t->lines[i].choice);
    return h;
}

static swd_status append(tune_table *t, const char *key, const char *choice, swd_err *err)
{
    SWD_TRY(swd_grow(&t->lines, &t->capacity, t->n + 1, sizeof *t->lines, "choices", err), err);
    tune_line *l = &t->lines[t->n++];
    *l = (tune_line){0};
    snprintf(l->key, sizeof l->key, "%s", key);
    snprintf(l->choice, sizeof l->choice, "%s", choice);
    return SWD_OK;
}

/* ---- reading ---- */

// "key TAB choice" without the line end; false where it is not that.
static bool split(char *line, char **choice)
{
    char *tab = strchr(line, '\t');
    if (!tab || tab == line || !tab[1] || strchr(tab + 1, '\t')) return false;
    *tab = '\0';
    *choice = tab + 1;
    return strlen(line) < TUNE_TEXT_MAX && strlen(*choice) < TUNE_TEXT_MAX;
}

// What is wrong with the file; NULL: nothing.
static const char *read_lines(tune_table *t, FILE *f)
{
    char line[2 * TUNE_TEXT_MAX + 2], *choice;
    unsigned long long lines, sum;
    if (!fgets(line, sizeof line, f) || strcmp(line, magic) != 0) return "is no list of choices";
    if (!fgets(line, sizeof line, f) || !strchr(line, '\n')) return "is cut off";
    line[strcspn(line, "\n")] = '\0';
    if (strcmp(line, t->identity) != 0) return "is of another device";
    while (fgets(line, sizeof line, f)) {
        if (!strchr(line, '\n')) return "is cut off";
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "end %llu %llx", &lines, &sum) == 2)
            return lines == t->n && sum == checksum_of(t) ? NULL : "is damaged";
        if (t->n >= TUNE_LINES_MAX || !split(line, &choice)) return "is damaged";
        if (append(t, line, choice, NULL) != SWD_OK) return "is too large for the memory";
    }
    return "is cut off";
}

/* ---- places ---- */

static bool make_folder(const char *path)
{
    return mkdir(path, 0777) == 0 || errno == EEXIST;
}

// The folder, made where it is not there; false: there is none to be had.
static bool cache_folder(char *out, size_t n)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char base[512];
    if (xdg && xdg[0] == '/')
        snprintf(base, sizeof base, "%s", xdg);
    else if (home && home[0] == '/')
        snprintf(base, sizeof base, "%s/.cache", home);
    else
        return false;
    return snprintf(out, n, "%s/swd", base) < (int)n && make_folder(base) && make_folder(out);
}

swd_status tune_open(tune_table *t, const char *identity, char *note, size_t note_bytes,
                     swd_err *err)
{
    char folder[600];
    *t = (tune_table){0};
    note[0] = '\0';
    snprintf(t->identity, sizeof t->identity, "%s", identity);
    for (char *p = t->identity; *p; p++)
        if (*p == '\n' || *p == '\t') *p = ' ';
    if (!cache_folder(folder, sizeof folder)) {
        snprintf(note, note_bytes, "no folder for choices: set XDG_CACHE_HOME or HOME");
        return SWD_OK;
    }
    SWD_TRY(swd_asprintf(&t->path, err, "%s/choices-%016llx.txt", folder,
                         (unsigned long long)checksum_of(t)),
            err);
    FILE *f = fopen(t->path, "r");
    if (!f) return SWD_OK;
    const char *wrong = read_lines(t, f);
    (void)fclose(f);
    if (!wrong) return SWD_OK;
    t->n = 0;
    snprintf(note, note_bytes, "%s %s: not used", t->path, wrong);
    return SWD_OK;
}

void tune_close(tune_table *t)
{
    free(t->path);
    free(t->lines);
    *t = (tune_table){0};
}

/* ---- use ---- */

const char *tune_find(const tune_table *t, const char *key)
{
    for (size_t i = 0; i < t->n; i++)
        if (strcmp(t->lines[i].key, key) == 0) return t->lines[i].choice;
    return NULL;
}

static bool write_lines(const tune_table *t, FILE *f)
{
    bool good = fprintf(f, "%s%s\n", magic, t->identity) > 0;
    for (size_t i = 0; good && i < t->n; i++)
        good = fprintf(f, "%s\t%s\n", t->lines[i].key, t->lines[i].choice) > 0;
    return good && fprintf(f, "end %zu %llx\n", t->n, (unsigned long long)checksum_of(t)) > 0;
}

static bool write_file(const tune_table *t)
{
    char temporary[800];
    if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", t->path) >= (int)sizeof temporary)
        return false;
    int fd = mkstemp(temporary);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!f) {
        if (fd >= 0) (void)close(fd), (void)unlink(temporary);
        return false;
    }
    bool good = write_lines(t, f);
    if (fclose(f) != 0) good = false;
    if (good && rename(temporary, t->path) == 0) return true;
    (void)unlink(temporary);
    return false;
}

swd_status tune_add(tune_table *t, const char *key, const char *choice, char *note,
                    size_t note_bytes, swd_err *err)
{
    note[0] = '\0';
    SWD_TRY(append(t, key, choice, err), err);
    if (t->path && !write_file(t)) snprintf(note, note_bytes, "%s: not written: %m", t->path);
    return SWD_OK;
}
