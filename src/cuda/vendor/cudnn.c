// SPDX-License-Identifier: MIT
// cuDNN knows operations as descriptors with attributes: tensors, operations on them, a graph of those, engines for the graph, and
// configurations of engines, from which plans are built. Tensors have 4 dimensions here: [N, C, H, W] of maps, [B, H, rows, columns] of
// attention; strides say how they lie.
#include "vendor/cudnn.h"
#include "base/memory.h"
#include "vendor/library.h"
#include "vendor/vendor_abi.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { HELD_MAX = 80, OPS_MAX = 8, NOTES_MAX = 16, SCALE_ID = 100 };

struct cudnn {
    void *library, *handle;
    size_t version;
#define X(name, arguments) int(*name) arguments;
    DNN_FUNCTIONS(X)
#undef X
};

struct dnn_work {
    const cudnn *dnn;
    void *held[HELD_MAX], *ops[OPS_MAX], *graph; // held: every descriptor, in the order of making
    int n_held, n_ops, n_ways;
    bool used[DNN_POINTERS];
    float scale; // of attention, read when it runs
    bool has_scale;
    struct way {
        void *config, *plan; // no plan: not ready
        int64_t workspace_bytes;
    } ways[DNN_WAYS_MAX];
    int status; // of the first call that failed while it was made
};

/* ---- the library ---- */

