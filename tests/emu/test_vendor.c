// SPDX-License-Identifier: MIT
// src/cuda/vendor on the emulated device, with the stand-ins of fake_vendor.h (vendor_run.sh puts them where they are found): which work is
// the libraries' and which ours, the same bytes for a sample in any batch, choices by measurement and their file, graphs, and every call
// of the libraries failing in turn. That the work is right is held against the oracles of tests/ops, run with SWD_TUNE=vendor.
#include "backend/async.h"
#include "backend/devices.h"
#include "backend/ops.h"
#include "base/memory.h"
#include "emu/control.h"
#include "fake_vendor.h"
#include "tiny_folder.h"
#include <dirent.h>
#include <dlfcn.h>
#include <math.h>

enum { SAMPLES = 3, ELEMENTS_MAX = 1 << 16 };
static swd_err error;

/* ---- the stand-ins ---- */

static struct {
    int (*calls)(void);
    void (*fail)(int);
    int (*live)(void);
    int (*work)(int);
} fake;

static void find_fake(void)
{
    char path[1024];
    const char *folder = getenv("SWD_VENDOR_LIBS");
    CHECK(folder, "SWD_VENDOR_LIBS is not set: run by vendor_run.sh");
    snprintf(path, sizeof path, "%s/libcudnn.so.9", folder);
    void *module = dlopen(path, RTLD_NOW);
    CHECK(module, "%s", dlerror());
    void *const found[] = {dlsym(module, "fake_vendor_calls"), dlsym(module, "fake_vendor_fail"),
                           dlsym(module, "fake_vendor_live"), dlsym(module, "fake_vendor_work")};
    memcpy(&fake, found, sizeof fake);
    CHECK(fake.calls && fake.fail && fake.live && fake.work, "not the stand-ins");
}

/* ---- what is said ---- */

static char said[1 << 16];

static void hear(void *ctx, swd_log_level level, const char *text)
{
    (void)ctx, (void)level;
    size_t n = strlen(said);
    snprintf(said + n, sizeof said - n, "%s\n", text);
}

static const swd_log ear = {SWD_LOG_DEBUG, hear, NULL};

static swd_backend *open_backend(const char *mode)
{
    char note[DEVICE_NOTE_MAX];
    swd_backend *b;
    OK(device_open(&b, note, "cuda", 1, &error), error);
    OK(b->set_tune(b, mode, &error), error);
    b->log = &ear;
    said[0] = '\0';
    return b;
}

static void close_backend(swd_backend **b)
{
    backend_destroy(b);
    CHECK(fake.live() == 0, "%d descriptors of the libraries are left", fake.live());
    CHECK(emu_live_bytes() == 0, "%zu bytes of the device are left", emu_live_bytes());
}

/* ---- one op: operands full of numbers, dry, then in a slab of what that asked for ---- */

typedef enum family { LINEAR, CONV, ATTENTION } family;

typedef struct trial {
    family family;
    swd_dtype compute, result;
    int64_t rows, n, k; // linear; conv: side, out, in; attention: tokens, heads, head_dim
    swd_act act;
    bool bias, wide_bias, residual, gate, upsample, causal, flat;
    int64_t gap; // between rows
} trial;

static float number(int64_t i)
{
    return (float)((i * 7919 + 13) % 251 - 125) / 128.0f;
}

// Numbers of any storage on the device, [n] of them.
static void *operand(swd_backend *b, swd_dtype dtype, int64_t n, int64_t from)
{
    static uint16_t narrow[ELEMENTS_MAX];
    static float wide[ELEMENTS_MAX];
    CHECK(n <= ELEMENTS_MAX, "%lld elements", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        wide[i] = number(i + from);
        narrow[i] = dtype == SWD_BF16 ? f32_to_bf16(wide[i]) : f32_to_f16(wide[i]);
    }
    void *p = b->alloc(b, (size_t)n * dtype_size(dtype));
    CHECK(p, "no memory");
    OK(b->upload(b, tensor1(p, dtype, n), dtype == SWD_F32 ? (void *)wide : narrow, NULL, &error),
       error);
    OK(b->synchronize(b, NULL, &error), error);
    return p;
}

