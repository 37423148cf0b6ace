// SPDX-License-Identifier: MIT
// What lies in the device's memory when: prompts that are known need no text encoder; networks that take turns (--offload), T5 layer by
// layer, give the same bytes and take what was planned; without being asked where the device is too small. And that the events between the
// copies of T5's layers and their use are needed, as is a place of its own for each of the two: this program starts itself without them.
// With the stand-ins for NVIDIA's libraries (vendor_run.sh) the plan has room for what they may choose to need.
#include "backend/slab.h"
#include "emu/control.h"
#include "pipeline/ahead.h"
#include "pipeline/generate.h"
#include "pipeline/prompt.h"
#include "tiny_folder.h"

static const char *const prompts[] = {"a red apple", "", "a red apple"};
enum {
    N = 3,
    SIDE = 16,
    TEXTS = 3 * 2
}; // two prompts, one of them the negative one, too; three encoders

static swd_err error;

// What the order of a kernel's threads does not touch is tried in one of them.
static bool in_one_order(void)
{
    const char *order = getenv("EMU_SCHED");
    return !only_small() && (!order || strcmp(order, "pct") == 0);
}

static swd_open_params tiny(swd_offload offload)
{
    swd_open_params o = opening(tiny_model(), "cuda", SWD_PRECISION_AUTO);
    o.offload = offload;
    return o;
}

static pipeline *open_it(const swd_open_params *o)
{
    pipeline *p = calloc(1, sizeof *p);
    OK(pipeline_open(p, o, &error), error);
    OK(pipeline_load_backend(p, &error), error);
    return p;
}

static void close_it(pipeline *p)
{
    pipeline_close(p);
    free(p);
    CHECK(emu_live_bytes() == 0, "%zu bytes of the device are left", emu_live_bytes());
}

// n pictures of 16 x 16 in one step, with guidance, so that the negative prompt is there.
static swd_generate_params few(int n)
{
    swd_generate_params a = request(prompts, n);
    a.width = a.height = SIDE;
    a.sampler = SWD_SAMPLER_EULER;
    a.steps = 1;
    a.max_tokens = 4;
    a.guidance = 3;
    a.batch = 1;
    return a;
}

static uint64_t hash_of(const void *bytes, size_t n, uint64_t h)
{
    for (const unsigned char *p = bytes; n > 0; n--) h = (h ^ *p++) * 1099511628211u;
    return h;
}

static char note[768];

static uint64_t pictures(pipeline *p, int n)
{
    swd_result *r = NULL;
    swd_generate_params a = few(n);
    uint64_t h = 14695981039346656037u;
    OK(generate(&r, &a, p, &error), error);
    CHECK(r->n_images == n, "%d pictures of %d", r->n_images, n);
    for (int i = 0; i < n; i++) h = hash_of(r->images[i].rgb, SIDE * SIDE * 3, h);
    snprintf(note, sizeof note, "%s", r->note);
    swd_result_free(&r);
    return h;
}

static size_t peak_of(pipeline *p)
{
    swd_memory m;
    OK(p->backend->memory(p->backend, &m, &error), error);
    return m.peak;
}

/* ---- prompts that are known ---- */

static int n_embedded;
static swd_status (*embed)(swd_backend *, swd_tensor, swd_tensor, swd_tensor, swd_stream *,
                           swd_err *);

static swd_status counted(swd_backend *b, swd_tensor y, swd_tensor table, swd_tensor ids,
                          swd_stream *s, swd_err *err)
{
    n_embedded++;
    return embed(b, y, table, ids, s, err);
}

static void known_prompts(void)
{
    swd_open_params o = tiny(SWD_OFFLOAD_OFF);
    char dir[] = "/tmp/swd-emu-XXXXXX", command[64];
    CHECK(mkdtemp(dir), "no temporary folder");
    o.embeds_cache = dir;
    pipeline *p = open_it(&o);
    embed = p->backend->ops.embed;
    p->backend->ops.embed = counted;
    uint64_t want = pictures(p, N);
    CHECK(n_embedded == TEXTS, "%d texts for three encoders and two prompts", n_embedded);
    n_embedded = 0;
    CHECK(pictures(p, N) == want && n_embedded == 0, "%d texts encoded again", n_embedded);
    p->no_embeds = true;
    CHECK(pictures(p, N) == want && n_embedded > 0, "nothing is encoded without the cache");
    close_it(p);
    p = open_it(&o);
    CHECK(pictures(p, N) == want, "other pictures from the folder");
    CHECK(!p->text_loaded && !p->t5 && !p->clip[0], "text encoders are there");
    close_it(p);
    snprintf(command, sizeof command, "rm -r %s", dir);
    CHECK(system(command) == 0, "%s", command);
}

