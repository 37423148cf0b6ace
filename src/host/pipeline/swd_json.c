// SPDX-License-Identifier: MIT
#include "pipeline/swd_json.h"
#include "base/memory.h"
#include "sample/schedule.h"
#include <string.h>

const config_preset *swd_json_find(const config_swd *s, const char *name)
{
    for (int i = 0; s && i < s->n_presets; i++)
        if (strcmp(s->presets[i].name, name) == 0) return &s->presets[i];
    return NULL;
}

static swd_status check(const config_swd *s, const char *path, const config_swd *model,
                        swd_err *err)
{
    for (int i = 0; i < s->n_presets; i++) {
        const config_preset *p = &s->presets[i];
        swd_err why = {0};
        if (schedule_check(p->scales, p->n_steps, p->sigmas, p->n_sigmas, &why) != SWD_OK)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: preset \"%s\": %s", path, p->name, why.message);
    }
    const char *name = s->default_preset;
    if (name[0] && !swd_json_find(s, name) && !swd_json_find(model, name) && !schedule_find(name))
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: field \"default\": \"%s\" is neither one of its presets nor built in",
                        path, name);
    return SWD_OK;
}

swd_status swd_json_read(config_swd **out, const char *dir, const config_swd *model, swd_err *err)
{
    char *path = NULL;
    config_swd *c = NULL;
    swd_status s;
    *out = NULL;
    SWD_TRY(path_join(&path, dir, "swd.json", err), err);
    if (!path_exists(path)) {
        free(path);
        return SWD_OK;
    }
    SWD_TRY_GOTO(s, swd_calloc(&c, 1, sizeof *c, "schedules", err), err, done);
    SWD_TRY_GOTO(s, config_swd_read(c, path, err), err, done);
    SWD_TRY_GOTO(s, check(c, path, model, err), err, done);
    *out = c;
    c = NULL;
done:
    free(c);
    free(path);
    return s;
}
