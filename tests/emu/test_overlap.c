// SPDX-License-Identifier: MIT
// Requests whose stages overlap on three streams: the same bytes as one stage after the other, what is reported, the end by a callback.
// And that the order of streams is what makes it so: each wait for an event left out in turn (this program starts itself for that) must show
// in the pictures or stop the emulator.
#include "backend/async.h"
#include "emu/control.h"
#include "pipeline/generate.h"
#include "tiny_folder.h"
#include <stdint.h>

static const char *const prompts[] = {"a red apple", "a cat face", "green book", "", "a blue fish"};
enum { N = 5 };

static swd_err error;

/* ---- waits that are left out ---- */

enum {
    WAIT_TEXT,
    WAIT_DENOISED,
    WAIT_PICTURES,
    WAITS
}; // in the order of a batch: its denoising, its decoding, its collection
static int left_out = -1, n_stream_waits;
static bool mix; // batches one behind the other, a step apart
static const swd_async *whole;

static swd_status faulty_stream_wait(swd_backend *b, swd_stream *s, swd_event *e, swd_err *err)
{
    int i = n_stream_waits++, kind = i % 2;
    // mixed, of three batches at two steps: embeddings, e. denoised, e. d. (in another order), d.
    if (mix) kind = i == 0 || i == 5 ? i / 5 : 1 - i % 2;
    return kind == left_out ? SWD_OK : whole->stream_wait(b, s, e, err);
}

static swd_status faulty_host_wait(swd_backend *b, swd_event *e, swd_err *err)
{
    return left_out == WAIT_PICTURES ? SWD_OK : whole->host_wait(b, e, err);
}

static swd_status no_time(swd_backend *b, double *ms, swd_event *from, swd_event *to, swd_err *err)
{
    (void)b, (void)from, (void)to, (void)err;
    *ms = 0; // of an event that nobody has waited for there is none
    return SWD_OK;
}

/* ---- requests ---- */

static pipeline *open_tiny(void)
{
    pipeline *p = calloc(1, sizeof *p);
    swd_open_params o = opening(tiny_model(), "cuda", SWD_PRECISION_AUTO);
    OK(pipeline_open(p, &o, &error), error);
    OK(pipeline_load_backend(p, &error), error);
    CHECK(async_has(p->backend), "a backend without streams");
    if (left_out < 0) return p;
    static swd_async faulty;
    whole = p->backend->async;
    faulty = *whole;
    faulty.stream_wait = faulty_stream_wait;
    faulty.host_wait = faulty_host_wait;
    faulty.elapsed = no_time;
    p->backend->async = &faulty;
    return p;
}

static void close_tiny(pipeline *p)
{
    pipeline_close(p);
    free(p);
    CHECK(emu_live_bytes() == 0, "%zu bytes of the device are left", emu_live_bytes());
}

static swd_generate_params two_scales(int n, int batch)
{
    static const int scales[] = {2, 4};
    static const double sigmas[] = {1, 0.7};
    swd_generate_params a = request(prompts, n);
    a.scales = scales;
    a.sigmas = sigmas;
    a.n_scales = a.n_sigmas = 2;
    a.batch = batch;
    a.width = a.height = 32;
    a.mix = mix;
    return a;
}

static uint64_t hash_of(const swd_result *r)
{
    uint64_t h = 14695981039346656037u;
    for (int i = 0; i < r->n_images; i++)
        for (int j = 0; j < r->width * r->height * 3; j++)
            h = (h ^ r->images[i].rgb[j]) * 1099511628211u;
    return h;
}

typedef struct seen {
    int calls, stop_at, last_image, texts, steps, decodes;
} seen;

static int watch(void *user, const swd_progress *p)
{
    seen *s = user;
    if (p->x0) return 0;
    CHECK(p->image >= s->last_image, "image %d after image %d", p->image, s->last_image);
    s->last_image = p->image;
    s->texts += p->stage == SWD_STAGE_TEXT;
    s->steps += p->stage == SWD_STAGE_DENOISE;
    s->decodes += p->stage == SWD_STAGE_DECODE;
    return ++s->calls == s->stop_at;
}

static uint64_t pictures(pipeline *p, int n, int batch)
{
    swd_result *r = NULL;
    swd_generate_params a = two_scales(n, batch);
    OK(generate(&r, &a, p, &error), error);
    CHECK(r->n_images == n, "%d pictures of %d", r->n_images, n);
    uint64_t h = hash_of(r);
    swd_result_free(&r);
    return h;
}

static void same_bytes(void)
{
    pipeline *p = open_tiny();
    seen s = {0};
    p->progress = watch;
    p->progress_user = &s;
    p->want_x0 = true; // one stage after the other
    uint64_t want = pictures(p, N, 1);
    CHECK(s.texts == N && s.steps == 2 * N && s.decodes == N, "%d %d %d", s.texts, s.steps,
          s.decodes);
    for (int batch = 1; batch <= 3; batch++) {
        s = (seen){0};
        p->want_x0 = false;
        CHECK(pictures(p, N, batch) == want, "other pictures in batches of %d", batch);
        int batches = (N + batch - 1) / batch;
        CHECK(s.texts == batches && s.steps == 2 * batches && s.decodes == batches,
              "%d batches: %d %d %d calls", batches, s.texts, s.steps, s.decodes);
    }
    p->progress = NULL;
    for (int i = 0; i < 3; i++) // as they come, recorded, replayed
        CHECK(pictures(p, N, 2) == want, "other pictures without a callback, call %d", i);
    int graphs = graph_cache_recorded(&p->graphs);
    CHECK(graphs == 3 * 2, "%d graphs for three batches and their decodings", graphs);
    p->no_graphs = true;
    CHECK(pictures(p, N, 1) == want, "other pictures without graphs");
    close_tiny(p);
}

