// SPDX-License-Identifier: MIT
// cuDNN's graphs: descriptors as lists of attributes, each checked against what its descriptor may have; a plan runs its operations one
// after the other, what lies between them in the workspace. Of four ways of doing a graph one adds in any order, one cannot be built, all but the last
// are compiled.
#include "fake_vendor.h"
#include <stdlib.h>
#include <string.h>

#define X(name, arguments) FAKE_EXPORT int cudnn##name arguments;
DNN_FUNCTIONS(X)
#undef X
FAKE_EXPORT size_t cudnnGetVersion(void);

enum { EXTRA = 1000 }; // of workspace, that is scribbled over
enum { NOT_SUPPORTED = 3000, ATTRIBUTES_MAX = 12, BYTES_MAX = 64, OPS_MAX = 8, PLACES_MAX = 24 };
enum { WAY_UNORDERED, WAY_UNBUILT, WAY_GOOD, WAYS_A, WAY_FALLBACK = WAYS_A };

typedef struct attribute {
    int name, type;
    int64_t n;
    union {
        unsigned char bytes[BYTES_MAX];
        void *pointer[BYTES_MAX / 8];
        int64_t integer[BYTES_MAX / 8];
        float real;
        int word;
        bool flag;
    } v;
} attribute;

typedef struct descriptor {
    int type, n;
    bool finalized;
    attribute a[ATTRIBUTES_MAX];
    const struct descriptor *graph; // of a configuration
    int way;                        // of a configuration, an engine
    int64_t workspace;              // of a plan
} descriptor;

typedef struct handle {
    cudaStream_t stream;
} handle;

/* ---- what each descriptor may have, and must ---- */

enum { SOME = 8 };

static const struct rule {
    int descriptor, attribute, type;
    int64_t n; // so many; SOME: up to that many
    bool needed;
} rules[] = {
    {DNN_POINTWISE, DNN_POINTWISE_MODE, DNN_TYPE_POINTWISE_MODE, 1, true},
    {DNN_POINTWISE, DNN_POINTWISE_MATH_PREC, DNN_TYPE_DATA_TYPE, 1, true},
    {DNN_CONVOLUTION, DNN_CONVOLUTION_COMP_TYPE, DNN_TYPE_DATA_TYPE, 1, true},
    {DNN_CONVOLUTION, DNN_CONVOLUTION_CONV_MODE, DNN_TYPE_CONVOLUTION_MODE, 1, true},
    {DNN_CONVOLUTION, DNN_CONVOLUTION_SPATIAL_DIMS, DNN_TYPE_INT64, 1, true},
    {DNN_CONVOLUTION, DNN_CONVOLUTION_DILATIONS, DNN_TYPE_INT64, 2, true},
    {DNN_CONVOLUTION, DNN_CONVOLUTION_STRIDES, DNN_TYPE_INT64, 2, true},
    {DNN_CONVOLUTION, DNN_CONVOLUTION_PRE_PADDINGS, DNN_TYPE_INT64, 2, true},
    {DNN_CONVOLUTION, DNN_CONVOLUTION_POST_PADDINGS, DNN_TYPE_INT64, 2, true},
    {DNN_ENGINEHEUR, DNN_ENGINEHEUR_OPERATION_GRAPH, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_ENGINEHEUR, DNN_ENGINEHEUR_MODE, DNN_TYPE_HEUR_MODE, 1, true},
    {DNN_PLAN, DNN_PLAN_HANDLE, DNN_TYPE_HANDLE, 1, true},
    {DNN_PLAN, DNN_PLAN_ENGINE_CONFIG, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_OP_CONVOLUTION, DNN_OP_CONVOLUTION_DESC, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_OP_CONVOLUTION, DNN_OP_CONVOLUTION_X, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_OP_CONVOLUTION, DNN_OP_CONVOLUTION_W, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_OP_CONVOLUTION, DNN_OP_CONVOLUTION_Y, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_OP_CONVOLUTION, DNN_OP_CONVOLUTION_ALPHA, DNN_TYPE_FLOAT, 1, true},
    {DNN_OP_CONVOLUTION, DNN_OP_CONVOLUTION_BETA, DNN_TYPE_FLOAT, 1, true},
    {DNN_OP_POINTWISE, DNN_OP_POINTWISE_DESC, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_OP_POINTWISE, DNN_OP_POINTWISE_X, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_OP_POINTWISE, DNN_OP_POINTWISE_B, DNN_TYPE_DESCRIPTOR, 1, false},
    {DNN_OP_POINTWISE, DNN_OP_POINTWISE_Y, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_OPERATIONGRAPH, DNN_OPERATIONGRAPH_HANDLE, DNN_TYPE_HANDLE, 1, true},
    {DNN_OPERATIONGRAPH, DNN_OPERATIONGRAPH_OPS, DNN_TYPE_DESCRIPTOR, SOME, true},
    {DNN_VARIANT_PACK, DNN_PACK_UNIQUE_IDS, DNN_TYPE_INT64, SOME, true},
    {DNN_VARIANT_PACK, DNN_PACK_DATA_POINTERS, DNN_TYPE_VOID_PTR, SOME, true},
    {DNN_VARIANT_PACK, DNN_PACK_WORKSPACE, DNN_TYPE_VOID_PTR, 1, true},
    {DNN_TENSOR, DNN_TENSOR_DATA_TYPE, DNN_TYPE_DATA_TYPE, 1, true},
    {DNN_TENSOR, DNN_TENSOR_DIMENSIONS, DNN_TYPE_INT64, 4, true},
    {DNN_TENSOR, DNN_TENSOR_STRIDES, DNN_TYPE_INT64, 4, true},
    {DNN_TENSOR, DNN_TENSOR_UNIQUE_ID, DNN_TYPE_INT64, 1, true},
    {DNN_TENSOR, DNN_TENSOR_BYTE_ALIGNMENT, DNN_TYPE_INT64, 1, true},
    {DNN_TENSOR, DNN_TENSOR_IS_VIRTUAL, DNN_TYPE_BOOLEAN, 1, false},
    {DNN_TENSOR, DNN_TENSOR_IS_BY_VALUE, DNN_TYPE_BOOLEAN, 1, false},
    {DNN_OP_ATTENTION, DNN_OP_ATTENTION_Q, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_OP_ATTENTION, DNN_OP_ATTENTION_K, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_OP_ATTENTION, DNN_OP_ATTENTION_V, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_OP_ATTENTION, DNN_OP_ATTENTION_O, DNN_TYPE_DESCRIPTOR, 1, true},
    {DNN_OP_ATTENTION, DNN_OP_ATTENTION_SCALE, DNN_TYPE_DESCRIPTOR, 1, true},
};
enum { N_RULES = sizeof rules / sizeof *rules };
_Static_assert((int)SOME == (int)OPS_MAX, "operations of a graph");

