// SPDX-License-Identifier: MIT
#include "pipeline/output.h"
#include "base/memory.h"
#include "image/image.h"
#include "io/safetensors.h"
#include <stdio.h>
#include <string.h>

/* The %d of a pattern: *start and *length of the directive; false if there is none. */
static bool find_directive(const char *path, size_t *start, size_t *length)
{
    const char *percent = strchr(path, '%');
    if (!percent) return false;
    const char *p = percent + 1;
    size_t digits = strspn(p, "0123456789");
    if (p[digits] != 'd' || digits > 2) return false;
    *start = (size_t)(percent - path);
    *length = digits + 2;
    return true;
}

swd_status output_check(const char *path, swd_err *err)
{
    if (!image_format_of(path))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "output %s: the suffix selects the format; use .jpg, .jpeg or .png", path);
    size_t start, length;
    bool pattern = find_directive(path, &start, &length);
    if ((strchr(path, '%') && !pattern) || (pattern && strchr(path + start + length, '%')))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "output %s: a pattern has one %%d (or %%04d) and no other %%", path);
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return SWD_OK;
    char *dir = NULL;
    SWD_TRY(swd_strdup(&dir, path, err), err);
    dir[slash - path] = '\0';
    swd_status s = SWD_OK;
    if (!path_is_dir(dir) && !strchr(dir, '%'))
        s = SWD_FAIL(err, SWD_ERR_FILE, "output %s: there is no folder %s; make it first", path,
                     dir);
    free(dir);
    return s;
}

swd_status output_name(char **out, const char *path, int i, int n, swd_err *err)
{
    size_t start, length;
    if (find_directive(path, &start, &length)) {
        int width = length > 2 ? atoi(path + start + 1) : 0;
        bool zeros = path[start + 1] == '0';
        char number[128];
        snprintf(number, sizeof(number), zeros ? "%0*d" : "%*d", width, i);
        return swd_asprintf(out, err, "%.*s%s%s", (int)start, path, number, path + start + length);
    }
    if (n < 2) return swd_strdup(out, path, err);
    const char *dot = strrchr(path, '.');
    size_t stem = dot ? (size_t)(dot - path) : strlen(path);
    return swd_asprintf(out, err, "%.*s-%04d%s", (int)stem, path, i, path + stem);
}

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

swd_status latent_log_create(latent_log *l, const request_plan *plan, swd_err *err)
{
    *l = (latent_log){.n_steps = plan->n_steps, .n_images = plan->n_images};
    for (int k = 0; k < l->n_steps; k++) {
        l->per_image[k] = (int64_t)plan->channels * plan->steps[k].height * plan->steps[k].width;
        size_t numbers;
        if (!size_mul(&numbers, (size_t)l->per_image[k], (size_t)l->n_images))
            return SWD_FAIL(err, SWD_ERR_MEMORY, "the latents of %d images are too large to keep",
                            l->n_images);
        SWD_TRY(swd_malloc(&l->data[k], numbers, sizeof(float), "latents to save", err), err);
    }
    return SWD_OK;
}

swd_status latent_log_write(const latent_log *l, const request_plan *plan, const char *path,
                            swd_err *err)
{
    st_write_tensor t[SWD_STEPS_MAX + 1];
    char name[SWD_STEPS_MAX][16];
    for (int k = 0; k < l->n_steps; k++) {
        snprintf(name[k], sizeof(name[k]), "x0.%d", k);
        t[k] = (st_write_tensor){
            .name = name[k],
            .dtype = SWD_F32,
            .ndim = 4,
            .data = l->data[k],
            .shape = {l->n_images, plan->channels, plan->steps[k].height, plan->steps[k].width}};
    }
    t[l->n_steps] = t[l->n_steps - 1];
    t[l->n_steps].name = "latents";
    return safetensors_write(path, t, l->n_steps + 1, NULL, 0, err);
}

void latent_log_free(latent_log *l)
{
    for (int k = 0; k < SWD_STEPS_MAX; k++) free(l->data[k]);
    *l = (latent_log){0};
}