static const char *take_all(cudnn *dnn)
{
#define X(name, arguments)                                                                         \
    if (!library_take(&dnn->name, dnn->library, "cudnn" #name)) return "cudnn" #name;
    DNN_FUNCTIONS(X)
#undef X
    return NULL;
}

swd_status cudnn_open(cudnn **out, char *found, size_t found_bytes, const char *where, swd_err *err)
{
    static const char *const names[] = {"libcudnn.so.9", NULL};
    char path[1024];
    size_t (*version)(void);
    cudnn *dnn;
    *out = NULL;
    SWD_TRY(swd_calloc(&dnn, 1, sizeof *dnn, "cuDNN", err), err);
    dnn->library = library_open(path, sizeof path, names, where);
    const char *missing = dnn->library ? take_all(dnn) : NULL;
    if (dnn->library && library_take(&version, dnn->library, "cudnnGetVersion"))
        dnn->version = version();
    int status = dnn->library && !missing ? dnn->Create(&dnn->handle) : 0;
    if (status) dnn->handle = NULL;
    library_tell(found, found_bytes,
                 &(library_outcome){dnn->library, path, missing, status, dnn->version});
    *out = dnn;
    if (!dnn->handle) cudnn_close(out);
    return SWD_OK;
}

void cudnn_close(cudnn **dnn)
{
    if (!*dnn) return;
    if ((*dnn)->handle) (*dnn)->Destroy((*dnn)->handle);
    library_close(&(*dnn)->library);
    free(*dnn);
    *dnn = NULL;
}

size_t cudnn_version(const cudnn *dnn)
{
    return dnn->version;
}

/* ---- descriptors; after the first failure nothing more is asked of the library ---- */

static void *make(dnn_work *w, enum dnn_descriptor type)
{
    void *d = NULL;
    assert(w->n_held < HELD_MAX);
    if (!w->status) w->status = w->dnn->BackendCreateDescriptor(type, &d);
    if (!w->status) w->held[w->n_held++] = d;
    return w->status ? NULL : d;
}

static void put(dnn_work *w, void *d, enum dnn_attribute a, enum dnn_type type, int64_t n,
                const void *values)
{
    if (!w->status) w->status = w->dnn->BackendSetAttribute(d, a, type, n, values);
}

static void put_word(dnn_work *w, void *d, enum dnn_attribute a, enum dnn_type type, int value)
{
    put(w, d, a, type, 1, &value);
}

static void put_descriptor(dnn_work *w, void *d, enum dnn_attribute a, void *value)
{
    put(w, d, a, DNN_TYPE_DESCRIPTOR, 1, &value);
}

static void finalize(dnn_work *w, void *d)
{
    if (!w->status) w->status = w->dnn->BackendFinalize(d);
}

static int type_of(k_dtype dtype)
{
    return dtype == K_F32 ? DNN_FLOAT : dtype == K_BF16 ? DNN_BF16 : DNN_HALF;
}

/* ---- tensors and operations ---- */

typedef struct shape4 {
    int64_t dim[4], stride[4];
} shape4;

typedef enum place { IN_MEMORY, VIRTUAL, BY_VALUE } place;

static void *tensor(dnn_work *w, int64_t id, k_dtype dtype, const shape4 *s, place p)
{
    const int64_t alignment = p == IN_MEMORY ? 16 : 4;
    const bool yes = true;
    void *t = make(w, DNN_TENSOR);
    put_word(w, t, DNN_TENSOR_DATA_TYPE, DNN_TYPE_DATA_TYPE, type_of(dtype));
    put(w, t, DNN_TENSOR_DIMENSIONS, DNN_TYPE_INT64, 4, s->dim);
    put(w, t, DNN_TENSOR_STRIDES, DNN_TYPE_INT64, 4, s->stride);
    put(w, t, DNN_TENSOR_UNIQUE_ID, DNN_TYPE_INT64, 1, &id);
    put(w, t, DNN_TENSOR_BYTE_ALIGNMENT, DNN_TYPE_INT64, 1, &alignment);
    if (p == VIRTUAL) put(w, t, DNN_TENSOR_IS_VIRTUAL, DNN_TYPE_BOOLEAN, 1, &yes);
    if (p == BY_VALUE) put(w, t, DNN_TENSOR_IS_BY_VALUE, DNN_TYPE_BOOLEAN, 1, &yes);
    finalize(w, t);
    return t;
}

// Operand `slot` of the caller's list.
static void *operand(dnn_work *w, int slot, k_dtype dtype, const shape4 *s)
{
    w->used[slot] = true;
    return tensor(w, slot + 1, dtype, s, IN_MEMORY);
}

// What lies between two operations.
static void *between(dnn_work *w, const shape4 *s)
{
    return tensor(w, SCALE_ID + 1 + w->n_held, K_F32, s, VIRTUAL);
}

static void add_op(dnn_work *w, void *op)
{
    finalize(w, op);
    assert(w->n_ops < OPS_MAX);
    w->ops[w->n_ops++] = op;
}

// y = f(x, b), b NULL where f has one operand
static void pointwise(dnn_work *w, int mode, void *y, void *x, void *b)
{
    void *f = make(w, DNN_POINTWISE);
    put_word(w, f, DNN_POINTWISE_MODE, DNN_TYPE_POINTWISE_MODE, mode);
    put_word(w, f, DNN_POINTWISE_MATH_PREC, DNN_TYPE_DATA_TYPE, DNN_FLOAT);
    finalize(w, f);
    void *op = make(w, DNN_OP_POINTWISE);
    put_descriptor(w, op, DNN_OP_POINTWISE_DESC, f);
    put_descriptor(w, op, DNN_OP_POINTWISE_X, x);
    if (b) put_descriptor(w, op, DNN_OP_POINTWISE_B, b);
    put_descriptor(w, op, DNN_OP_POINTWISE_Y, y);
    add_op(w, op);
}

static void convolve(dnn_work *w, void *y, void *x, void *weight, const dnn_conv *c)
{
    const float one = 1, zero = 0;
    const int64_t two = 2, dilations[2] = {1, 1}, strides[2] = {c->stride, c->stride},
                  before[2] = {c->pad, c->pad},
                  // as many as the result's last pixel looks past the map
        behind[2] = {(c->ho - 1) * c->stride + c->kh - c->pad - c->h,
                     (c->wo - 1) * c->stride + c->kw - c->pad - c->w};
    const int64_t after[2] = {behind[0] > 0 ? behind[0] : 0, behind[1] > 0 ? behind[1] : 0};
    void *f = make(w, DNN_CONVOLUTION);
    put_word(w, f, DNN_CONVOLUTION_COMP_TYPE, DNN_TYPE_DATA_TYPE, DNN_FLOAT);
    put_word(w, f, DNN_CONVOLUTION_CONV_MODE, DNN_TYPE_CONVOLUTION_MODE, DNN_CROSS_CORRELATION);
    put(w, f, DNN_CONVOLUTION_SPATIAL_DIMS, DNN_TYPE_INT64, 1, &two);
    put(w, f, DNN_CONVOLUTION_DILATIONS, DNN_TYPE_INT64, 2, dilations);
    put(w, f, DNN_CONVOLUTION_STRIDES, DNN_TYPE_INT64, 2, strides);
    put(w, f, DNN_CONVOLUTION_PRE_PADDINGS, DNN_TYPE_INT64, 2, before);
    put(w, f, DNN_CONVOLUTION_POST_PADDINGS, DNN_TYPE_INT64, 2, after);
    finalize(w, f);
    void *op = make(w, DNN_OP_CONVOLUTION);
    put_descriptor(w, op, DNN_OP_CONVOLUTION_DESC, f);
    put_descriptor(w, op, DNN_OP_CONVOLUTION_X, x);
    put_descriptor(w, op, DNN_OP_CONVOLUTION_W, weight);
    put_descriptor(w, op, DNN_OP_CONVOLUTION_Y, y);
    put(w, op, DNN_OP_CONVOLUTION_ALPHA, DNN_TYPE_FLOAT, 1, &one);
    put(w, op, DNN_OP_CONVOLUTION_BETA, DNN_TYPE_FLOAT, 1, &zero);
    add_op(w, op);
}

/* ---- graphs ---- */

// What one kind of heuristics proposes, behind what there is already.
static void ask(dnn_work *w, int mode)
{
    void *configs[DNN_WAYS_MAX];
    int64_t n = 0, room = DNN_WAYS_MAX - w->n_ways;
    void *heuristics = make(w, DNN_ENGINEHEUR);
    put_descriptor(w, heuristics, DNN_ENGINEHEUR_OPERATION_GRAPH, w->graph);
    put_word(w, heuristics, DNN_ENGINEHEUR_MODE, DNN_TYPE_HEUR_MODE, mode);
    finalize(w, heuristics);
    for (int64_t i = 0; i < room; i++) configs[i] = make(w, DNN_ENGINECFG);
    if (!w->status)
        w->status = w->dnn->BackendGetAttribute(heuristics, DNN_ENGINEHEUR_RESULTS,
                                                DNN_TYPE_DESCRIPTOR, room, &n, configs);
    for (int64_t i = 0; !w->status && i < n && i < room; i++)
        w->ways[w->n_ways++].config = configs[i];
}

// The graph of the operations, or the reason why there is none.
static swd_status complete(dnn_work **out, dnn_work *w, const char *what, swd_err *err)
{
    w->graph = make(w, DNN_OPERATIONGRAPH);
    put(w, w->graph, DNN_OPERATIONGRAPH_HANDLE, DNN_TYPE_HANDLE, 1, &w->dnn->handle);
    put(w, w->graph, DNN_OPERATIONGRAPH_OPS, DNN_TYPE_DESCRIPTOR, w->n_ops, w->ops);
    finalize(w, w->graph);
    ask(w, DNN_HEUR_MODE_A);
    if (w->n_ways < DNN_WAYS_MAX) ask(w, DNN_HEUR_MODE_FALLBACK);
    int status = w->status;
    *out = w;
    if (status) dnn_work_destroy(out);
    return status ? SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "cuDNN: %s is refused (status %d)", what,
                             status)
                  : SWD_OK;
}

static swd_status begin(dnn_work **out, const cudnn *dnn, swd_err *err)
{
    dnn_work *w;
    *out = NULL;
    SWD_TRY(swd_calloc(&w, 1, sizeof *w, "a graph of cuDNN", err), err);
    w->dnn = dnn;
    *out = w;
    return SWD_OK;
}

static shape4 map(int64_t channels, int64_t h, int64_t w)
{
    return (shape4){{1, channels, h, w}, {h * w * channels, 1, w * channels, channels}};
}

swd_status dnn_conv_make(dnn_work **out, const cudnn *dnn, const dnn_conv *c, swd_err *err)
{
    dnn_work *w;
    SWD_TRY(begin(&w, dnn, err), err);
    const shape4 x = map(c->in, c->h, c->w), y = map(c->out, c->ho, c->wo),
                 bias = map(c->out, 1, 1),
                 weight = {{c->out, c->in, c->kh, c->kw},
                           {c->kh * c->kw * c->in, 1, c->kw * c->in, c->in}};
    // The last operation writes y, the others what lies between.
    int left = 1 + c->bias + c->relu + c->residual;
    void *at = NULL, *from = operand(w, 0, c->operand, &x),
         *filter = operand(w, 1, c->operand, &weight);
#define NEXT() (--left ? between(w, &y) : operand(w, 2, c->result, &y))
    at = NEXT();
    convolve(w, at, from, filter, c);
    if (c->bias) {
        void *b = operand(w, 3, K_F32, &bias), *next = NEXT();
        pointwise(w, DNN_POINTWISE_ADD, next, at, b);
        at = next;
    }
    if (c->relu) {
        void *next = NEXT();
        pointwise(w, DNN_POINTWISE_RELU, next, at, NULL);
        at = next;
    }
    if (c->residual) {
        void *r = operand(w, 4, c->residual_dtype, &y), *next = NEXT();
        pointwise(w, DNN_POINTWISE_ADD, next, at, r);
    }
#undef NEXT
    return complete(out, w, "a convolution", err);
}

// Heads of rows.
static shape4 heads(const dnn_attention *a, int64_t n, struct dnn_rows s)
{
    return (shape4){{1, a->heads, n, a->head_dim}, {n * s.row, s.head, s.row, 1}};
}

swd_status dnn_attention_make(dnn_work **out, const cudnn *dnn, const dnn_attention *a,
                              swd_err *err)
{
    dnn_work *w;
    *out = NULL;
    if (dnn->version < DNN_VERSION_ATTENTION)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "cuDNN %zu has no attention as one operation",
                        dnn->version);
    SWD_TRY(begin(&w, dnn, err), err);
    w->scale = a->scale;
    w->has_scale = true;
    const shape4 q = heads(a, a->n_q, a->q), k = heads(a, a->n_k, a->k), v = heads(a, a->n_k, a->v),
                 o = heads(a, a->n_q, a->o), one = {{1, 1, 1, 1}, {1, 1, 1, 1}};
    void *scale = tensor(w, SCALE_ID, K_F32, &one, BY_VALUE),
         *from[3] = {operand(w, 0, a->operand, &q), operand(w, 1, a->operand, &k),
                     operand(w, 2, a->operand, &v)};
    void *to = operand(w, 3, a->result, &o), *op = make(w, DNN_OP_ATTENTION);
    put_descriptor(w, op, DNN_OP_ATTENTION_Q, from[0]);
    put_descriptor(w, op, DNN_OP_ATTENTION_K, from[1]);
    put_descriptor(w, op, DNN_OP_ATTENTION_V, from[2]);
    put_descriptor(w, op, DNN_OP_ATTENTION_O, to);
    put_descriptor(w, op, DNN_OP_ATTENTION_SCALE, scale);
    add_op(w, op);
    return complete(out, w, "attention", err);
}