// What an attribute that is a descriptor may be.
static bool may_be(int name, const descriptor *d)
{
    switch (name) {
    case DNN_ENGINEHEUR_OPERATION_GRAPH:
        return d->type == DNN_OPERATIONGRAPH;
    case DNN_PLAN_ENGINE_CONFIG:
        return d->type == DNN_ENGINECFG;
    case DNN_OP_CONVOLUTION_DESC:
        return d->type == DNN_CONVOLUTION;
    case DNN_OP_POINTWISE_DESC:
        return d->type == DNN_POINTWISE;
    case DNN_OPERATIONGRAPH_OPS:
        return d->type == DNN_OP_CONVOLUTION || d->type == DNN_OP_POINTWISE ||
               d->type == DNN_OP_ATTENTION;
    default:
        return d->type == DNN_TENSOR;
    }
}

static size_t size_of(int type)
{
    if (type == DNN_TYPE_BOOLEAN) return 1;
    return type == DNN_TYPE_HANDLE || type == DNN_TYPE_INT64 || type == DNN_TYPE_VOID_PTR ||
                   type == DNN_TYPE_DESCRIPTOR
               ? 8
               : 4;
}

static const attribute *find(const descriptor *d, int name)
{
    for (int i = 0; i < d->n; i++)
        if (d->a[i].name == name) return &d->a[i];
    return NULL;
}

static const descriptor *linked(const descriptor *d, int name)
{
    const attribute *a = find(d, name);
    return a ? a->v.pointer[0] : NULL;
}

static bool flag(const descriptor *t, int name)
{
    const attribute *a = find(t, name);
    return a && a->v.flag;
}

/* ---- descriptors ---- */

size_t cudnnGetVersion(void)
{
    return DNN_VERSION_ATTENTION;
}

int cudnnCreate(void **out)
{
    return fake_make(out, FAKE_DNN_HANDLE, sizeof(handle));
}

int cudnnDestroy(void *h)
{
    return fake_drop(h, FAKE_DNN_HANDLE);
}