typedef struct job {
    const trial *t;
    swd_backend *b;
    swd_linear *linear;
    swd_conv *conv;
    int64_t per_sample; // elements of the result, with its gaps
    void *memory[4];    // result, operand, residual, gate
} job;

static void job_open(job *j, const trial *t, swd_backend *b)
{
    static float weight[ELEMENTS_MAX], bias[1024];
    *j = (job){.t = t, .b = b};
    int64_t taps = t->family == CONV ? 9 : 1;
    for (int64_t i = 0; i < t->n * t->k * taps; i++) weight[i] = number(3 * i) / 8;
    for (int64_t i = 0; i < t->n; i++) bias[i] = t->wide_bias ? 1 / (float)(i + 3) : number(i);
    swd_tensor c = t->bias ? tensor1(bias, SWD_F32, t->n) : tensor_none();
    int64_t x = t->rows * (t->k + t->gap), y = t->rows * (t->n + t->gap);
    if (t->family == LINEAR) {
        OK(b->linear_create(b, &j->linear, tensor2(weight, SWD_F32, t->n, t->k), c, t->compute,
                            &error),
           error);
    } else if (t->family == CONV) {
        OK(b->conv_create(b, &j->conv, tensor4(weight, SWD_F32, t->n, t->k, 3, 3), c, 1, 1, 1,
                          t->upsample, t->compute, &error),
           error);
        x = t->rows * t->rows * t->k;
        y = t->rows * t->rows * t->n * (t->upsample ? 4 : 1);
    } else {
        x = 3 * t->rows * t->n * t->k, y = x / 3;
    }
    j->per_sample = y;
    j->memory[0] = operand(b, t->result, SAMPLES * y, 5);
    j->memory[1] = operand(b, t->compute, SAMPLES * x, 1);
    if (t->residual) j->memory[2] = operand(b, t->result, SAMPLES * y, 5);
    if (t->gate) j->memory[3] = operand(b, SWD_F32, SAMPLES * t->n, 3);
}

static void job_close(job *j)
{
    for (int i = 0; i < 4; i++) j->b->release(j->b, j->memory[i]);
    if (j->linear) j->b->linear_destroy(j->b, &j->linear);
    if (j->conv) j->b->conv_destroy(j->b, &j->conv);
}

// Rows of samples [from, from + n); dry: without place.
static swd_tensor rows_of(const job *j, int which, swd_dtype dtype, int64_t columns, int64_t from,
                          int64_t n, bool dry)
{
    const int64_t stride = columns + j->t->gap;
    char *p = (char *)j->memory[which] + from * j->t->rows * stride * (int64_t)dtype_size(dtype);
    swd_tensor t = tensor3(dry ? NULL : p, dtype, n, j->t->rows, columns);
    t.stride[1] = stride;
    t.stride[0] = j->t->rows * stride;
    if (!j->t->flat) return t;
    t = tensor2(t.data, dtype, n * j->t->rows, columns);
    t.stride[0] = stride;
    return t;
}

