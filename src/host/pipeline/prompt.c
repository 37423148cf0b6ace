// SPDX-License-Identifier: MIT
#include "pipeline/prompt.h"
#include "pipeline/random.h"
#include <string.h>

enum { CLIP_TOKENS_DEFAULT = 77 };

int prompt_clip_tokens(const pipeline *p)
{
    for (int i = 0; i < 2; i++) {
        int n = p->bpe[i]   ? clip_bpe_max_length(p->bpe[i])
                : p->random ? p->clip_config[i].max_position_embeddings
                            : 0;
        if (n > 0 && n <= SWD_TOKENS_MAX) return n;
    }
    return CLIP_TOKENS_DEFAULT;
}

int prompt_tokens(const pipeline *p, int max_tokens)
{
    return (p->family->clip_rows ? prompt_clip_tokens(p) : 0) + max_tokens;
}

swd_status prompt_tokenize(int32_t *ids, int *n, const char *prompt, int i, int max_tokens,
                           const pipeline *p, swd_err *err)
{
    size_t bytes = strlen(prompt);
    if (bytes > SWD_PROMPT_BYTES_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a prompt of %zu bytes; at most %d", bytes,
                        SWD_PROMPT_BYTES_MAX);
    int used;
    *n = i == FAMILY_T5 ? max_tokens : prompt_clip_tokens(p);
    if (p->random) return random_ids(ids, *n, i, p), SWD_OK;
    if (i != FAMILY_T5) return clip_bpe_encode(p->bpe[i], ids, *n, &used, prompt, bytes, err);
    return t5_unigram_encode(p->unigram, ids, *n, &used, prompt, bytes, err);
}

/* The ids of a prompt on the backend. A tokenizer that is larger than its encoder is told here: a device would tell it late. */
static swd_status upload_ids(swd_tensor *out, const int32_t *ids, int n, const char *part,
                             int vocabulary, const pipeline *p, swd_exec *ex)
{
    for (int i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocabulary)
            return SWD_FAIL(ex->err, SWD_ERR_FILE,
                            "model %s: the tokenizer of %s gives token id %d, outside of its "
                            "vocabulary of %d",
                            p->dir, part, ids[i], vocabulary);
    *out = exec2(ex, SWD_I32, 1, n);
    return ex->dry ? SWD_OK : ex->backend->upload(ex->backend, *out, ids, ex->stream, ex->err);
}

int prompt_pooled_width(const pipeline *p, int i)
{
    const config_clip_text *c = &p->clip_config[i];
    return p->family->clip_projected ? c->projection_dim : c->hidden_size;
}

/* Where tower i has its channels in the context and its part of pooled. */
static swd_status place_clip(int64_t *channel, int64_t *part, swd_tensor context, swd_tensor pooled,
                             int i, const pipeline *p, swd_err *err)
{
    int64_t wide = p->clip_config[i].hidden_size, width = prompt_pooled_width(p, i);
    *channel = i ? p->clip_config[0].hidden_size : 0;
    *part = i ? prompt_pooled_width(p, 0) : 0;
    if (i && !*channel) /* CLIP-L is not there at all: it would have filled what CLIP-G does not */
        *channel = *part = pooled.shape[1] - width;
    bool alone = !p->family->encoder[FAMILY_CLIP_G].folder;
    if (alone && width != pooled.shape[1])
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "model %s: the state of %s is %lld wide, the transformer's "
                        "pooled_projection_dim is %lld",
                        p->dir, p->family->encoder[i].folder, (long long)width,
                        (long long)pooled.shape[1]);
    if (*part < 0 || *part + width > pooled.shape[1] ||
        (p->family->clip_rows && *channel + wide > context.shape[2]))
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "model %s: %s is wider than the transformer's joint_attention_dim or "
                        "pooled_projection_dim allow",
                        p->dir, p->family->encoder[i].folder);
    return SWD_OK;
}

static swd_status encode_clip(swd_tensor context, swd_tensor pooled, int i, const char *prompt,
                              const pipeline *p, swd_exec *ex)
{
    const config_clip_text *c = &p->clip_config[i];
    int64_t channel, part;
    int32_t ids[SWD_TOKENS_MAX];
    int n = 0;
    RUN(place_clip(&channel, &part, context, pooled, i, p, ex->err));
    size_t mark = exec_mark(ex);
    swd_tensor device_ids;
    RUN(prompt_tokenize(ids, &n, prompt, i, 0, p, ex->err));
    RUN(upload_ids(&device_ids, ids, n, p->family->encoder[i].folder, c->vocab_size, p, ex));
    swd_tensor hidden = exec3(ex, SWD_F32, 1, n, c->hidden_size),
               state = exec2(ex, SWD_F32, 1, prompt_pooled_width(p, i));
    RUN(clip_text_forward(hidden, state, device_ids, ids, p->clip[i], ex));
    if (p->family->clip_rows)
        RUN(op_copy(tensor_slice(tensor_slice(context, 1, 0, n), 2, channel, c->hidden_size),
                    hidden, ex));
    RUN(op_copy(tensor_slice(pooled, 1, part, state.shape[1]), state, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_status encode_t5(const swd_tensor *context, const char *const *prompts, int n_prompts,
                            int max_tokens, const pipeline *p, swd_exec *ex)
{
    const char *folder = p->family->encoder[FAMILY_T5].folder;
    int64_t width = context[0].shape[2];
    if (p->t5_config.d_model != width)
        return SWD_FAIL(ex->err, SWD_ERR_FILE,
                        "model %s: %s is %d wide, the transformer's joint_attention_dim is %d",
                        p->dir, folder, p->t5_config.d_model, (int)width);
    int n = 0;
    size_t mark = exec_mark(ex);
    swd_tensor device_ids[T5_EACH_MAX], hidden[T5_EACH_MAX];
    for (int i = 0; i < n_prompts; i++) {
        int32_t ids[SWD_TOKENS_MAX];
        RUN(prompt_tokenize(ids, &n, prompts[i], FAMILY_T5, max_tokens, p, ex->err));
        RUN(upload_ids(&device_ids[i], ids, n, folder, p->t5_config.vocab_size, p, ex));
        hidden[i] = exec3(ex, SWD_F32, 1, n, width);
    }
    RUN(t5_forward_each(hidden, device_ids, n_prompts, p->t5, ex));
    for (int i = 0; i < n_prompts; i++)
        RUN(op_copy(tensor_slice(context[i], 1, context[i].shape[1] - n, n), hidden[i], ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

swd_status prompt_encode_each(const swd_tensor *context, const swd_tensor *pooled,
                              const char *const *prompts, int n, int max_tokens, const pipeline *p,
                              swd_exec *ex)
{
    for (int k = 0; k < n; k++) {
        RUN(op_fill(context[k], 0.0f, ex));
        RUN(op_fill(pooled[k], 0.0f, ex));
        for (int i = 0; i < 2; i++)
            if (p->clip[i]) RUN(encode_clip(context[k], pooled[k], i, prompts[k], p, ex));
    }
    return p->t5 ? encode_t5(context, prompts, n, max_tokens, p, ex) : SWD_OK;
}

swd_status prompt_encode(swd_tensor context, swd_tensor pooled, const char *prompt, int max_tokens,
                         const pipeline *p, swd_exec *ex)
{
    return prompt_encode_each(&context, &pooled, &prompt, 1, max_tokens, p, ex);
}