int cudnnSetStream(void *h, cudaStream_t stream)
{
    handle *on = fake_known(h, FAKE_DNN_HANDLE);
    if (fake_fails()) return FAKE_FAILED;
    if (!stream) return fake_complain("work on the default stream");
    on->stream = stream;
    return 0;
}

int cudnnBackendCreateDescriptor(int type, void **out)
{
    int s = fake_make(out, FAKE_DNN_DESCRIPTOR, sizeof(descriptor));
    if (!s) ((descriptor *)*out)->type = type;
    return s;
}

int cudnnBackendDestroyDescriptor(void *d)
{
    return fake_drop(d, FAKE_DNN_DESCRIPTOR);
}

int cudnnBackendSetAttribute(void *of, int name, int type, int64_t n, const void *values)
{
    descriptor *d = fake_known(of, FAKE_DNN_DESCRIPTOR);
    const struct rule *r = NULL;
    if (fake_fails()) return FAKE_FAILED;
    for (int i = 0; i < N_RULES; i++)
        if (rules[i].descriptor == d->type && rules[i].attribute == name) r = &rules[i];
    if (!r || r->type != type || n < 1 || (r->n == SOME ? n > SOME : n != r->n) || d->finalized ||
        find(d, name) || d->n == ATTRIBUTES_MAX || (size_t)n * size_of(type) > BYTES_MAX)
        return fake_complain("an attribute is not this descriptor's, or is set late or twice");
    attribute *a = &d->a[d->n++];
    *a = (attribute){.name = name, .type = type, .n = n};
    memcpy(a->v.bytes, values, (size_t)n * size_of(type));
    if (type == DNN_TYPE_HANDLE) (void)fake_known(a->v.pointer[0], FAKE_DNN_HANDLE);
    for (int64_t i = 0; type == DNN_TYPE_DESCRIPTOR && i < n; i++) {
        const descriptor *other = fake_known(a->v.pointer[i], FAKE_DNN_DESCRIPTOR);
        if (!other->finalized || !may_be(name, other))
            return fake_complain("a descriptor is used that is not finalized, or of another kind");
    }
    return 0;
}

/* ---- graphs ---- */

static int ops_of(const descriptor *graph, const descriptor *ops[OPS_MAX])
{
    const attribute *a = find(graph, DNN_OPERATIONGRAPH_OPS);
    for (int64_t i = 0; i < a->n; i++) ops[i] = a->v.pointer[i];
    return (int)a->n;
}

static const int operands[] = {DNN_OP_CONVOLUTION_X, DNN_OP_CONVOLUTION_W,  DNN_OP_CONVOLUTION_Y,
                               DNN_OP_POINTWISE_X,   DNN_OP_POINTWISE_B,    DNN_OP_POINTWISE_Y,
                               DNN_OP_ATTENTION_Q,   DNN_OP_ATTENTION_K,    DNN_OP_ATTENTION_V,
                               DNN_OP_ATTENTION_O,   DNN_OP_ATTENTION_SCALE};
enum { N_OPERANDS = sizeof operands / sizeof *operands };

// The tensors of a graph, each once.
static int tensors_of(const descriptor *graph, const descriptor *t[PLACES_MAX])
{
    const descriptor *ops[OPS_MAX];
    int n = 0, n_ops = ops_of(graph, ops);
    for (int i = 0; i < n_ops; i++)
        for (int k = 0; k < N_OPERANDS; k++) {
            const descriptor *o = linked(ops[i], operands[k]);
            int j = 0;
            while (j < n && t[j] != o) j++;
            if (o && j == n && n < PLACES_MAX) t[n++] = o;
        }
    return n;
}

static fake_map map_of(const descriptor *t, void *data)
{
    fake_map m = {.data = data, .dtype = find(t, DNN_TENSOR_DATA_TYPE)->v.word};
    for (int i = 0; i < 4; i++) {
        m.dim[i] = find(t, DNN_TENSOR_DIMENSIONS)->v.integer[i];
        m.stride[i] = find(t, DNN_TENSOR_STRIDES)->v.integer[i];
    }
    return m;
}

static int64_t bytes_of(const descriptor *t)
{
    const fake_map m = map_of(t, NULL);
    int64_t last = 0;
    for (int i = 0; i < 4; i++) last += (m.dim[i] - 1) * m.stride[i];
    return (last + 1) * (m.dtype == DNN_FLOAT ? 4 : 2);
}