static swd_status call(const job *j, int64_t from, int64_t n, swd_exec *ex)
{
    const trial *t = j->t;
    const bool dry = ex->dry;
    if (t->family == LINEAR) {
        swd_tensor y = rows_of(j, 0, t->result, t->n, from, n, dry),
                   x = rows_of(j, 1, t->compute, t->k, from, n, dry),
                   gate =
                       tensor2(dry ? NULL : (float *)j->memory[3] + from * t->n, SWD_F32, n, t->n);
        if (!t->residual) return op_linear(y, x, j->linear, t->act, ex);
        return op_linear_residual(y, y, t->gate ? gate : tensor_none(), x, j->linear, ex);
    }
    const size_t size = dtype_size(t->result);
    char *out = (char *)j->memory[0] + (size_t)(from * j->per_sample) * size,
         *more = t->residual ? (char *)j->memory[2] + (size_t)(from * j->per_sample) * size : NULL;
    if (t->family == CONV) {
        int64_t side = t->rows * (t->upsample ? 2 : 1);
        char *in = (char *)j->memory[1] +
                   (size_t)(from * t->rows * t->rows * t->k) * dtype_size(t->compute);
        swd_tensor y = tensor4(dry ? NULL : out, t->result, n, side, side, t->n),
                   x = tensor4(dry ? NULL : in, t->compute, n, t->rows, t->rows, t->k),
                   r = tensor4(dry ? NULL : more, t->result, n, side, side, t->n);
        return t->upsample ? op_upsample_conv(y, x, j->conv, ex)
                           : op_conv(y, x, j->conv, t->act, t->residual ? r : tensor_none(), ex);
    }
    char *in =
        (char *)j->memory[1] + (size_t)(from * 3 * t->rows * t->n * t->k) * dtype_size(t->compute);
    attention_args a = {.n_streams = 1, .scale = 0.125f, .causal = t->causal};
    swd_tensor qkv = tensor3(dry ? NULL : in, t->compute, n, t->rows, 3 * t->n * t->k), part[3];
    for (int i = 0; i < 3; i++)
        part[i] = tensor_split_last(tensor_slice(qkv, 2, i * t->n * t->k, t->n * t->k), t->k);
    a.q[0] = part[0], a.k[0] = part[1], a.v[0] = part[2];
    a.o[0] = tensor4(dry ? NULL : out, t->result, n, t->rows, t->n, t->k);
    return op_attention(&a, ex);
}

static swd_status run(const job *j, int64_t from, int64_t n, swd_err *err)
{
    swd_exec dry = {.backend = j->b, .err = err, .dry = true};
    SWD_TRY(call(j, from, n, &dry), err);
    swd_exec ex = {.backend = j->b, .err = err, .slab_bytes = dry.peak};
    ex.slab = j->b->alloc(j->b, dry.peak);
    if (!ex.slab) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a slab");
    swd_status s = call(j, from, n, &ex);
    if (s == SWD_OK) s = j->b->synchronize(j->b, NULL, err);
    j->b->release(j->b, ex.slab);
    return s;
}

static void fetch(uint8_t *out, const job *j)
{
    swd_backend *b = j->b;
    int64_t n = SAMPLES * j->per_sample;
    OK(b->download(b, out, tensor1(j->memory[0], j->t->result, n), NULL, &error), error);
    OK(b->synchronize(b, NULL, &error), error);
}

static int all_work(void)
{
    return fake.work(FAKE_PRODUCT) + fake.work(FAKE_CONVOLUTION) + fake.work(FAKE_ATTENTION);
}

/* ---- whose work it is ---- */

#define WORK(f, c, y, r, columns, inner, a, ...)                                                   \
    {                                                                                              \
        .family = f, .compute = c, .result = y, .rows = r, .n = columns, .k = inner, .act = a,     \
        __VA_ARGS__                                                                                \
    }
