// SPDX-License-Identifier: MIT
/* spiece.model, a SentencePiece unigram model: pieces with scores, a trie over them, and the map that normalises characters. */
#ifndef SWD_TEXT_UNIGRAM_MODEL_H
#define SWD_TEXT_UNIGRAM_MODEL_H
#include "text/special.h"

/* Zeroed, then filled by unigram_model_read; read only after that. */
typedef struct unigram_model {
    const char *path; /* for messages while it is being opened; borrowed */
    str_map vocab;
    double *score; /* by id */
    int32_t n, capacity;
    double min_score;
    int32_t unk;
    added_tokens added; /* control and user-defined pieces */
    struct unigram_edge *edges;
    size_t edges_capacity, n_edges;
    int32_t *leaf; /* node -> id or -1 */
    size_t nodes_capacity;
    int32_t n_nodes;
    uint32_t *map; /* double-array trie of the character map */
    size_t n_map;
    char *replaced; /* its strings, each ended by a NUL */
    size_t n_replaced;
} unigram_model;

/* Malformed files are SWD_ERR_FILE, models that are no unigram SWD_ERR_UNSUPPORTED; free m in any case. */
swd_status unigram_model_read(unigram_model *m, const void *data, size_t n, const char *path,
                              swd_err *err);
/* One more piece, with the next id. */
swd_status unigram_model_put(unigram_model *m, const char *s, size_t n, double score, swd_err *err);
/* Of the trie, from node 0; -1: no piece goes on so. */
int32_t unigram_model_child(const unigram_model *m, int32_t node, unsigned char byte);
/* Appends s with its characters replaced by the map, grapheme by grapheme. */
swd_status unigram_model_map(const unigram_model *m, text_buf *out, const char *s, size_t n,
                             swd_err *err);
void unigram_model_free(unigram_model *m);
#endif