static int64_t workspace_of(const descriptor *graph)
{
    const descriptor *t[PLACES_MAX];
    int64_t sum = 0;
    for (int i = 0, n = tensors_of(graph, t); i < n; i++)
        if (flag(t[i], DNN_TENSOR_IS_VIRTUAL)) sum += (bytes_of(t[i]) + 255) / 256 * 256;
    return sum + EXTRA;
}

static bool is(const descriptor *d, int name, int value)
{
    return find(d, name)->v.word == value;
}

// What the kernels take for granted: values of an operation, float32 between operations, tensors that can be told apart.
static bool as_expected(const descriptor *graph)
{
    const descriptor *ops[OPS_MAX], *t[PLACES_MAX];
    for (int i = 0, n = ops_of(graph, ops); i < n; i++) {
        const descriptor *c = linked(ops[i], DNN_OP_CONVOLUTION_DESC),
                         *p = linked(ops[i], DNN_OP_POINTWISE_DESC);
        if (p && !is(p, DNN_POINTWISE_MATH_PREC, DNN_FLOAT)) return false;
        if (!c) continue;
        const int64_t *dilations = find(c, DNN_CONVOLUTION_DILATIONS)->v.integer,
                      *strides = find(c, DNN_CONVOLUTION_STRIDES)->v.integer;
        if (!is(c, DNN_CONVOLUTION_COMP_TYPE, DNN_FLOAT) ||
            !is(c, DNN_CONVOLUTION_CONV_MODE, DNN_CROSS_CORRELATION) ||
            find(c, DNN_CONVOLUTION_SPATIAL_DIMS)->v.integer[0] != 2 || dilations[0] != 1 ||
            dilations[1] != 1 || strides[0] != strides[1])
            return false;
    }
    for (int i = 0, n = tensors_of(graph, t); i < n; i++) {
        if (flag(t[i], DNN_TENSOR_IS_VIRTUAL) && !is(t[i], DNN_TENSOR_DATA_TYPE, DNN_FLOAT))
            return false;
        for (int k = 0; k < i; k++)
            if (find(t[i], DNN_TENSOR_UNIQUE_ID)->v.integer[0] ==
                find(t[k], DNN_TENSOR_UNIQUE_ID)->v.integer[0])
                return false;
    }
    return true;
}

// A convolution and what may follow it, or attention by itself; nothing else.
static bool known(const descriptor *graph)
{
    const descriptor *ops[OPS_MAX];
    int n = ops_of(graph, ops);
    if (ops[0]->type == DNN_OP_ATTENTION) return n == 1;
    for (int i = 0; i < n; i++)
        if (ops[i]->type != (i ? DNN_OP_POINTWISE : DNN_OP_CONVOLUTION)) return false;
    return true;
}

int cudnnBackendFinalize(void *of)
{
    descriptor *d = fake_known(of, FAKE_DNN_DESCRIPTOR);
    if (fake_fails()) return FAKE_FAILED;
    for (int i = 0; i < N_RULES; i++)
        if (rules[i].descriptor == d->type && rules[i].needed && !find(d, rules[i].attribute))
            return fake_complain("an attribute is missing");
    if (d->type == DNN_OPERATIONGRAPH && !known(d)) return NOT_SUPPORTED;
    if (d->type == DNN_OPERATIONGRAPH && !as_expected(d))
        return fake_complain("an operation is another one, a tensor between two is narrow, or two "
                             "have one number");
    if (d->type == DNN_PLAN) {
        const descriptor *config = linked(d, DNN_PLAN_ENGINE_CONFIG);
        if (config->way == WAY_UNBUILT) return NOT_SUPPORTED;
        d->workspace = workspace_of(config->graph);
    }
    d->finalized = true;
    return 0;
}

static int propose(const descriptor *heuristics, int64_t wanted, int64_t *n, void **configs)
{
    bool fallback = find(heuristics, DNN_ENGINEHEUR_MODE)->v.word == DNN_HEUR_MODE_FALLBACK;
    *n = fake_mode("none") ? 0 : fallback ? 1 : WAYS_A;
    if (*n > wanted) *n = wanted;
    for (int64_t i = 0; i < *n; i++) {
        descriptor *c = fake_known(configs[i], FAKE_DNN_DESCRIPTOR);
        if (c->type != DNN_ENGINECFG || c->finalized)
            return fake_complain("not room for configurations");
        c->finalized = true;
        c->graph = linked(heuristics, DNN_ENGINEHEUR_OPERATION_GRAPH);
        c->way = fallback ? WAY_FALLBACK : (int)i;
    }
    return 0;
}