/* ---- turns ---- */

static size_t pretended; // memory of the device
static size_t most[2];   // held while text is encoded, and afterwards
static const pipeline *watched;
static int plans;        // under way
static swd_backend real; // what is called for the pretending one

static swd_status less_memory(swd_backend *b, swd_memory *out, swd_err *err)
{
    swd_status s = real.memory(b, out, err);
    out->free = pretended > out->held ? pretended - out->held : 0;
    out->total = pretended;
    return s;
}

static void watch(swd_backend *b)
{
    size_t held = backend_held(b), *m = &most[n_embedded == TEXTS && !watched->text_loaded];
    if (plans > 0) return;
    if (held > *m) *m = held;
}

static void watched_plan(swd_backend *b, bool on)
{
    plans += on ? 1 : -1;
    real.slabs->plan(b, on);
}

static void *watched_alloc(swd_backend *b, size_t bytes)
{
    void *p = real.alloc(b, bytes);
    watch(b);
    return p;
}

static swd_status watched_slab(swd_backend *b, swd_slab **out, size_t bytes, swd_err *err)
{
    swd_status s = real.slabs->create(b, out, bytes, err);
    watch(b);
    return s;
}

// The device pretends to have so much free that budget bytes of it are for us.
static pipeline *open_small(size_t budget)
{
    static swd_slabs slabs;
    swd_open_params o = tiny(SWD_OFFLOAD_AUTO);
    pipeline *p = open_it(&o);
    real = *p->backend;
    slabs = *real.slabs;
    slabs.create = watched_slab;
    slabs.plan = watched_plan;
    p->backend->slabs = &slabs;
    p->backend->alloc = watched_alloc;
    p->backend->memory = less_memory;
    p->backend->ops.embed = counted;
    embed = real.ops.embed;
    watched = p;
    n_embedded = 0;
    most[0] = most[1] = 0;
    pretended = budget + budget / 31;
    return p;
}

// Of the phase of pictures.
static size_t planned(const memory_plan *plan, bool apart, bool streamed)
{
    size_t denoise = streamed ? plan->streamed : plan->denoise;
    if (!apart) return plan->pictures;
    return denoise > plan->decode ? denoise : plan->decode;
}

// least: the plan for our kernels alone. It is all that may be held but for the workspace that a library may choose to need.
static void on_small_device(size_t budget, bool apart, bool streamed, uint64_t want,
                            const memory_plan *plan, const memory_plan *least)
{
    pipeline *p = open_small(budget);
    size_t pictures_most = planned(plan, apart, streamed),
           pictures_least = planned(least, apart, streamed);
    CHECK(pictures(p, N) == want, "other pictures on a device of %zu bytes", budget);
    CHECK(p->offloading && strstr(note, "--offload"), "note \"%s\"", note);
    CHECK(!p->t5 && !p->clip[0] && !p->clip[1], "text encoders stay");
    CHECK(p->streaming == streamed, "modulations are %sstreamed", streamed ? "not " : "");
    CHECK(!p->transformer == apart, "the transformer is %sthere", apart ? "" : "not ");
    printf("# %s: text %zu of %zu, pictures %zu of %zu\n",
           streamed ? "streamed"
           : apart  ? "apart"
                    : "beside",
           most[0], plan->text, most[1], pictures_most);
    CHECK(most[0] <= plan->text && most[1] <= pictures_most, "more than was planned");
    CHECK(most[0] > least->text / 10 * 9 && most[1] > pictures_least / 10 * 9, "a wasteful plan");
    n_embedded = 0;
    CHECK(pictures(p, N) == want && n_embedded == 0, "again: other pictures, %d texts", n_embedded);
    close_it(p);
}

// A device that holds everything for the first pictures, not for a larger one afterwards.
static void outgrown(size_t all, uint64_t want)
{
    swd_result *r = NULL;
    swd_generate_params larger = few(N);
    larger.width = larger.height = 4 * SIDE;
    pipeline *p = open_small(all);
    CHECK(pictures(p, N) == want && !p->offloading, "note \"%s\"", note);
    CHECK(pictures(p, N) == want && !p->offloading, "note \"%s\"", note);
    OK(generate(&r, &larger, p, &error), error);
    CHECK(p->offloading && strstr(r->note, "--offload"), "note \"%s\"", r->note);
    CHECK(!p->t5 && !p->clip[0] && !p->clip[1], "text encoders stay");
    CHECK(pictures(p, N) == want, "other pictures afterwards");
    swd_result_free(&r);
    close_it(p);
}