static const trial theirs[] = {
    WORK(LINEAR, SWD_BF16, SWD_BF16, 17, 24, 16, 0, .bias = true),
    WORK(LINEAR, SWD_BF16, SWD_BF16, 17, 24, 16, SWD_ACT_GELU_TANH, .bias = true, .gap = 8),
    WORK(LINEAR, SWD_BF16, SWD_BF16, 16, 24, 16, SWD_ACT_QUICK_GELU, .bias = true),
    WORK(LINEAR, SWD_BF16, SWD_BF16, 16, 24, 16, SWD_ACT_GELU_ERF, .bias = true, .wide_bias = true),
    WORK(LINEAR, SWD_BF16, SWD_F32, 16, 8, 16, SWD_ACT_RELU),
    WORK(LINEAR, SWD_BF16, SWD_F32, 19, 24, 16, 0, .bias = true, .residual = true),
    WORK(LINEAR, SWD_BF16, SWD_F32, 19, 24, 16, 0, .bias = true, .residual = true, .gate = true),
    WORK(LINEAR, SWD_F16, SWD_F16, 33, 16, 8, SWD_ACT_SILU, .gap = 16),
    WORK(LINEAR, SWD_F32, SWD_F32, 16, 24, 16, 0, .bias = true),
    WORK(CONV, SWD_BF16, SWD_BF16, 6, 8, 16, 0, .bias = true),
    WORK(CONV, SWD_BF16, SWD_BF16, 5, 16, 8, 0, .bias = true, .residual = true),
    WORK(CONV, SWD_F16, SWD_F16, 5, 8, 8, SWD_ACT_RELU, .bias = true),
    WORK(CONV, SWD_BF16, SWD_BF16, 4, 8, 8, 0),
    WORK(ATTENTION, SWD_BF16, SWD_BF16, 19, 2, 32, 0),
    WORK(ATTENTION, SWD_F16, SWD_F16, 16, 1, 64, 0),
    WORK(ATTENTION, SWD_BF16, SWD_F32, 19, 2, 32, 0),
};
static const trial ours[] = {
    WORK(LINEAR, SWD_BF16, SWD_BF16, 15, 24, 16, 0), // few rows
    WORK(LINEAR, SWD_BF16, SWD_BF16, 16, 20, 16, 0), // 20 columns
    WORK(LINEAR, SWD_BF16, SWD_F16, 16, 24, 16, 0),  // another narrow type
    WORK(LINEAR, SWD_BF16, SWD_BF16, 16, 24, 16, 0, .gap = 2),
    WORK(LINEAR, SWD_BF16, SWD_BF16, 16, 24, 16, 0, .flat = true), // rows may be samples
    WORK(LINEAR, SWD_BF16, SWD_BF16, 16, 24, 16, 0, .bias = true, .wide_bias = true,
         .residual = true),
    WORK(CONV, SWD_BF16, SWD_BF16, 4, 8, 8, 0, .upsample = true),
    WORK(CONV, SWD_BF16, SWD_BF16, 4, 8, 8, SWD_ACT_SILU),
    WORK(CONV, SWD_BF16, SWD_F32, 4, 8, 8, 0),
    WORK(CONV, SWD_BF16, SWD_BF16, 4, 12, 8, 0),
    WORK(CONV, SWD_F32, SWD_F32, 4, 8, 8, 0),
    WORK(ATTENTION, SWD_BF16, SWD_BF16, 19, 2, 32, 0, .causal = true),
    WORK(ATTENTION, SWD_F32, SWD_F32, 19, 2, 32, 0),
};
enum { N_THEIRS = sizeof theirs / sizeof *theirs, N_OURS = sizeof ours / sizeof *ours };

static float value(const uint8_t *p, swd_dtype dtype, int64_t i)
{
    uint16_t h;
    float f;
    if (dtype == SWD_F32) return memcpy(&f, p + 4 * i, 4), f;
    memcpy(&h, p + 2 * i, 2);
    return dtype == SWD_BF16 ? bf16_to_f32(h) : f16_to_f32(h);
}

// Two ways of computing the same, from the same operands: apart by roundings to the type of the arithmetic.
static void close_to_ours(const uint8_t *got, const trial *t, int number_of)
{
    static uint8_t want[8 * ELEMENTS_MAX];
    const double unit = t->compute == SWD_BF16 ? 0x1p-8 : t->compute == SWD_F16 ? 0x1p-11 : 0x1p-20;
    swd_backend *b = open_backend("ours");
    double most = 0, off = 0;
    job j;
    job_open(&j, t, b);
    OK(run(&j, 0, SAMPLES, &error), error);
    fetch(want, &j);
    for (int64_t i = 0; i < SAMPLES * j.per_sample; i++) {
        double x = (double)value(got, t->result, i), y = (double)value(want, t->result, i);
        most = fabs(y) > most ? fabs(y) : most;
        off = fabs(x - y) > off ? fabs(x - y) : off;
    }
    CHECK(most > 0 && off <= 2 * unit * most, "case %d: %g from ours, whose largest is %g",
          number_of, off, most);
    job_close(&j);
    close_backend(&b);
}