// One pass for all steps changes no bit.
static void mixed(void)
{
    pipeline *p = open_tiny();
    mix = true;
    uint64_t three = pictures(
        p, 3, 1); // two ticks with a batch at both steps, no decoding of a batch's place twice
    CHECK(graph_cache_recorded(&p->graphs) == 1, "%d graphs, not that of a tick",
          graph_cache_recorded(&p->graphs));
    mix = false;
    uint64_t want = pictures(p, N, 1), one = pictures(p, 1, 1);
    CHECK(pictures(p, 3, 1) == three, "other pictures of three, mixed");
    mix = true;
    for (int batch = 1; batch <= (only_small() ? 1 : 3); batch++) {
        seen s = {0};
        p->progress = watch;
        p->progress_user = &s;
        CHECK(pictures(p, N, batch) == want, "other pictures, mixed in batches of %d", batch);
        int batches = (N + batch - 1) / batch;
        CHECK(s.texts == batches && s.steps == 2 * batches && s.decodes == batches,
              "%d mixed batches: %d %d %d calls", batches, s.texts, s.steps, s.decodes);
    }
    p->progress = NULL;
    CHECK(pictures(p, 1, 1) == one, "another picture of one alone");
    p->no_graphs = true;
    CHECK(pictures(p, N, 2) == want, "other pictures without graphs");
    close_tiny(p);
    mix = false;
}

// A graph is replayed for the work it was recorded of and for no other: sizes that need as much memory, schedules that begin alike.
static void other_shapes(void)
{
    static const int scales[] = {2, 2, 4};
    static const double sigmas[][3] = {{1, 0.7, 0.5}, {1, 0.7, 0.3}};
    uint64_t want[4];
    pipeline *p = open_tiny();
    for (int round = 0; round < 4; round++) { // as they come twice, recorded, replayed
        p->no_graphs = round == 0;
        for (int i = 0; i < 4; i++) {
            swd_result *r = NULL;
            swd_generate_params a = two_scales(1, 1);
            a.scales = scales;
            a.sigmas = sigmas[i / 2];
            a.n_scales = a.n_sigmas = 3;
            a.width = i % 2 ? 64 : 32;
            a.height = i % 2 ? 32 : 64;
            OK(generate(&r, &a, p, &error), error);
            uint64_t h = hash_of(r);
            swd_result_free(&r);
            if (round == 0) want[i] = h;
            CHECK(h == want[i], "round %d: another picture of request %d", round, i);
        }
    }
    CHECK(want[0] != want[2] && want[1] != want[3], "the schedules make no difference");
    close_tiny(p);
}

static void cancelled(void)
{
    pipeline *p = open_tiny();
    uint64_t want = pictures(p, 3, 1);
    for (int at = 1; at < 16; at += only_small() ? 5 : 2) {
        swd_result *r = NULL;
        swd_generate_params a = two_scales(3, 1);
        seen s = {.stop_at = at};
        p->progress = watch;
        p->progress_user = &s;
        swd_err_clear(&error);
        swd_status st = generate(&r, &a, p, &error);
        CHECK(st == SWD_ERR_CANCELLED && !r, "call %d: status %d: %s", at, st, error.message);
        p->progress = NULL;
        CHECK(pictures(p, 3, 1) == want, "other pictures after an end at call %d", at);
    }
    close_tiny(p);
}

// What the child printed; -1 where the emulator stopped it.
static int child(char *out, size_t size, const char *program, int wait, int seed, bool mixed)
{
    char command[4096];
    snprintf(command, sizeof command, "EMU_SEED=%d '%s' --leave-out%s %d 2>/dev/null", seed,
             program, mixed ? "-mixed" : "", wait);
    FILE *f = popen(command, "r");
    CHECK(f, "%s", command);
    out[0] = 0;
    if (!fgets(out, (int)size, f)) out[0] = 0;
    return pclose(f) == 0 ? 0 : -1;
}

static const char *program;

static void waits_matter(void)
{
    static const char *const names[] = {"the embeddings", "the denoised latents", "the pictures"};
    char want[64], got[64];
    if (only_small())
        return; // a dozen programs; it is the order that counts here, not the sanitizer
    for (int i = 0; i < 2 * WAITS; i++) {
        int wait = i % WAITS;
        bool caught = false, mixed = i >= WAITS;
        if (wait == 0)
            CHECK(child(want, sizeof want, program, WAITS, 1, mixed) == 0 && want[0],
                  "the whole request fails");
        for (int seed = 1; seed <= 4 && !caught; seed++)
            caught =
                child(got, sizeof got, program, wait, seed, mixed) != 0 || strcmp(got, want) != 0;
        CHECK(caught, "nobody notices that the wait for %s is left out%s", names[wait],
              mixed ? " of mixed batches" : "");
    }
}

int main(int argc, char **argv)
{
    static const tap_test tests[] = {{"same bytes", same_bytes},
                                     {"mixed", mixed},
                                     {"other shapes", other_shapes},
                                     {"cancelled", cancelled},
                                     {"waits matter", waits_matter}};
    program = argv[0];
    if (argc == 3 && strncmp(argv[1], "--leave-out", 11) == 0) {
        mix = strcmp(argv[1], "--leave-out-mixed") == 0;
        left_out = atoi(argv[2]);
        pipeline *p = open_tiny();
        printf("%016llx\n", (unsigned long long)pictures(p, 3, 1));
        close_tiny(p);
        return 0;
    }
    return tap_run(tests, sizeof tests / sizeof *tests, argc, argv);
}
