// SPDX-License-Identifier: MIT
// Writes a model folder in diffusers' layout with random weights of a published shape: for measuring speed and memory without
// the published weights. Streams: memory stays small whatever the size. Same seed, same bytes.
#include "configs.h"
#include "base/memory.h"
#include "base/rng.h"
#include "io/safetensors_write.h"
#include "pipeline/family.h"
#include "weights/tensor_list.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

typedef struct options {
    const model_shape *shape;
    const char *dir, *tokenizers;
    swd_dtype dtype;
    uint64_t seed;
    bool t5;
} options;

/* ---- weights ---- */

typedef struct source {
    const random_tensor *t;
    swd_dtype dtype;
    uint64_t seed;
    uint32_t stream; // of this tensor
} source;

enum { PIECE = 4096 };

static void store(void *to, swd_dtype dtype, int64_t at, float x)
{
    if (dtype == SWD_F32)
        ((float *)to)[at] = x;
    else
        ((uint16_t *)to)[at] = dtype == SWD_BF16 ? f32_to_bf16(x) : f32_to_f16(x);
}

static void fill(void *ctx, void *to, int64_t first, int64_t n)
{
    const source *s = ctx;
#pragma omp parallel for
    for (int64_t at = 0; at < n; at += PIECE) {
        float x[PIECE];
        int64_t m = n - at < PIECE ? n - at : PIECE;
        philox_randn(x, m, first + at, s->seed, s->stream);
        for (int64_t i = 0; i < m; i++)
            store(to, s->dtype, at + i, s->t->mean + s->t->deviation * x[i]);
    }
}

// dir/part/file.safetensors; part is also what sets its random streams apart from those of the other parts.
static swd_status write_weights(const options *o, const tensor_list *l, int part_index,
                                const char *part, const char *file, swd_err *err)
{
    char *path = NULL;
    st_write_tensor *w = NULL;
    source *sources = NULL;
    const st_metadata format = {"format", "pt"};
    swd_status s;
    SWD_TRY_GOTO(s, swd_calloc(&w, l->n, sizeof *w, "tensors", err), err, done);
    SWD_TRY_GOTO(s, swd_calloc(&sources, l->n, sizeof *sources, "tensors", err), err, done);
    for (size_t i = 0; i < l->n; i++) {
        const random_tensor *t = &l->at[i];
        sources[i] = (source){t, o->dtype, o->seed, (uint32_t)part_index << 24 | (uint32_t)i};
        w[i] = (st_write_tensor){
            .name = t->name, .dtype = o->dtype, .ndim = t->ndim, .fill = fill, .ctx = &sources[i]};
        memcpy(w[i].shape, t->shape, sizeof t->shape);
    }
    SWD_TRY_GOTO(s, swd_asprintf(&path, err, "%s/%s/%s.safetensors", o->dir, part, file), err,
                 done);
    SWD_TRY_GOTO(s, safetensors_write(path, w, (int)l->n, &format, 1, err), err, done);
done:
    free(path);
    free(w);
    free(sources);
    return s;
}

/* ---- folders and small files ---- */

static swd_status make_folder(const char *path, swd_err *err)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_FILE, "%s: the folder cannot be made: %s", path, strerror(errno));
}

// Writes dir/part/name (part "": dir/name) and frees the object.
static swd_status write_config(const options *o, const char *part, const char *name, json_t *json,
                               swd_err *err)
{
    char *folder = NULL, *path = NULL;
    swd_status s = json ? SWD_OK : SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for %s", name);
    if (s == SWD_OK) s = path_join(&folder, o->dir, part, err);
    if (s == SWD_OK) s = make_folder(folder, err);
    if (s == SWD_OK) s = path_join(&path, folder, name, err);
    if (s == SWD_OK && json_dump_file(json, path, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) != 0)
        s = SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be written", path);
    json_decref(json);
    free(folder);
    free(path);
    return s;
}

static swd_status copy_file(const char *to, const char *from, swd_err *err)
{
    char buffer[1 << 16];
    FILE *in = fopen(from, "rb"), *out = in ? fopen(to, "wb") : NULL;
    bool ok = out != NULL;
    for (size_t n; ok && (n = fread(buffer, 1, sizeof buffer, in)) > 0;)
        ok = fwrite(buffer, 1, n, out) == n;
    ok = ok && !ferror(in);
    if (in) fclose(in);
    if (out) ok = fclose(out) == 0 && ok;
    return ok ? SWD_OK : SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be copied to %s", from, to);
}

// Every file of from/part that dir/as does not have yet.
static swd_status copy_folder(const options *o, const char *part, const char *as, swd_err *err)
{
    char *from = NULL, *to = NULL;
    DIR *d = NULL;
    swd_status s;
    SWD_TRY_GOTO(s, path_join(&from, o->tokenizers, part, err), err, done);
    SWD_TRY_GOTO(s, path_join(&to, o->dir, as, err), err, done);
    if (!(d = opendir(from))) {
        s = SWD_FAIL(err, SWD_ERR_FILE, "%s: no such folder of a tokenizer", from);
        goto done;
    }
    SWD_TRY_GOTO(s, make_folder(to, err), err, done);
    for (struct dirent *e; s == SWD_OK && (e = readdir(d));) {
        char *source_path = NULL, *target = NULL;
        if (e->d_name[0] == '.') continue;
        s = path_join(&source_path, from, e->d_name, err);
        if (s == SWD_OK) s = path_join(&target, to, e->d_name, err);
        if (s == SWD_OK && !path_exists(target)) s = copy_file(target, source_path, err);
        free(source_path);
        free(target);
    }
done:
    if (d) closedir(d);
    free(from);
    free(to);
    return s;
}