// Whose work it is, that it is the same work, and: the bytes of a sample alone are those that it has among three.
static void whose(void)
{
    static uint8_t together[8 * ELEMENTS_MAX], alone[8 * ELEMENTS_MAX];
    for (int i = 0; i < N_THEIRS + N_OURS; i++) {
        bool library = i < N_THEIRS;
        const trial *t = library ? &theirs[i] : &ours[i - N_THEIRS];
        for (int once = 0; once < 2; once++) {
            swd_backend *b = open_backend("vendor");
            job j;
            job_open(&j, t, b);
            int before = all_work();
            if (!once) OK(run(&j, 0, SAMPLES, &error), error);
            for (int s = 0; once && s < SAMPLES; s++) OK(run(&j, s, 1, &error), error);
            CHECK((all_work() > before) == library, "case %d of %s: %d calls of a library",
                  library ? i : i - N_THEIRS, library ? "theirs" : "ours", all_work() - before);
            fetch(once ? alone : together, &j);
            size_t bytes = (size_t)(SAMPLES * j.per_sample) * dtype_size(t->result);
            CHECK(!once || memcmp(alone, together, bytes) == 0, "case %d: a sample differs alone",
                  i);
            job_close(&j);
            close_backend(&b);
        }
        if (library) close_to_ours(together, t, i);
    }
}

/* ---- measuring, and what is kept ---- */

static int files_in_cache(char path[1024])
{
    char folder[600];
    int n = 0;
    snprintf(folder, sizeof folder, "%s/swd", getenv("XDG_CACHE_HOME"));
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, 1024, "%s/%s", folder, e->d_name);
        n++;
    }
    if (d) closedir(d);
    return n;
}

// One linear layer; how often a library worked for it.
static int measure_once(const char *mode)
{
    swd_backend *b = open_backend(mode);
    job j;
    job_open(&j, &theirs[0], b);
    int before = all_work();
    OK(run(&j, 0, SAMPLES, &error), error);
    int n = all_work() - before;
    job_close(&j);
    close_backend(&b);
    return n;
}

static void rewrite(const char *path, void (*spoil)(char *text))
{
    static char text[1 << 16];
    FILE *f = fopen(path, "r");
    CHECK(f, "%s", path);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    spoil(text);
    f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0, "%s", path);
}

static void choose_ours(char *text)
{
    char *choice = strchr(text, '\t');
    CHECK(choice, "no choice in the file");
    choice[1] = 'X';
}

static void cut(char *text)
{
    text[strlen(text) / 2] = '\0';
}

static void other_device(char *text)
{
    strchr(text, '\n')[1] = '#';
}

static void lose_all(char *text)
{
    text[0] = '\0';
}