void dnn_work_destroy(dnn_work **out)
{
    dnn_work *w = *out;
    if (!w) return;
    for (int i = 0; i < DNN_WAYS_MAX; i++)
        if (w->ways[i].plan) w->dnn->BackendDestroyDescriptor(w->ways[i].plan);
    for (int i = w->n_held - 1; i >= 0; i--) w->dnn->BackendDestroyDescriptor(w->held[i]);
    free(w);
    *out = NULL;
}

/* ---- plans ---- */

// Notes of one kind of a configuration's engine; -1: it does not tell.
static int64_t notes_of(int notes[NOTES_MAX], const dnn_work *w, void *config,
                        enum dnn_attribute kind, enum dnn_type type)
{
    const cudnn *dnn = w->dnn;
    int64_t n = 0;
    void *engine = NULL;
    if (dnn->BackendCreateDescriptor(DNN_ENGINE, &engine) != 0) return -1;
    int s =
        dnn->BackendGetAttribute(config, DNN_ENGINECFG_ENGINE, DNN_TYPE_DESCRIPTOR, 1, &n, &engine);
    if (!s) s = dnn->BackendGetAttribute(engine, kind, type, NOTES_MAX, &n, notes);
    dnn->BackendDestroyDescriptor(engine);
    return s ? -1 : n < NOTES_MAX ? n : NOTES_MAX;
}

