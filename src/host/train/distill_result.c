// SPDX-License-Identifier: MIT
// What training gives: a PEFT adapter with swd.json, or, where all weights learnt, a model folder: the transformer anew, links to the rest.
#include "base/memory.h"
#include "image/image.h"
#include "io/mapping.h"
#include "io/safetensors_write.h"
#include "train/distill_parts.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char WEIGHTS[] = "diffusion_pytorch_model";

static swd_status write_file(const char *folder, const char *name, const void *data, size_t n,
                             swd_err *err)
{
    char *path;
    SWD_TRY(path_join(&path, folder, name, err), err);
    swd_status s = image_write_bytes(path, data, n, err);
    free(path);
    return s;
}

/* The averaged weights on the host, or *values = NULL where there are none. */
static swd_status averaged(float **values, const distill_task *t, swd_err *err)
{
    optimizer_state s = optimizer_state_of(t->learner[LEARNER_STUDENT].o);
    swd_backend *be = t->setup.be;
    *values = NULL;
    if (!tensor_present(s.ema)) return SWD_OK;
    SWD_TRY(swd_malloc(values, (size_t)tensor_numel(s.ema), sizeof **values, "weights", err), err);
    SWD_TRY(be->download(be, *values, s.ema, NULL, err), err);
    return be->synchronize(be, NULL, err);
}

/* ---- all weights ---- */

static const param *find_param(const params *p, const char *name)
{
    for (int i = 0; i < params_count(p); i++)
        if (strcmp(params_at(p, i)->name, name) == 0) return params_at(p, i);
    return NULL;
}

/* Every tensor of the old files under its name: what was learnt in float32, what was not as it is. */
static swd_status list_weights(st_write_tensor *w, const safetensors *old, const distill_task *t,
                               const float *values, swd_err *err)
{
    const params *p = t->learner[LEARNER_STUDENT].p;
    const float *base = params_values(p).data; /* places in it, whatever memory it is */
    int learnt = 0;
    for (int i = 0; i < safetensors_count(old); i++) {
        const st_tensor *from = safetensors_at(old, i);
        const param *own = find_param(p, from->name);
        if (from->dtype == SWD_N_DTYPES && !own)
            return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: %s cannot be written again", from->name,
                            from->dtype_text);
        w[i] = (st_write_tensor){.name = from->name,
                                 .dtype = own ? SWD_F32 : from->dtype,
                                 .ndim = from->ndim,
                                 .data = from->data};
        memcpy(w[i].shape, from->shape, sizeof from->shape);
        if (!own) continue;
        w[i].data = values + ((const float *)own->value.data - base);
        learnt++;
    }
    return learnt == params_count(p)
               ? SWD_OK
               : SWD_FAIL(err, SWD_ERR_FILE,
                          "%s: its tensors are not those that learnt; did the "
                          "files change?",
                          t->setup.transformer);
}

static swd_status write_weights(const char *folder, const distill_task *t, const float *values,
                                swd_err *err)
{
    safetensors *old = NULL;
    st_write_tensor *w = NULL;
    char *path = NULL;
    SWD_TRY(safetensors_open(&old, t->setup.transformer, WEIGHTS, err), err);
    int n = safetensors_count(old);
    swd_status s = swd_calloc(&w, (size_t)n, sizeof *w, "a list of tensors", err);
    if (s == SWD_OK) s = list_weights(w, old, t, values, err);
    if (s == SWD_OK) s = swd_asprintf(&path, err, "%s/%s.safetensors", folder, WEIGHTS);
    if (s == SWD_OK) s = safetensors_write(path, w, n, &(st_metadata){"format", "pt"}, 1, err);
    free(path);
    free(w);
    safetensors_close(&old);
    return s;
}

static swd_status copy_config(const char *folder, const char *from, swd_err *err)
{
    char *path;
    swd_mapping m;
    SWD_TRY(path_join(&path, from, "config.json", err), err);
    swd_status s = mapping_open(&m, path, 0, err);
    free(path);
    SWD_TRY(s, err);
    s = write_file(folder, "config.json", m.data, m.size, err);
    mapping_close(&m);
    return s;
}

/* Links to all of the model's folder but what is written anew. */
static swd_status link_rest(const char *folder, const char *base, swd_err *err)
{
    char *full = realpath(base, NULL);
    DIR *d = full ? opendir(full) : NULL;
    swd_status s =
        d ? SWD_OK : SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be listed: %s", base, strerror(errno));
    for (struct dirent *e; s == SWD_OK && (e = readdir(d));) {
        char *to = NULL, *from = NULL;
        if (e->d_name[0] == '.' || strcmp(e->d_name, "transformer") == 0) continue;
        s = path_join(&to, folder, e->d_name, err);
        if (s == SWD_OK) s = path_join(&from, full, e->d_name, err);
        if (s == SWD_OK && symlink(from, to) != 0 && errno != EEXIST)
            s = SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be made: %s", to, strerror(errno));
        free(to);
        free(from);
    }
    if (d) closedir(d);
    free(full);
    return s;
}

static swd_status write_model(distill_task *t, const char *folder, const float *average,
                              swd_err *err)
{
    const params *p = t->learner[LEARNER_STUDENT].p;
    swd_backend *be = t->setup.be;
    char *transformer;
    float *own = NULL;
    SWD_TRY(path_join(&transformer, folder, "transformer", err), err);
    swd_status s =
        mkdir(transformer, 0777) == 0 || errno == EEXIST
            ? SWD_OK
            : SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be made: %s", transformer, strerror(errno));
    if (s == SWD_OK && !average) {
        swd_tensor all = params_values(p);
        s = swd_malloc(&own, (size_t)tensor_numel(all), sizeof *own, "weights", err);
        if (s == SWD_OK) s = be->download(be, own, all, NULL, err);
        if (s == SWD_OK) s = be->synchronize(be, NULL, err);
    }
    if (s == SWD_OK) s = write_weights(transformer, t, average ? average : own, err);
    if (s == SWD_OK) s = copy_config(transformer, t->setup.transformer, err);
    if (s == SWD_OK) s = link_rest(folder, t->setup.model, err);
    free(own);
    free(transformer);
    return s;
}

swd_status distill_result_write(distill_task *t, const char *folder, swd_err *err)
{
    float *average;
    const char *schedule = t->setup.schedule_json;
    swd_status s = averaged(&average, t, err);
    /* before the links: a swd.json of our own stands in place of the model's */
    if (s == SWD_OK && schedule)
        s = write_file(folder, "swd.json", schedule, strlen(schedule), err);
    if (s == SWD_OK)
        s = t->p->weights == SWD_TRAIN_WHOLE
                ? write_model(t, folder, average, err)
                : params_write_peft(t->learner[LEARNER_STUDENT].p, folder, &t->lora, t->setup.model,
                                    average, err);
    free(average);
    return s;
}
