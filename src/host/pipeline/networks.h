/* SPDX-License-Identifier: MIT */
/* The networks of a model: loaded by the first call that needs them, released where their memory is needed for others. */
#ifndef SWD_PIPELINE_NETWORKS_H
#define SWD_PIPELINE_NETWORKS_H
#include "pipeline/assemble.h"

/* The chosen encoders with their tokenizers, and the configs of all that are there. */
swd_status pipeline_load_text(pipeline *p, swd_err *err);
swd_status pipeline_load_transformer(pipeline *p, swd_err *err); /* adapters merged */
swd_status pipeline_load_decoder(pipeline *p, swd_err *err);
swd_status pipeline_load_encoder(pipeline *p, swd_err *err);
/* Gives a network's memory back, if it is there; nothing that uses it is under way. */
void pipeline_release(pipeline *p, pipeline_part part);

/* To a message about a full device: what there is, what has been loaded, and what was wanted. SWD_ERR_MEMORY. */
swd_status pipeline_tell_memory(const pipeline *p, const char *wanted, size_t bytes, swd_err *err);
#endif
