// SPDX-License-Identifier: MIT
// src/cuda/vendor on the emulated device, with the stand-ins of fake_vendor.h (vendor_run.sh puts them where they are found): which work is
// the libraries' and which ours, the same bytes for a sample in any batch, choices by measurement and their file, graphs, and every call
// of the libraries failing in turn. That the work is right is held against the oracles of tests/ops, run with SWD_TUNE=vendor.
#include "vendor_job.h"
#include "vendor/cublaslt.h"
#include "vendor/cudnn.h"
#include "vendor/library.h"
#include <dirent.h>

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
    WORK(PRODUCT, SWD_BF16, SWD_F32, 24, 16, 40, 0, .residual = true),
    WORK(PRODUCT, SWD_BF16, SWD_F32, 16, 24, 37, 0, .a_across = true, .b_across = true, .gap = 8),
    WORK(PRODUCT, SWD_BF16, SWD_BF16, 19, 16, 24, 0, .b_across = true, .residual = true),
    WORK(PRODUCT, SWD_BF16, SWD_BF16, 16, 32, 16, 0, .a_across = true, .bias = true),
    WORK(PRODUCT, SWD_F32, SWD_F32, 17, 16, 16, 0, .bias = true, .gap = 16),
    WORK(PRODUCT, SWD_F32, SWD_F32, 24, 40, 19, 0, .a_across = true, .b_across = true,
         .residual = true),
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
    WORK(PRODUCT, SWD_BF16, SWD_F32, 15, 16, 16, 0),                   // few rows
    WORK(PRODUCT, SWD_BF16, SWD_F32, 16, 20, 16, 0),                   // 20 columns
    WORK(PRODUCT, SWD_BF16, SWD_F32, 16, 16, 20, 0),                   // rows of 20
    WORK(PRODUCT, SWD_BF16, SWD_F32, 20, 16, 16, 0, .a_across = true), // lines of 20
    WORK(PRODUCT, SWD_BF16, SWD_F32, 16, 16, 16, 0, .gap = 4),         // not aligned
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

