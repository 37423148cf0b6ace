// SPDX-License-Identifier: MIT
#include "pipeline/output.h"
#include "base/memory.h"
#include "image/image.h"
#include "io/safetensors_write.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names ---- */

/* path with its directive filled in; *directives counts them. False if it is no pattern: a lone %, or another directive. */
static bool expand(char *out, size_t size, const char *path, int number, int *directives)
{
    size_t n = 0;
    *directives = 0;
    for (const char *p = path; *p && n < size; p++) {
        if (*p != '%' || p[1] == '%') {
            out[n++] = *p;
            p += *p == '%';
            continue;
        }
        size_t digits = strspn(p + 1, "0123456789");
        if (digits > 2 || p[1 + digits] != 'd') return false;
        int width = atoi(p + 1);
        n += (size_t)snprintf(out + n, size - n, p[1] == '0' ? "%0*d" : "%*d", width, number);
        p += 1 + digits;
        ++*directives;
    }
    if (n >= size) return false;
    out[n] = '\0';
    return true;
}

static swd_status check_place(const char *name, swd_err *err)
{
    char *dir = NULL;
    SWD_TRY(swd_strdup(&dir, name, err), err);
    char *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = '\0';
    const char *folder = slash ? dir : ".";
    struct stat st;
    bool device = stat(name, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
    swd_status s = SWD_OK;
    if (!path_is_dir(folder))
        s = SWD_FAIL(err, SWD_ERR_FILE, "output %s: there is no folder %s; make it first", name,
                     folder);
    else if (!device && access(folder, W_OK) != 0) /* even an old file is replaced by a new one */
        s = SWD_FAIL(err, SWD_ERR_FILE, "output %s: the folder %s cannot be written to: %s", name,
                     folder, strerror(errno));
    else if (path_is_dir(name))
        s = SWD_FAIL(err, SWD_ERR_FILE, "output %s: a folder lies there; give another name", name);
    free(dir);
    return s;
}

swd_status output_check(const char *path, int n, swd_err *err)
{
    char name[PATH_MAX];
    int directives;
    if (!image_format_of(path))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "output %s: the suffix selects the format; use .jpg, .jpeg or .png", path);
    if (strlen(path) > sizeof(name) / 2)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "output %.60s...: too long", path);
    if (!expand(name, sizeof(name), path, 0, &directives) || directives > 1)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "output %s: a pattern has one %%d (or %%04d); %%%% stands for %%", path);
    for (int i = 0; i < n; i++) {
        char *at = NULL;
        SWD_TRY(output_name(&at, path, i, n, err), err);
        swd_status s = check_place(at, err);
        free(at);
        SWD_TRY(s, err);
    }
    return SWD_OK;
}

swd_status output_name(char **out, const char *path, int i, int n, swd_err *err)
{
    char name[PATH_MAX];
    int directives;
    if (!expand(name, sizeof(name), path, i, &directives))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "output %.60s: no pattern", path);
    if (n < 2 || directives) return swd_strdup(out, name, err);
    const char *dot = strrchr(name, '.');
    size_t stem = dot ? (size_t)(dot - name) : strlen(name);
    return swd_asprintf(out, err, "%.*s-%04d%s", (int)stem, name, i, name + stem);
}

/* ---- pictures ---- */

swd_status output_write(const char *path, const uint8_t *rgb, int width, int height,
                        const char *comment, swd_err *err)
{
    return image_write(path, rgb, width, height, comment, err);
}

swd_status output_comment(char **out, const char *prompt, uint64_t seed, const request_plan *plan,
                          const char *model_dir, swd_err *err)
{
    char schedule[4096];
    size_t n = 0;
    int shown = plan->sampler == SWD_SAMPLER_SCALEWISE ? plan->n_steps : 0;
    n += (size_t)snprintf(schedule, sizeof(schedule), "%s", plan->preset);
    for (int k = 0; k < shown && n < sizeof(schedule) - 64; k++)
        n += (size_t)snprintf(schedule + n, sizeof(schedule) - n, "%s%dx%d@%.6g", k ? " " : " (",
                              plan->steps[k].width, plan->steps[k].height, plan->sigmas[k]);
    if (shown)
        snprintf(schedule + n, sizeof(schedule) - n, ")");
    else
        snprintf(schedule + n, sizeof(schedule) - n, " (%d steps, guidance %g, shift %g)",
                 plan->n_steps, plan->guidance, plan->shift);
    size_t end = strlen(model_dir);
    while (end > 1 && model_dir[end - 1] == '/') end--;
    size_t from = end;
    while (from > 0 && model_dir[from - 1] != '/') from--;
    return swd_asprintf(out, err,
                        "%s\nSeed: %llu, Size: %dx%d, Model: %.*s, Schedule: %s, Version: swd %s",
                        prompt, (unsigned long long)seed, plan->width, plan->height,
                        (int)(end - from), model_dir + from, schedule, SWD_VERSION);
}