int cudnnBackendGetAttribute(void *of, int name, int type, int64_t wanted, int64_t *n, void *values)
{
    descriptor *d = fake_known(of, FAKE_DNN_DESCRIPTOR);
    if (fake_fails()) return FAKE_FAILED;
    if (d->type == DNN_ENGINEHEUR && name == DNN_ENGINEHEUR_RESULTS && type == DNN_TYPE_DESCRIPTOR)
        return propose(d, wanted, n, values);
    *n = 1;
    if (d->type == DNN_ENGINECFG && name == DNN_ENGINECFG_ENGINE && type == DNN_TYPE_DESCRIPTOR) {
        descriptor *engine = fake_known(*(void **)values, FAKE_DNN_DESCRIPTOR);
        if (engine->type != DNN_ENGINE) return fake_complain("not room for an engine");
        engine->way = d->way;
        return 0;
    }
    if (d->type == DNN_ENGINE && name == DNN_ENGINE_NUMERICAL_NOTE &&
        type == DNN_TYPE_NUMERICAL_NOTE && wanted >= 2) {
        static const int notes[] = {DNN_NOTE_TENSOR_CORE, 4}; // the second: not deterministic
        *n = d->way == WAY_UNORDERED ? 2 : 1;
        memcpy(values, notes, sizeof notes);
        return 0;
    }
    if (d->type == DNN_ENGINE && name == DNN_ENGINE_BEHAVIOR_NOTE &&
        type == DNN_TYPE_BEHAVIOR_NOTE && wanted >= 1) {
        *n = d->way != WAY_FALLBACK;
        *(int *)values = DNN_BEHAVIOR_COMPILATION;
        return 0;
    }
    if (d->type == DNN_PLAN && d->finalized && name == DNN_PLAN_WORKSPACE_SIZE &&
        type == DNN_TYPE_INT64) {
        memcpy(values, &d->workspace, sizeof d->workspace);
        return 0;
    }
    return fake_complain("an attribute is asked for that is not there");
}

/* ---- running ---- */

typedef struct places {
    const descriptor *t[PLACES_MAX];
    void *data[PLACES_MAX]; // on the host where the tensor is a value
    int n;
} places;

// Every tensor in memory has its pointer in the pack; the others lie in the workspace.
static void place_all(places *p, const descriptor *graph, const descriptor *pack)
{
    const attribute *ids = find(pack, DNN_PACK_UNIQUE_IDS),
                    *pointers = find(pack, DNN_PACK_DATA_POINTERS);
    char *next = find(pack, DNN_PACK_WORKSPACE)->v.pointer[0];
    int64_t used = 0;
    p->n = tensors_of(graph, p->t);
    for (int i = 0; i < p->n; i++) {
        const descriptor *t = p->t[i];
        p->data[i] = NULL;
        if (flag(t, DNN_TENSOR_IS_VIRTUAL)) {
            p->data[i] = next;
            next += (bytes_of(t) + 255) / 256 * 256;
            continue;
        }
        for (int64_t k = 0; k < ids->n; k++)
            if (ids->v.integer[k] == find(t, DNN_TENSOR_UNIQUE_ID)->v.integer[0])
                p->data[i] = pointers->v.pointer[k], used++;
        if (!p->data[i] ||
            !fake_aligned(p->data[i], (size_t)find(t, DNN_TENSOR_BYTE_ALIGNMENT)->v.integer[0]))
            fake_complain("a tensor has no memory, or it is not aligned");
    }
    if (ids->n != pointers->n || used != ids->n) fake_complain("a pointer is nobody's tensor");
}

static fake_map operand(const places *p, const descriptor *op, int name)
{
    const descriptor *t = linked(op, name);
    int i = 0;
    while (p->t[i] != t) i++;
    return map_of(t, p->data[i]);
}

static int run_conv(const places *p, const descriptor *op, cudaStream_t stream)
{
    const descriptor *f = linked(op, DNN_OP_CONVOLUTION_DESC);
    const fake_map x = operand(p, op, DNN_OP_CONVOLUTION_X),
                   w = operand(p, op, DNN_OP_CONVOLUTION_W),
                   y = operand(p, op, DNN_OP_CONVOLUTION_Y);
    const int64_t *stride = find(f, DNN_CONVOLUTION_STRIDES)->v.integer,
                  *before = find(f, DNN_CONVOLUTION_PRE_PADDINGS)->v.integer,
                  *after = find(f, DNN_CONVOLUTION_POST_PADDINGS)->v.integer;
    for (int i = 0; i < 2; i++)
        if (y.dim[2 + i] != (x.dim[2 + i] + before[i] + after[i] - w.dim[2 + i]) / stride[i] + 1)
            return fake_complain("the sides of a convolution don't fit");
    if (x.dim[1] != w.dim[1] || y.dim[1] != w.dim[0] || x.stride[1] != 1 || y.stride[1] != 1 ||
        x.dtype != w.dtype || find(op, DNN_OP_CONVOLUTION_ALPHA)->v.real != 1 ||
        find(op, DNN_OP_CONVOLUTION_BETA)->v.real != 0)
        return fake_complain("a convolution is not NHWC, or scales");
    fake_count(FAKE_CONVOLUTION);
    return fake_conv_launch(&y, &x, &w, stride[0], before, stream) ? FAKE_FAILED : 0;
}