static void file_of_choices(void)
{
    char path[1024];
    CHECK(measure_once("off") == 0, "off measures");
    CHECK(files_in_cache(path) == 0, "off writes %s", path);
    CHECK(measure_once("measure") > 6, "measure runs the proposals");
    CHECK(strstr(said, "cuBLASLt: ") && strstr(said, "version 1") &&
              strstr(said, "linear 17 x 24 x 16"),
          "it is not said:\n%s", said);
    CHECK(files_in_cache(path) == 1, "one file of choices");
    bool library = strstr(said, ": cuBLASLt,") != NULL;
    for (int i = 0; i < 2; i++) { // from the file, without another measurement
        CHECK(measure_once(i ? "off" : "measure") == (library ? SAMPLES : 0),
              "the file is not obeyed");
        CHECK(strstr(said, "1 choices from"), "%s", said);
    }
    CHECK(measure_once("ours") == 0 && !strstr(said, "cuBLASLt"), "ours loads the libraries");
    void (*const spoils[])(char *) = {choose_ours, cut, other_device, lose_all};
    const char *const told[] = {"is damaged", "is cut off", "is of another device",
                                "is no list of choices"};
    for (int i = 0; i < 4; i++) {
        rewrite(path, spoils[i]);
        CHECK(measure_once("measure") > 6, "a spoilt file is believed");
        CHECK(strstr(said, told[i]), "%s is not said:\n%s", told[i], said);
        CHECK(measure_once("measure") <= SAMPLES, "the file was not written anew");
    }
    CHECK(unlink(path) == 0, "%s", path);
    // A folder that nobody can write to: said, no failure.
    char *cache = getenv("XDG_CACHE_HOME"), kept[1024];
    snprintf(kept, sizeof kept, "%s", cache);
    setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
    CHECK(measure_once("measure") > 6 && strstr(said, "no folder for choices"), "%s", said);
    setenv("XDG_CACHE_HOME", kept, 1);
    swd_backend *b = open_backend("ours");
    CHECK(b->set_tune(b, "sometimes", &error) == SWD_ERR_ARGUMENT, "an unknown mode");
    swd_err_clear(&error);
    close_backend(&b);
}

// Ways of cuDNN that are compiled at every start are tried where that was asked for.
static void thorough(void)
{
    int n[2];
    for (int i = 0; i < 2; i++) {
        swd_backend *b = open_backend(i ? "thorough" : "measure");
        job j;
        job_open(&j, &theirs[13], b);
        int before = all_work();
        OK(run(&j, 0, 1, &error), error);
        n[i] = all_work() - before;
        CHECK(i == 0 || strstr(said, ", compiled too: "), "%s", said);
        job_close(&j);
        before =
            all_work(); // a convolution with its bias is always compiled: no second copy of its weight
        job_open(&j, &theirs[10], b);
        OK(run(&j, 0, 1, &error), error);
        CHECK((all_work() > before) == i, "%d runs of a convolution", all_work() - before);
        job_close(&j);
        close_backend(&b);
    }
    CHECK(n[0] > 5 && n[1] > 10, "%d and %d runs of a library", n[0], n[1]);
}

/* ---- graphs ---- */

static void graphs(void)
{
    static uint8_t first[8 * ELEMENTS_MAX], second[8 * ELEMENTS_MAX];
    const int which[] = {0, 9, 13}; // one of each family, without a residual
    for (int i = 0; i < 3; i++) {
        swd_backend *b = open_backend("vendor");
        swd_stream *stream;
        swd_graph *g;
        job j;
        OK(stream_create(&stream, b, &error), error);
        job_open(&j, &theirs[which[i]], b);
        unsigned char *slab = b->alloc(b, 1 << 16);
        for (int known = 0; known < 2; known++) {
            int before = all_work();
            swd_exec ex = {
                .backend = b, .stream = stream, .err = &error, .slab = slab, .slab_bytes = 1 << 16};
            OK(graph_capture(stream, b, &error), error);
            OK(call(&j, 0, SAMPLES, &ex), error);
            OK(graph_capture_end(&g, stream, b, &error), error);
            CHECK((all_work() > before) == known, "in a graph, %s: %d calls of a library",
                  known ? "chosen before" : "not chosen yet", all_work() - before);
            for (int r = 0; r < 2; r++) OK(graph_launch(g, stream, b, &error), error);
            OK(b->synchronize(b, stream, &error), error);
            fetch(second, &j);
            graph_destroy(&g, b);
            if (known) continue;
            OK(run(&j, 0, SAMPLES, &error), error);
            fetch(first, &j);
        }
        size_t bytes = (size_t)(SAMPLES * j.per_sample) * 2;
        CHECK(memcmp(first, second, bytes) == 0, "a graph has other bytes");
        b->release(b, slab);
        job_close(&j);
        stream_destroy(&stream, b);
        close_backend(&b);
    }
}