static memory_plan plan_of_few(pipeline *p, const char *tune)
{
    memory_plan plan;
    swd_generate_params a = few(N);
    if (tune) OK(p->backend->set_tune(p->backend, tune, &error), error);
    OK(ahead_plan(&plan, &a, p, &error), error);
    return plan;
}

// What docs/memory.md says of NVIDIA's libraries: workspace for each stage that has a place of its own, a product in float32, second copies of
// filters and biases.
static void room_for_libraries(size_t with, size_t without, int stages)
{
    const size_t workspace = (size_t)64 << 20, more = 1 << 20; // of a tiny model
    CHECK(with >= without && with - without <= (size_t)stages * workspace + more,
          "%d stages: %zu bytes with the libraries, %zu without", stages, with, without);
}

static void turns(void)
{
    swd_open_params o = tiny(SWD_OFFLOAD_AUTO);
    pipeline *p = open_it(&o);
    uint64_t want = pictures(p, N);
    CHECK(!p->offloading && !note[0], "note \"%s\"", note);
    size_t all = peak_of(p);
    close_it(p);
    o.offload = SWD_OFFLOAD_ON;
    p = open_it(&o);
    CHECK(pictures(p, N) == want, "other pictures with --offload");
    size_t peak = peak_of(p);
    printf("# everything %zu bytes, in turns %zu\n", all, peak);
    CHECK(peak < all, "--offload takes %zu bytes, without it %zu", peak, all);
    p->no_embeds = true;
    CHECK(pictures(p, N) == want, "other pictures when all is encoded again");
    const memory_plan plan = plan_of_few(p, NULL), least = plan_of_few(p, "ours");
    CHECK(plan.pictures < plan.all && plan.denoise < plan.pictures && plan.decode < plan.pictures,
          "a plan that saves nothing");
    close_it(p);
    CHECK(plan.streamed < plan.denoise, "streaming saves nothing");
    CHECK(all <= plan.all, "%zu bytes for everything, %zu were planned", all, plan.all);
    room_for_libraries(plan.all, least.all, 3); // of batches that overlap
    room_for_libraries(plan.text, least.text, 1);
    room_for_libraries(plan.pictures, least.pictures, 1);
    outgrown(plan.all, want);
    on_small_device(plan.all - 1000, false, false, want, &plan, &least);
    on_small_device(plan.pictures - 1000, true, false, want, &plan, &least);
    on_small_device(plan.denoise - 1000, true, true, want, &plan, &least);
}

/* ---- files in float16 ---- */

static int n_f16;
static swd_status (*make_linear)(swd_backend *, swd_linear **, swd_tensor, swd_tensor, swd_dtype,
                                 swd_err *);

static swd_status seen_linear(swd_backend *b, swd_linear **out, swd_tensor weight, swd_tensor bias,
                              swd_dtype compute, swd_err *err)
{
    n_f16 += weight.dtype == SWD_F16;
    return make_linear(b, out, weight, bias, compute, err);
}

// The bundled model's are. What the device rounds is what the host would round.
static void float16_files(void)
{
    uint64_t want = 0;
    char model[1024];
    if (!in_one_order()) return;
    snprintf(model, sizeof model, "%s", in_source("weights/emoji"));
    for (int on_device = 0; on_device < 2; on_device++) {
        swd_open_params o = opening(model, "cuda", SWD_PRECISION_BF16);
        pipeline *p = open_it(&o);
        CHECK(p->backend->packs_f16, "float16 is rounded by the host");
        p->backend->packs_f16 = on_device;
        make_linear = p->backend->linear_create;
        p->backend->linear_create = seen_linear;
        n_f16 = 0;
        uint64_t h = pictures(p, 1);
        CHECK(on_device ? n_f16 > 20 : n_f16 == 0, "%d weights in float16", n_f16);
        if (!on_device) want = h;
        CHECK(h == want, "another picture where the device rounds");
        close_it(p);
    }
}

/* ---- what keeps T5's layers apart ---- */

enum { WRITTEN, USED, PLACES, BUGS }; // waits that are left out; two places that are one
static int bug = BUGS, n_waits;

static swd_status faulty_wait(swd_backend *b, swd_stream *s, swd_event *e, swd_err *err)
{
    enum { LAYERS = 3 }; // the first waits of a stream that is no backend's own are for them
    bool left_out = s ? bug == WRITTEN && n_waits++ < LAYERS : bug == USED;
    return left_out ? SWD_OK : real.async->stream_wait(b, s, e, err);
}