static int run_attention(const places *p, const descriptor *op, cudaStream_t stream)
{
    const fake_map q = operand(p, op, DNN_OP_ATTENTION_Q), k = operand(p, op, DNN_OP_ATTENTION_K),
                   v = operand(p, op, DNN_OP_ATTENTION_V), o = operand(p, op, DNN_OP_ATTENTION_O),
                   scale = operand(p, op, DNN_OP_ATTENTION_SCALE);
    if (q.dim[3] != k.dim[3] || k.dim[2] != v.dim[2] || o.dim[2] != q.dim[2] ||
        o.dim[3] != v.dim[3] || q.dtype != k.dtype || q.dtype != v.dtype || q.dtype == DNN_FLOAT)
        return fake_complain("the sides or types of attention don't fit");
    if (q.stride[3] != 1 || k.stride[3] != 1 || v.stride[3] != 1 || o.stride[3] != 1 ||
        o.dim[3] > 512)
        return fake_complain("heads of attention are no rows, or too long");
    if (!flag(linked(op, DNN_OP_ATTENTION_SCALE), DNN_TENSOR_IS_BY_VALUE))
        return fake_complain("the scale is no value");
    fake_count(FAKE_ATTENTION);
    return fake_attention_launch(&o, &q, &k, &v, *(float *)scale.data, stream) ? FAKE_FAILED : 0;
}

static int run_op(const places *p, const descriptor *op, cudaStream_t stream)
{
    if (op->type == DNN_OP_CONVOLUTION) return run_conv(p, op, stream);
    if (op->type == DNN_OP_ATTENTION) return run_attention(p, op, stream);
    const fake_map x = operand(p, op, DNN_OP_POINTWISE_X), y = operand(p, op, DNN_OP_POINTWISE_Y);
    const int mode = find(linked(op, DNN_OP_POINTWISE_DESC), DNN_POINTWISE_MODE)->v.word;
    const bool two = linked(op, DNN_OP_POINTWISE_B) != NULL;
    fake_map b = {0};
    if (two) b = operand(p, op, DNN_OP_POINTWISE_B);
    if (two != (mode == DNN_POINTWISE_ADD)) return fake_complain("an operand too many or too few");
    return fake_pointwise_launch(mode, &y, &x, two ? &b : NULL, stream) ? FAKE_FAILED : 0;
}

int cudnnBackendExecute(void *h, void *of, void *with)
{
    const descriptor *plan = fake_known(of, FAKE_DNN_DESCRIPTOR),
                     *pack = fake_known(with, FAKE_DNN_DESCRIPTOR), *ops[OPS_MAX];
    const cudaStream_t stream = ((handle *)fake_known(h, FAKE_DNN_HANDLE))->stream;
    places p;
    if (fake_fails()) return FAKE_FAILED;
    if (plan->type != DNN_PLAN || pack->type != DNN_VARIANT_PACK || !plan->finalized ||
        !pack->finalized || find(plan, DNN_PLAN_HANDLE)->v.pointer[0] != h)
        return fake_complain("no plan, no pack, one that is not finalized, or another handle's");
    const descriptor *graph = linked(plan, DNN_PLAN_ENGINE_CONFIG)->graph;
    void *workspace = find(pack, DNN_PACK_WORKSPACE)->v.pointer[0];
    if (plan->workspace && (!workspace || !fake_aligned(workspace, 256)))
        return fake_complain("the workspace of a plan is missing or not aligned");
    place_all(&p, graph, pack);
    if (fake_scribble_launch(workspace, (size_t)plan->workspace, stream)) return FAKE_FAILED;
    int n = ops_of(graph, ops), s = 0;
    for (int i = 0; i < n && !s; i++) s = run_op(&p, ops[i], stream);
    return s;
}