/* ---- failures ---- */

// Everything of one backend and one op; the status of the op.
static swd_status once(const trial *t, const char *mode, int fail_at, int *n_calls)
{
    swd_backend *b = open_backend(mode);
    swd_err err = {0};
    job j;
    int before = fake.calls();
    fake.fail(fail_at);
    job_open(&j, t, b);
    swd_status s = run(&j, 0, SAMPLES, &err);
    fake.fail(0);
    *n_calls = fake.calls() - before;
    CHECK(s == SWD_OK || strstr(err.message, "status 13"), "call %d fails: \"%s\"", fail_at,
          err.message);
    swd_err again = {0};
    CHECK(run(&j, 0, SAMPLES, &again) == SWD_OK, "after call %d failed: %s", fail_at,
          again.message);
    job_close(&j);
    close_backend(&b);
    return s;
}

static void failing_calls(void)
{
    const int which[] = {6, 10, 13};
    for (int i = 0; i < 3; i++) {
        int n, ignored, failed = 0;
        (void)once(&theirs[which[i]], "vendor", 0, &n);
        int step = only_small() ? 13 : n > 100 ? 3 : 1; // of a few kinds, each again and again
        for (int k = 1; k <= n; k += step)
            failed += once(&theirs[which[i]], "vendor", k, &ignored) != SWD_OK;
        printf("# every %d. of %d calls, %d of them failed the op\n", step, n, failed);
        CHECK((failed > 0 || only_small()) && failed < n / step, "%d of %d failed", failed, n);
    }
}

// No memory to measure with: told by the op that runs next, once.
static void no_memory(void)
{
    swd_backend *b = open_backend("measure");
    job j;
    job_open(&j, &theirs[1], b);
    for (int k = 1; k <= 4; k++) {
        swd_err err = {0};
        emu_fail_allocation(k);
        CHECK(run(&j, 0, 1, &err) == SWD_ERR_MEMORY && strstr(err.message, "SWD_TUNE=ours"),
              "allocation %d: \"%s\"", k, err.message);
        emu_fail_allocation(0);
    }
    OK(run(&j, 0, 1, &error), error);
    job_close(&j);
    close_backend(&b);
}

/* ---- by the public API ---- */

static void hear_line(void *user, const char *line)
{
    (void)user;
    hear(NULL, SWD_LOG_INFO, line);
}

static void public_api(void)
{
    const char *const modes[] = {"vendor", "ours", "sometimes"};
    for (int i = 0; i < 3; i++) {
        swd_open_params o = opening(tiny_model(), "cuda", SWD_PRECISION_AUTO);
        swd_context *ctx;
        o.tune = modes[i];
        o.log = hear_line;
        said[0] = '\0';
        ctx = opened(&o);
        swd_status s = swd_load(ctx);
        CHECK(s == (i == 2 ? SWD_ERR_ARGUMENT : SWD_OK), "%s: %s", modes[i], swd_message(ctx));
        CHECK(i != 2 || strstr(swd_message(ctx), "\"sometimes\" is not known"), "%s",
              swd_message(ctx));
        CHECK((strstr(said, "cuDNN: ") != NULL) == (i == 0), "%s: \"%s\"", modes[i], said);
        swd_close(&ctx);
    }
    CHECK(fake.live() == 0 && emu_live_bytes() == 0, "something is left");
}

int main(int argc, char **argv)
{
    static const tap_test tests[] = {
        {"whose", whose},           {"file_of_choices", file_of_choices}, {"thorough", thorough},
        {"graphs", graphs},         {"failing_calls", failing_calls},     {"no_memory", no_memory},
        {"public_api", public_api},
    };
    find_fake();
    return tap_run(tests, sizeof tests / sizeof *tests, argc, argv);
}
