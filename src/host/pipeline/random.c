// SPDX-License-Identifier: MIT
#include "pipeline/random.h"
#include "base/memory.h"
#include "weights/shapes.h"
#include "weights/synthetic.h"
#include <stdio.h>
#include <string.h>

enum { PROMPT_TOKENS = 12, TOKEN_STRIDE = 37 };

static void add_component(config_model_index *index, const char *name, const char *library,
                          const char *class_name)
{
    config_component *c = &index->components[index->n_components++];
    snprintf(c->name, sizeof c->name, "%s", name);
    snprintf(c->library, sizeof c->library, "%s", library);
    snprintf(c->class_name, sizeof c->class_name, "%s", class_name);
}

swd_status random_open(pipeline *p, int n_loras, swd_err *err)
{
    const model_shape *m = p->random;
    SWD_TRY(swd_asprintf(&p->dir, err, "random %s", m->name), err);
    if (n_loras)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "model %s: adapters need a model folder", p->dir);
    p->has_index = true;
    p->family = family_of(m->transformer.kind);
    snprintf(p->index.class_name, sizeof p->index.class_name, "%s", p->family->pipeline_class);
    add_component(&p->index, "transformer", "diffusers", denoiser_class_name(m->transformer.kind));
    add_component(&p->index, "vae", "diffusers", "AutoencoderKL");
    for (int i = 0; i < FAMILY_ENCODERS; i++)
        if (p->family->encoder[i].folder)
            add_component(&p->index, p->family->encoder[i].folder, "transformers",
                          i == FAMILY_T5              ? "T5EncoderModel"
                          : p->family->clip_projected ? "CLIPTextModelWithProjection"
                                                      : "CLIPTextModel");
    p->transformer_config = m->transformer;
    p->scheduler_config = m->scheduler;
    p->facts = denoiser_facts_of(&p->transformer_config);
    p->transformer_read = true;
    p->vae_config = m->vae;
    p->t5_config = m->t5;
    for (int i = 0; i < 2; i++) p->clip_config[i] = m->clip[i];
    return SWD_OK;
}

swd_status random_weights(weights **out, const pipeline *p, const char *folder, swd_err *err)
{
    const model_shape *m = p->random;
    tensor_list list = {0};
    swd_status s = SWD_OK;
    *out = NULL;
    if (strcmp(folder, "transformer") == 0)
        s = tensors_transformer(&list, &m->transformer, err);
    else if (strcmp(folder, "vae") == 0)
        s = tensors_vae(&list, &m->vae, err);
    else if (strcmp(folder, p->family->encoder[FAMILY_T5].folder) == 0)
        s = tensors_t5(&list, &m->t5, err);
    else
        s = tensors_clip(&list, &m->clip[strcmp(folder, "text_encoder") != 0], err);
    if (s != SWD_OK) {
        free(list.at);
        return swd_err_frame(err, s, __FILE__, __LINE__, __func__);
    }
    char name[CONFIG_NAME_MAX * 2];
    snprintf(name, sizeof name, "%s/%s", p->dir, folder);
    return weights_open_synthetic(out, &list, name, err);
}

// CLIP's pooled row is that of the end token; its published configurations say 2 and mean the largest id.
void random_ids(int32_t *ids, int n, int i, const pipeline *p)
{
    const config_clip_text *c = &p->clip_config[i == 1];
    bool clip = i < 2, by_size = c->eos_token_id == 2;
    int vocabulary = clip ? c->vocab_size : p->t5_config.vocab_size,
        end = !clip     ? p->t5_config.eos_token_id
              : by_size ? vocabulary - 1
                        : c->eos_token_id,
        pad = clip ? c->pad_token_id : p->t5_config.pad_token_id,
        stop = n < PROMPT_TOKENS ? n - 1 : PROMPT_TOKENS;
    for (int k = 0; k < n; k++) ids[k] = k < stop ? 3 + TOKEN_STRIDE * (k + 1) : pad;
    if (clip && n > 1) ids[0] = by_size ? vocabulary - 2 : c->bos_token_id;
    if (n > 0) ids[stop] = end;
}