// Its engine keeps float32 sums, operands as they are, and one order of adding.
static bool exact(const dnn_work *w, void *config)
{
    int notes[NOTES_MAX];
    int64_t n = notes_of(notes, w, config, DNN_ENGINE_NUMERICAL_NOTE, DNN_TYPE_NUMERICAL_NOTE);
    for (int64_t i = 0; i < n; i++)
        if (notes[i] != DNN_NOTE_TENSOR_CORE && notes[i] != DNN_NOTE_STRICT_NAN) return false;
    return n >= 0;
}

static bool compiles(const dnn_work *w, void *config)
{
    int notes[NOTES_MAX];
    int64_t n = notes_of(notes, w, config, DNN_ENGINE_BEHAVIOR_NOTE, DNN_TYPE_BEHAVIOR_NOTE);
    for (int64_t i = 0; i < n; i++)
        if (notes[i] == DNN_BEHAVIOR_COMPILATION) return true;
    return n < 0;
}

bool dnn_work_may(const dnn_work *w, int way, bool compile)
{
    void *config = w->ways[way].config;
    return exact(w, config) && (compile || !compiles(w, config));
}

static void build(dnn_work *w, struct way *way, size_t workspace_max)
{
    const cudnn *dnn = w->dnn;
    int64_t n = 0;
    void *plan = NULL;
    if (dnn->BackendCreateDescriptor(DNN_PLAN, &plan) != 0) return;
    int s = dnn->BackendSetAttribute(plan, DNN_PLAN_HANDLE, DNN_TYPE_HANDLE, 1, &dnn->handle);
    if (!s)
        s = dnn->BackendSetAttribute(plan, DNN_PLAN_ENGINE_CONFIG, DNN_TYPE_DESCRIPTOR, 1,
                                     &way->config);
    if (!s) s = dnn->BackendFinalize(plan);
    if (!s)
        s = dnn->BackendGetAttribute(plan, DNN_PLAN_WORKSPACE_SIZE, DNN_TYPE_INT64, 1, &n,
                                     &way->workspace_bytes);
    if (s || way->workspace_bytes < 0 || (uint64_t)way->workspace_bytes > workspace_max)
        dnn->BackendDestroyDescriptor(plan);
    else
        way->plan = plan;
}