// A slow bus: every copy of a weight, eight times.
static swd_status slow_upload(swd_backend *b, swd_tensor dst, const void *src, swd_stream *s,
                              swd_err *err)
{
    swd_status st = SWD_OK;
    for (int i = 0; i < (s ? 1 : 8) && st == SWD_OK; i++) st = real.upload(b, dst, src, s, err);
    return st;
}

static swd_slab *twice;

static swd_status faulty_create(swd_backend *b, swd_slab **out, size_t bytes, swd_err *err)
{
    static swd_slab *last;
    static size_t last_bytes;
    if (bytes == last_bytes) { // only the two places are alike
        *out = twice = last;
        last_bytes = 0;
        return SWD_OK;
    }
    swd_status s = real.slabs->create(b, out, bytes, err);
    last = *out;
    last_bytes = bytes;
    return s;
}

static void faulty_destroy(swd_backend *b, swd_slab **s)
{
    if (*s == twice)
        twice = NULL;
    else
        real.slabs->destroy(b, s);
}

static int stop(void *user, const swd_progress *now)
{
    (void)user;
    return now->stage == SWD_STAGE_TEXT; // all of it is encoded when the first batch begins
}

// Embeddings of a group of n prompts, no picture.
static uint64_t texts(pipeline *p, int n)
{
    static const char *const group[] = {"a", "red", "apple"};
    swd_generate_params a = few(1);
    a.guidance = 1;
    a.prompts = group;
    a.n_prompts = n;
    p->progress = stop;
    p->want_x0 = true;
    CHECK(generate(NULL, &a, p, &error) == SWD_ERR_CANCELLED, "%s", error.message);
    embeds_shape shape = {prompt_tokens(p, a.max_tokens), p->facts.context_width,
                          p->facts.pooled_width, a.max_tokens};
    uint64_t h = 14695981039346656037u;
    for (int i = 0; i < n; i++) {
        const float *found = embeds_find(p->embeds, group[i], &shape);
        CHECK(found, "\"%s\" is not known", group[i]);
        h = hash_of(found, embeds_numbers(&shape) * sizeof *found, h);
    }
    return h;
}

static void run_faulty(int n)
{
    static swd_async async;
    static swd_slabs slabs;
    char model[1024];
    snprintf(model, sizeof model, "%s", in_source("weights/emoji"));
    swd_open_params o = opening(model, "cuda", SWD_PRECISION_AUTO);
    o.offload = SWD_OFFLOAD_ON;
    o.text_encoders = SWD_T5; // of three layers: the third one takes the place of the first
    pipeline *p = open_it(&o);
    real = *p->backend;
    async = *real.async;
    async.stream_wait = faulty_wait;
    p->backend->async = &async;
    if (n == 1) p->backend->upload = slow_upload;
    slabs = *real.slabs;
    slabs.create = faulty_create;
    slabs.destroy = faulty_destroy;
    if (bug == PLACES) p->backend->slabs = &slabs;
    printf("%016llx\n", (unsigned long long)texts(p, n));
    close_it(p);
}

// What the child printed, "" where the emulator stopped it.
static void child(char out[64], const char *program, int which, int n, int seed)
{
    char command[4096];
    snprintf(command, sizeof command, "EMU_SEED=%d '%s' --bug %d %d 2>/dev/null", seed, program,
             which, n);
    FILE *f = popen(command, "r");
    CHECK(f, "%s", command);
    if (!fgets(out, 64, f)) out[0] = 0;
    if (pclose(f) != 0) out[0] = 0;
}

static const char *program;

static void layers_apart(void)
{
    static const char *const names[] = {"the wait for a layer's copy", "the wait for its use",
                                        "the second place"};
    char want[64], got[64];
    if (!in_one_order()) return; // a dozen programs, whose streams have an order of their own
    for (int i = 0; i < BUGS; i++) {
        int n = i == WRITTEN ? 1 : 3; // one text overtakes slow copies, fast ones overtake three
        bool caught = false;
        child(want, program, BUGS, n, 1);
        CHECK(want[0], "the whole request fails");
        for (int seed = 1; seed <= 8 && !caught; seed++) {
            child(got, program, i, n, seed);
            caught = strcmp(got, want) != 0;
        }
        CHECK(caught, "nobody notices that %s is left out", names[i]);
    }
}

int main(int argc, char **argv)
{
    static const tap_test tests[] = {{"known prompts", known_prompts},
                                     {"turns", turns},
                                     {"float16 files", float16_files},
                                     {"layers apart", layers_apart}};
    program = argv[0];
    if (argc == 4 && strcmp(argv[1], "--bug") == 0) {
        bug = atoi(argv[2]);
        run_faulty(atoi(argv[3]));
        return 0;
    }
    return tap_run(tests, sizeof tests / sizeof *tests, argc, argv);
}
