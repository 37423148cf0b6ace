// SPDX-License-Identifier: MIT
#include "make_dataset.h"
#include "commands.h"
#include "together.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char TITLES[] = "index,file_name,caption\n";

enum { LOOK_AHEAD = 256, NAME_MAX_BYTES = 1400 };

static int pictures(const make_dataset *m)
{
    return m->generate->n_prompts * m->generate->count;
}

/* The pattern is one of check_pattern(). */
static const char *picture_path(char buf[NAME_MAX_BYTES], const make_dataset *m, int i)
{
    const char *percent = strchr(m->pattern, '%');
    snprintf(buf, NAME_MAX_BYTES, percent[1] == '0' ? "%.*s%0*d%s" : "%.*s%*d%s",
             (int)(percent - m->pattern), m->pattern, atoi(percent + 1), i,
             strchr(percent, 'd') + 1);
    return buf;
}

static void put_quoted(FILE *f, const char *s)
{
    putc('"', f);
    for (; *s; s++) {
        if (*s == '"') putc('"', f);
        putc(*s, f);
    }
    putc('"', f);
}

/* A row in one write, so that no half of one is there after a kill. */
static bool put_row(FILE *f, const make_dataset *m, int i)
{
    char path[NAME_MAX_BYTES];
    const char *slash = strrchr(picture_path(path, m, i), '/');
    fprintf(f, "%d,", i);
    put_quoted(f, slash ? slash + 1 : path);
    putc(',', f);
    put_quoted(f, m->generate->prompts[i / m->generate->count]);
    putc('\n', f);
    return fflush(f) == 0;
}

static bool is_there(const make_dataset *m, int i)
{
    char path[NAME_MAX_BYTES];
    return access(picture_path(path, m, i), F_OK) == 0;
}

/* Rows that an earlier call has left must be what this one would write: else old pictures would get new captions. text is of m's
 * metainfo.csv. */
static bool rows_agree(const make_dataset *m, const char *text, size_t n)
{
    size_t at = strlen(TITLES);
    bool ok = n >= at && memcmp(text, TITLES, at) == 0;
    while (ok && at < n) {
        char *row = NULL, *end;
        size_t length = 0;
        long i = strtol(text + at, &end, 10);
        FILE *f = i >= 0 && i < pictures(m) ? open_memstream(&row, &length) : NULL;
        ok = f && put_row(f, m, (int)i);
        if (f) fclose(f);
        ok = ok && length <= n - at && memcmp(row, text + at, length) == 0;
        free(row);
        at += length;
    }
    if (!ok)
        print_error(
            "--dataset %s: its metainfo.csv is of other prompts, counts or names, near byte "
            "%zu; give another folder",
            m->dir, at);
    return ok;
}

static bool check_csv(const make_dataset *m)
{
    char path[NAME_MAX_BYTES], *text = NULL;
    snprintf(path, sizeof(path), "%s/metainfo.csv", m->dir);
    FILE *f = fopen(path, "rb");
    if (!f) return true; /* the first call */
    size_t n = 0;
    bool ok = read_all(&text, &n, f);
    if (!ok) print_error("%s: %s", path, strerror(errno));
    fclose(f);
    ok = ok && rows_agree(m, text, n);
    free(text);
    return ok;
}

/* The whole of metainfo.csv beside itself, then renamed; *out is open for more rows. */
static bool write_csv(make_dataset *m)
{
    char path[NAME_MAX_BYTES], part[NAME_MAX_BYTES];
    snprintf(path, sizeof(path), "%s/metainfo.csv", m->dir);
    snprintf(part, sizeof(part), "%s/metainfo.csv.part", m->dir);
    if (m->csv) fclose(m->csv);
    m->csv = fopen(part, "wb");
    if (m->csv) setvbuf(m->csv, NULL, _IOFBF, 1 << 20);
    bool ok = m->csv && fputs(TITLES, m->csv) >= 0;
    for (int i = 0; ok && i < pictures(m); i++) {
        m->listed[i] = is_there(m, i);
        ok = !m->listed[i] || put_row(m->csv, m, i);
    }
    ok = ok && fflush(m->csv) == 0 && rename(part, path) == 0;
    if (!ok) print_error("%s: cannot be written: %s", path, strerror(errno));
    return ok;
}

/* One %d, with two digits at most between, as swd_generate wants it; %% is left out. */
static bool check_pattern(const char *name)
{
    const char *percent = strchr(name, '%');
    size_t digits = percent ? strspn(percent + 1, "0123456789") : 0;
    bool one = percent && digits <= 2 && percent[1 + digits] == 'd' && !strchr(percent + 1, '%');
    if (one && !strchr(name, '/')) return true;
    print_error("--output %s: with --dataset it is a pattern like %%06d.png, in that folder", name);
    return false;
}

static bool check_call(const make_dataset *m, const char *name)
{
    if (!check_pattern(name)) return false;
    if (!*m->dir || strchr(m->dir, '%') || strlen(m->dir) + strlen(name) > 1000) {
        print_error("--dataset %.60s: a shorter path without %% is needed", m->dir);
        return false;
    }
    if (m->generate->save_latents) {
        print_error("--dataset goes on where it was left; --save-latents cannot");
        return false;
    }
    return true;
}

int make_dataset_begin(make_dataset *m, const char *dir, const char *name, swd_generate_params *g)
{
    *m = (make_dataset){.dir = dir, .generate = g};
    if (!name) name = "%06d.jpg";
    if (!check_call(m, name)) return EXIT_USAGE;
    if (together_speaks() && mkdir(dir, 0777) != 0 && errno != EEXIST) {
        print_error("--dataset %s: cannot be made: %s", dir, strerror(errno));
        return EXIT_FAILED;
    }
    snprintf(m->pattern, sizeof(m->pattern), "%s/%s", dir, name);
    g->output = m->pattern;
    g->resume = 1;
    if (!together_speaks()) return EXIT_DONE; /* process 0 keeps the list of all */
    m->listed = calloc((size_t)pictures(m) + 1, sizeof(*m->listed));
    if (!m->listed) print_error("out of memory");
    return m->listed && check_csv(m) && write_csv(m) ? EXIT_DONE : EXIT_FAILED;
}

void make_dataset_tick(void *user)
{
    make_dataset *m = user;
    if (!m->csv) return;
    int n = pictures(m);
    while (m->next < n && m->listed[m->next]) m->next++;
    for (int i = m->next; i < n && i < m->next + LOOK_AHEAD; i++)
        if (!m->listed[i] && is_there(m, i)) m->listed[i] = put_row(m->csv, m, i);
}

bool make_dataset_end(make_dataset *m)
{
    if (!together_speaks()) return true;
    bool ok = m->csv && write_csv(m);
    if (m->csv && fclose(m->csv) != 0 && ok) {
        print_error("%s/metainfo.csv: cannot be written: %s", m->dir, strerror(errno));
        ok = false;
    }
    free(m->listed);
    *m = (make_dataset){0};
    return ok;
}