// A tokenizer_2 that holds only its configuration shares the vocabulary of tokenizer, as the published ones do.
static swd_status copy_tokenizers(const options *o, swd_err *err)
{
    static const char *const of_encoder[FAMILY_ENCODERS] = {"tokenizer", "tokenizer_2",
                                                            "tokenizer_3"};
    const family *f = family_of(o->shape->transformer.kind);
    for (int i = 0; i < FAMILY_ENCODERS; i++) {
        const char *as = f->encoder[i].tokenizer;
        if (!as || (i == FAMILY_T5 && !o->t5)) continue;
        SWD_TRY(copy_folder(o, of_encoder[i], as, err), err);
        if (i == FAMILY_CLIP_G) SWD_TRY(copy_folder(o, of_encoder[FAMILY_CLIP_L], as, err), err);
    }
    return SWD_OK;
}

/* ---- the whole ---- */

static const char *torch_name(swd_dtype dtype)
{
    return dtype == SWD_F32 ? "float32" : dtype == SWD_BF16 ? "bfloat16" : "float16";
}

// Configuration and weights of one part; list is what its tensors_*() gave, with its status.
static swd_status write_part(const options *o, int index, const char *part, const char *file,
                             json_t *config, tensor_list *list, swd_status made, swd_err *err)
{
    swd_status s = write_config(o, part, "config.json", config, err);
    if (s == SWD_OK) s = made;
    if (s == SWD_OK) {
        fprintf(stderr, "%s/%s: %.1f million parameters\n", o->dir, part,
                (double)tensor_list_parameters(list) * 1e-6);
        s = write_weights(o, list, index, part, file, err);
    }
    free(list->at);
    return s;
}

static swd_status write_model(const options *o, swd_err *err)
{
    static const char *const diffusers = "diffusion_pytorch_model", *const transformers = "model";
    const model_shape *m = o->shape;
    const family *f = family_of(m->transformer.kind);
    const char *dtype = torch_name(o->dtype);
    tensor_list l = {0};
    swd_status s;
    SWD_TRY(make_folder(o->dir, err), err);
    SWD_TRY(copy_tokenizers(o, err), err);
    s = tensors_transformer(&l, &m->transformer, err);
    SWD_TRY(write_part(o, 0, "transformer", diffusers, config_of_transformer(m), &l, s, err), err);
    l = (tensor_list){0};
    s = tensors_vae(&l, &m->vae, err);
    SWD_TRY(write_part(o, 1, "vae", diffusers, config_of_vae(m), &l, s, err), err);
    for (int i = 0; i < FAMILY_ENCODERS; i++) {
        const char *folder = f->encoder[i].folder;
        bool t5 = i == FAMILY_T5;
        if (!folder || (t5 && !o->t5)) continue;
        l = (tensor_list){0};
        s = t5 ? tensors_t5(&l, &m->t5, err) : tensors_clip(&l, &m->clip[i], err);
        SWD_TRY(write_part(o, 2 + i, folder, transformers,
                           t5 ? config_of_t5(m, dtype) : config_of_clip(m, i, dtype), &l, s, err),
                err);
    }
    SWD_TRY(write_config(o, "scheduler", "scheduler_config.json", config_of_scheduler(m), err),
            err);
    return write_config(o, "", "model_index.json", config_of_pipeline(m, o->t5),
                        err); // last: complete
}

static int usage(FILE *to)
{
    fprintf(
        to,
        "random_model SHAPE DIR --tokenizers FOLDER [--t5] [--dtype bf16|f16|f32] [--seed N]\n\n"
        "  random_model sd3.5-medium /big/disk/sd35m --tokenizers tests/data/vocab\n\n"
        "FOLDER holds tokenizer, tokenizer_2 and (for --t5) tokenizer_3, of CLIP-L, CLIP-G and T5. "
        "Shapes:\n");
    for (int i = 0; shape_at(i); i++)
        fprintf(to, "  %-14s %s\n", shape_at(i)->name, shape_at(i)->about);
    return 2;
}

static bool parse_dtype(swd_dtype *out, const char *name)
{
    static const swd_dtype known[] = {SWD_BF16, SWD_F16, SWD_F32};
    for (int i = 0; i < 3; i++)
        if (strcmp(name, dtype_name(known[i])) == 0) return *out = known[i], true;
    return false;
}

static bool parse(options *o, int argc, char **argv)
{
    int n = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        char *end = "";
        if (strcmp(argv[i], "--t5") == 0) {
            o->t5 = true;
        } else if (strcmp(argv[i], "--tokenizers") == 0 && *value) {
            o->tokenizers = argv[++i];
        } else if (strcmp(argv[i], "--dtype") == 0 && parse_dtype(&o->dtype, value)) {
            i++;
        } else if (strcmp(argv[i], "--seed") == 0 && *value) {
            o->seed = strtoull(argv[++i], &end, 10);
            if (*end) return false;
        } else if (argv[i][0] != '-' && n < 2) {
            if (n++ == 0)
                o->shape = shape_find(argv[i]);
            else
                o->dir = argv[i];
        } else {
            return false;
        }
    }
    return o->shape && o->dir && o->tokenizers;
}

int main(int argc, char **argv)
{
    options o = {.dtype = SWD_BF16, .seed = 1};
    swd_err err = {0};
    if (argc == 2 && strcmp(argv[1], "--help") == 0) return usage(stdout), 0;
    if (!parse(&o, argc, argv)) return usage(stderr);
    if (write_model(&o, &err) == SWD_OK) return 0;
    fprintf(stderr, "random_model: error: %s\n", err.message);
    return 1;
}