/* ---- latents ---- */

static swd_status cannot_write(const char *path, swd_err *err)
{
    return SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be written: %s", path, strerror(errno));
}

swd_status latent_log_create(latent_log *l, const request_plan *plan, const char *path,
                             swd_err *err)
{
    *l = (latent_log){.path = path, .fd = -1, .n_steps = plan->n_steps, .n_images = plan->n_images};
    int64_t at = 0;
    for (int k = 0; k < l->n_steps; k++) {
        l->per_image[k] = (int64_t)plan->channels * plan->steps[k].height * plan->steps[k].width;
        l->first[k] = at;
        at += l->per_image[k] * l->n_images;
    }
    if (path_is_dir(path)) {
        errno = EISDIR;
        return cannot_write(path, err);
    }
    char *name = NULL;
    SWD_TRY(swd_asprintf(&name, err, "%s.tmpXXXXXX", path), err);
    l->fd = mkostemp(name, O_CLOEXEC);
    if (l->fd >= 0) unlink(name);
    free(name);
    return l->fd < 0 ? cannot_write(path, err) : SWD_OK;
}

swd_status latent_log_put(const latent_log *l, int k, int first, int n, const float *x0,
                          swd_err *err)
{
    const char *p = (const char *)x0;
    size_t left = (size_t)(n * l->per_image[k]) * sizeof(float);
    off_t at = (off_t)((l->first[k] + first * l->per_image[k]) * (int64_t)sizeof(float));
    while (left > 0) {
        ssize_t done = pwrite(l->fd, p, left, at);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return cannot_write(l->path, err);
        p += done;
        at += done;
        left -= (size_t)done;
    }
    return SWD_OK;
}

/* A tensor of the file to come, read back. */
typedef struct piece {
    const latent_log *l;
    int step;
    bool *failed;
} piece;

static void read_back(void *ctx, void *to, int64_t first, int64_t n)
{
    const piece *t = ctx;
    size_t bytes = (size_t)n * sizeof(float);
    off_t at = (off_t)((t->l->first[t->step] + first) * (int64_t)sizeof(float));
    for (size_t got = 0; got < bytes;) {
        ssize_t done = pread(t->l->fd, (char *)to + got, bytes - got, at + (off_t)got);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            memset((char *)to + got, 0, bytes - got);
            *t->failed = true;
            return;
        }
        got += (size_t)done;
    }
}

swd_status latent_log_write(const latent_log *l, const request_plan *plan, swd_err *err)
{
    st_write_tensor t[SWD_STEPS_MAX + 1];
    piece pieces[SWD_STEPS_MAX];
    char name[SWD_STEPS_MAX][16];
    bool failed = false;
    for (int k = 0; k < l->n_steps; k++) {
        snprintf(name[k], sizeof(name[k]), "x0.%d", k);
        pieces[k] = (piece){l, k, &failed};
        t[k] = (st_write_tensor){
            .name = name[k],
            .dtype = SWD_F32,
            .ndim = 4,
            .fill = read_back,
            .ctx = &pieces[k],
            .shape = {l->n_images, plan->channels, plan->steps[k].height, plan->steps[k].width}};
    }
    t[l->n_steps] = t[l->n_steps - 1];
    t[l->n_steps].name = "latents";
    SWD_TRY(safetensors_write(l->path, t, l->n_steps + 1, NULL, 0, err), err);
    if (!failed) return SWD_OK;
    unlink(l->path); /* what was gathered could not be read again */
    return SWD_FAIL(err, SWD_ERR_FILE, "%s: its disk failed", l->path);
}

void latent_log_close(latent_log *l)
{
    if (l->path && l->fd >= 0) close(l->fd);
    *l = (latent_log){0};
}
