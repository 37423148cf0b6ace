/* SPDX-License-Identifier: MIT */
/* Prompts -> what the transformer sees. Context: where the family has rows of CLIP (SD3), CLIP-L's and CLIP-G's hidden_states[-2] side by side
 * on channels, zero-padded to the T5 width; below them T5's rows. Pooled: CLIP-L's beside CLIP-G's, projected or not. What an encoder that is
 * left out would fill is zero. */
#ifndef SWD_PIPELINE_PROMPT_H
#define SWD_PIPELINE_PROMPT_H
#include "pipeline/assemble.h"

/* Ids of one prompt for encoder i (FAMILY_CLIP_L, ...), padded; *n is set to their number (<= SWD_TOKENS_MAX). */
swd_status prompt_tokenize(int32_t *ids, int *n, const char *prompt, int i, int max_tokens,
                           const pipeline *p, swd_err *err);
int prompt_clip_tokens(const pipeline *p);
int prompt_pooled_width(const pipeline *p, int i);    /* of CLIP tower i */
int prompt_tokens(const pipeline *p, int max_tokens); /* rows of context */
/* context F32 [1, prompt_tokens, context_width], pooled F32 [1, pooled_width]. Scratch from the slab is returned. */
swd_status prompt_encode(swd_tensor context, swd_tensor pooled, const char *prompt, int max_tokens,
                         const pipeline *p, swd_exec *ex);
/* n of them, at most T5_EACH_MAX: the same, but layers that are streamed come once for all. */
swd_status prompt_encode_each(const swd_tensor *context, const swd_tensor *pooled,
                              const char *const *prompts, int n, int max_tokens, const pipeline *p,
                              swd_exec *ex);
#endif