int dnn_work_ways(const dnn_work *w)
{
    return w->n_ways;
}

void dnn_work_prepare(dnn_work *w, int way, size_t workspace_max)
{
    if (!w->ways[way].plan) build(w, &w->ways[way], workspace_max);
}

bool dnn_work_ready(const dnn_work *w, int way)
{
    return way < w->n_ways && w->ways[way].plan;
}

size_t dnn_work_workspace(const dnn_work *w, int way)
{
    return (size_t)w->ways[way].workspace_bytes;
}

void dnn_work_keep(dnn_work *w, int way)
{
    for (int i = 0; i < w->n_ways; i++) {
        if (i == way || !w->ways[i].plan) continue;
        w->dnn->BackendDestroyDescriptor(w->ways[i].plan);
        w->ways[i].plan = NULL;
    }
}

static int fill_pack(const dnn_work *w, void *pack, void *const pointers[DNN_POINTERS],
                     void *workspace)
{
    const cudnn *dnn = w->dnn;
    int64_t ids[DNN_POINTERS + 1], n = 0;
    const void *data[DNN_POINTERS + 1];
    for (int i = 0; i < DNN_POINTERS; i++)
        if (w->used[i]) ids[n] = i + 1, data[n++] = pointers[i];
    if (w->has_scale) ids[n] = SCALE_ID, data[n++] = &w->scale;
    int s = dnn->BackendSetAttribute(pack, DNN_PACK_UNIQUE_IDS, DNN_TYPE_INT64, n, ids);
    if (!s) s = dnn->BackendSetAttribute(pack, DNN_PACK_DATA_POINTERS, DNN_TYPE_VOID_PTR, n, data);
    if (!s)
        s = dnn->BackendSetAttribute(pack, DNN_PACK_WORKSPACE, DNN_TYPE_VOID_PTR, 1, &workspace);
    return s ? s : dnn->BackendFinalize(pack);
}

swd_status dnn_work_run(const dnn_work *w, int way, void *const pointers[DNN_POINTERS],
                        void *workspace, cudaStream_t stream, swd_err *err)
{
    const cudnn *dnn = w->dnn;
    void *pack = NULL;
    if (!dnn_work_ready(w, way))
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "cuDNN has no plan for this");
    int s = dnn->SetStream(dnn->handle, stream);
    if (!s) s = dnn->BackendCreateDescriptor(DNN_VARIANT_PACK, &pack);
    if (!s) s = fill_pack(w, pack, pointers, workspace);
    if (!s) s = dnn->BackendExecute(dnn->handle, w->ways[way].plan, pack);
    if (pack) dnn->BackendDestroyDescriptor(pack);
    if (s == 0) return SWD_OK;
    (void)cudaGetLastError(); // what the library leaves must not meet the next call
    return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "cudnnBackendExecute: status %d", s);
}