// What a choice needs is never more than what was planned before there were weights to choose for.
static void planned(void)
{
    const char *const modes[] = {"measure", "thorough", "vendor"};
    for (int m = 0; m < 3; m++)
        for (int i = 0; i < N_THEIRS; i++) {
            swd_backend *b = open_backend(modes[m]);
            swd_exec dry = {.backend = b, .err = &error, .dry = true}, plan = dry;
            job j;
            job_open(&j, &theirs[i], b);
            plan_begin(b);
            OK(call(&j, 0, SAMPLES, &plan), error);
            plan_end(b);
            OK(call(&j, 0, SAMPLES, &dry), error);
            CHECK(dry.peak <= plan.peak, "%s, case %d: %zu bytes of workspace, %zu were planned",
                  modes[m], i, dry.peak, plan.peak);
            job_close(&j);
            close_backend(&b);
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
    const int which[] = {0, 9, 13, 17}; // one of each family, without a residual
    for (int i = 0; i < 4; i++) {
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
        size_t bytes = (size_t)(SAMPLES * j.per_sample) * dtype_size(j.t->result);
        CHECK(memcmp(first, second, bytes) == 0, "a graph has other bytes");
        b->release(b, slab);
        job_close(&j);
        stream_destroy(&stream, b);
        close_backend(&b);
    }
}

// What was chosen for a shape is not done where a matrix of it lies off the alignment that the choice needs.
static void unaligned(void)
{
    static uint8_t got[8 * ELEMENTS_MAX], want[8 * ELEMENTS_MAX];
    for (int alone = 0; alone < 2; alone++) {
        swd_backend *b = open_backend(alone ? "ours" : "vendor");
        job j;
        job_open(&j, &theirs[19], b);
        OK(run(&j, 0, SAMPLES, &error), error);
        int before = all_work();
        j.shift = 1;
        OK(run(&j, 0, SAMPLES, &error), error);
        CHECK(all_work() == before, "a library was given what it does not take");
        fetch(alone ? want : got, &j);
        CHECK(!alone || memcmp(got, want, (size_t)(SAMPLES * j.per_sample) * 2) == 0,
              "other bytes than ours");
        job_close(&j);
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
    const int which[] = {6, 10, 13, 19};
    for (int i = 0; i < 4; i++) {
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

/* ---- finding libraries ---- */

// By folder, by SWD_VENDOR_LIBS, and where Python's packages are; under a name that no system knows.
static void libraries(void)
{
    static const char *const names[] = {"libno_such_thing.so", "libswd_stand_in.so", NULL};
    const char *cache = getenv("XDG_CACHE_HOME"), *libs = getenv("SWD_VENDOR_LIBS");
    char command[4096], folder[600], path[1024], folders[2048];
    void *library, *function;
    snprintf(folder, sizeof folder, "%s/python/lib/python3.99/site-packages/nvidia/any/lib", cache);
    snprintf(command, sizeof command,
             "mkdir -p '%s' && ln -s \"$(realpath '%s/libcudnn.so.9')\" '%s/%s'", folder, libs,
             folder, names[1]);
    CHECK(system(command) == 0, "%s", command);
    CHECK(!library_open(path, sizeof path, names, NULL), "found in %s", path);
    snprintf(folders, sizeof folders, "/nowhere::%s", folder);
    for (int i = 0; i < 3; i++) {
        if (i == 1) setenv("SWD_VENDOR_LIBS", folders, 1);
        if (i == 2) {
            setenv("SWD_VENDOR_LIBS", "/nowhere", 1);
            snprintf(path, sizeof path, "%s/python", cache);
            setenv("VIRTUAL_ENV", path, 1);
        }
        library = library_open(path, sizeof path, names, i == 0 ? folders : NULL);
        CHECK(library && strncmp(path, folder, strlen(folder)) == 0, "place %d: %s", i, path);
        CHECK(library_take(&function, library, "cudnnCreate") && function, "no cudnnCreate");
        CHECK(!library_take(&function, library, "cudnnNothing") && !function,
              "a function of no library");
        library_close(&library);
        CHECK(!library, "still there");
    }
}

// One that is no library, one without the functions, one without a handle: none is opened, and why is told.
static void broken_libraries(void)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *libs = getenv("SWD_VENDOR_LIBS");
    char command[4096], folder[600], found[1200];
    cublaslt *lt;
    cudnn *dnn;
    Dl_info libc;
    CHECK(dladdr(stdout, &libc) && libc.dli_fname, "where is the C library?");
    snprintf(folder, sizeof folder, "%s/broken", cache);
    snprintf(command, sizeof command,
             "mkdir '%s' && echo nothing >'%s/libcublasLt.so.13' && ln -s \"$(realpath '%s')\" "
             "'%s/libcudnn.so.9'",
             folder, folder, libc.dli_fname, folder);
    CHECK(system(command) == 0, "%s", command);
    OK(cublaslt_open(&lt, found, sizeof found, folder, &error), error);
    CHECK(!lt && strstr(found, "does not load: ") && strstr(found, folder), "%s", found);
    OK(cudnn_open(&dnn, found, sizeof found, folder, &error), error);
    CHECK(!dnn && strstr(found, "has no cudnnCreate"), "%s", found);
    OK(cublaslt_open(&lt, found, sizeof found, "/nowhere", &error), error);
    CHECK(!lt && strcmp(found, "not found") == 0, "%s", found);
    fake.fail(1);
    OK(cudnn_open(&dnn, found, sizeof found, libs, &error), error);
    CHECK(!dnn && strstr(found, "gives no handle (status 13)"), "%s", found);
    OK(cudnn_open(&dnn, found, sizeof found, libs, &error), error);
    CHECK(dnn && strstr(found, ", version "), "%s", found);
    cudnn_close(&dnn);
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
        {"whose", whose},           {"file_of_choices", file_of_choices},
        {"thorough", thorough},     {"graphs", graphs},
        {"unaligned", unaligned},   {"failing_calls", failing_calls},
        {"no_memory", no_memory},   {"planned", planned}, // leaves choices behind
        {"public_api", public_api}, {"broken_libraries", broken_libraries},
        {"libraries", libraries},
    };
    find_fake();
    return tap_run(tests, sizeof tests / sizeof *tests, argc, argv);
}
