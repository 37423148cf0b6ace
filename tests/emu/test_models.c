// SPDX-License-Identifier: MIT
// Every network of the goldens on the emulated device, whose memory no host code can touch: against diffusers and transformers, against
// the CPU, the same bytes again, and the same bytes for a sample alone and within a batch.
//
// Tolerances are those of the CPU against the same goldens (tests/unit/test_models.c and test_vae.c derive them): the roundings are the
// same in number, only the order of the sums differs. Two float32 results are apart by the root of two; beside
// bf16 the CPU's float32 is exact. Inception is as deep as an autoencoder and has its tolerance.
#include "backend/devices.h"
#include "emu/control.h"
#include "io/safetensors.h"
#include "model/clip_text.h"
#include "model/clip_vision.h"
#include "model/denoiser.h"
#include "model/inception.h"
#include "model/t5.h"
#include "model/tiny_vae.h"
#include "model/vae.h"
#include "tap.h"
#include <math.h>

typedef enum kind {
    SD3,
    FLUX,
    T5,
    CLIP,
    VISION,
    INCEPTION,
    DECODER,
    ENCODER,
    TINY_DECODER,
    TINY_ENCODER
} kind;
enum { INPUTS = 5, OUTPUTS = 2 };

static const double F32_MODEL = 5e-6, BF16_MODEL = 2e-2, F32_VAE = 1e-5, BF16_VAE = 5e-2;
static swd_err error;

static bool is_vae(kind k)
{
    return k >= DECODER;
}

/* ---- a network on a backend ---- */

typedef struct net {
    kind kind;
    swd_backend *be;
    swd_dtype compute;
    denoiser *denoiser;
    t5 *t5;
    clip_text *clip;
    clip_vision *vision;
    inception *inception;
    vae *vae;
    tiny_vae *tiny;
} net;

static swd_status create(net *n, weights *w, const char *json)
{
    config_denoiser d;
    config_t5 t;
    config_clip_text c;
    config_clip_vision p;
    config_inception i;
    config_vae v;
    config_tiny_vae y;
    swd_err *e = &error;
    switch (n->kind) {
    case SD3:
    case FLUX:
        SWD_TRY(denoiser_config_read(&d, n->kind == SD3 ? DENOISER_SD3 : DENOISER_FLUX, json, e),
                e);
        return denoiser_create(&n->denoiser, &d, w, n->be, n->compute, e);
    case T5:
        SWD_TRY(config_t5_read(&t, json, e), e);
        return t5_create(&n->t5, &t, w, n->be, n->compute, e);
    case CLIP:
        SWD_TRY(config_clip_text_read(&c, json, e), e);
        return clip_text_create(&n->clip, &c, w, n->be, n->compute, e);
    case VISION:
        SWD_TRY(config_clip_vision_read(&p, json, e), e);
        return clip_vision_create(&n->vision, &p, w, n->be, n->compute, e);
    case INCEPTION:
        SWD_TRY(config_inception_read(&i, json, e), e);
        return inception_create(&n->inception, &i, w, n->be, n->compute, e);
    case DECODER:
    case ENCODER:
        SWD_TRY(config_vae_read(&v, json, e), e);
        return vae_create(&n->vae, &v, w, n->be, n->compute, n->kind == ENCODER, n->kind == DECODER,
                          e);
    default:
        SWD_TRY(config_tiny_vae_read(&y, json, e), e);
        return tiny_vae_create(&n->tiny, &y, w, n->be, n->compute, n->kind == TINY_ENCODER,
                               n->kind == TINY_DECODER, e);
    }
}

static net net_open(kind k, const char *dir, const char *device, swd_dtype compute)
{
    net n = {.kind = k, .compute = compute};
    char note[DEVICE_NOTE_MAX], json[1100];
    weights *w = NULL;
    snprintf(json, sizeof json, "%s/config.json", dir);
    OK(device_open(&n.be, note, device, 1, &error), error);
    OK(weights_open(&w, dir,
                    is_vae(k) || k == SD3 || k == FLUX ? "diffusion_pytorch_model" : "model",
                    &error),
       error);
    OK(create(&n, w, json), error);
    weights_close(&w);
    return n;
}

static void net_close(net *n)
{
    denoiser_destroy(&n->denoiser);
    t5_destroy(&n->t5);
    clip_text_destroy(&n->clip);
    clip_vision_destroy(&n->vision);
    inception_destroy(&n->inception);
    vae_destroy(&n->vae);
    tiny_vae_destroy(&n->tiny);
    backend_destroy(&n->be);
}

/* ---- its inputs and outputs ---- */

static const char *const input_names[][INPUTS] = {
    [SD3] = {"latents", "t", "context", "pooled"},
    [FLUX] = {"latents", "t", "context", "pooled", "guidance"},
    [T5] = {"ids"},
    [CLIP] = {"ids"},
    [VISION] = {"pixels"},
    [INCEPTION] = {"pixels"},
    [DECODER] = {"latents"},
    [ENCODER] = {"image"},
    [TINY_DECODER] = {"latents"},
    [TINY_ENCODER] = {"image"},
};
static const char *const output_names[][OUTPUTS] = {
    [SD3] = {"velocity"},          [FLUX] = {"velocity"},   [T5] = {"hidden"},
    [CLIP] = {"hidden", "pooled"}, [VISION] = {"image"},    [INCEPTION] = {"features"},
    [DECODER] = {"decoded"},       [ENCODER] = {"encoded"}, [TINY_DECODER] = {"decoded"},
    [TINY_ENCODER] = {"encoded"},
};

typedef struct io { // on the host; absent where the network has fewer
    swd_tensor in[INPUTS], out[OUTPUTS];
} io;

static swd_tensor host_copy(const st_tensor *t)
{
    void *p = malloc(t->bytes);
    memcpy(p, t->data, t->bytes);
    return tensor_make(p, t->dtype, t->shape, t->ndim);
}

// Case i of a file; cases of autoencoders have no number. False behind the last.
static bool io_read(io *o, const safetensors *file, kind k, int i)
{
    char name[64];
    *o = (io){0};
    for (int j = 0; j < INPUTS + OUTPUTS; j++) {
        const char *base = j < INPUTS ? input_names[k][j] : output_names[k][j - INPUTS];
        if (!base) continue;
        snprintf(name, sizeof name, "%d/%s", i, base);
        if (is_vae(k)) snprintf(name, sizeof name, "%s", base);
        const st_tensor *t = safetensors_find(file, name);
        if (!t || (is_vae(k) && i > 0)) return false;
        *(j < INPUTS ? &o->in[j] : &o->out[j - INPUTS]) = host_copy(t);
    }
    return true;
}

static void io_free(io *o)
{
    for (int j = 0; j < INPUTS; j++) free(o->in[j].data);
    for (int j = 0; j < OUTPUTS; j++) free(o->out[j].data);
    *o = (io){0};
}

// Outputs as o's, from the inputs of sample b alone, or of all (b = -1).
static io io_sample(const io *o, int b)
{
    io s = {0};
    for (int j = 0; j < INPUTS + OUTPUTS; j++) {
        swd_tensor t = j < INPUTS ? o->in[j] : o->out[j - INPUTS];
        if (!tensor_present(t)) continue;
        if (b >= 0) t = tensor_slice(t, 0, b, 1);
        void *p = malloc(tensor_bytes(t));
        if (j < INPUTS) memcpy(p, t.data, tensor_bytes(t));
        t.data = p;
        *(j < INPUTS ? &s.in[j] : &s.out[j - INPUTS]) = t;
    }
    return s;
}

// The noise levels of two steps, whose conditions are made together; the second one is run.
static swd_status two_steps(swd_tensor *t, const io *d, swd_exec *ex)
{
    int64_t batch = d->in[0].shape[0];
    *t = exec1(ex, SWD_F32, 2 * batch);
    for (int i = 0; i < 2; i++)
        RUN(op_axpby(tensor_slice(*t, 0, i * batch, batch), i ? 1.0f : 0.5f, d->in[1], 0,
                     tensor_none(), ex));
    return SWD_OK;
}

static swd_status run_denoiser(const net *n, const io *d, const io *host, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    int64_t batch = d->in[0].shape[0];
    float guidance = ex->dry || !tensor_present(host->in[4]) ? 0 : *(const float *)host->in[4].data;
    swd_tensor t;
    RUN(two_steps(&t, d, ex));
    conditions c = denoiser_conditions(2 * batch, batch, d->in[2].shape[1], n->denoiser, ex);
    RUN(denoiser_embed_context(&c, d->in[2], n->denoiser, ex));
    RUN(denoiser_modulate(&c, t, d->in[3], guidance, n->denoiser, ex));
    RUN(denoiser_forward(d->out[0], d->in[0], &c, batch, n->denoiser, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_status forward(const net *n, const io *d, const io *host, swd_exec *ex)
{
    switch (n->kind) {
    case SD3:
    case FLUX:
        return run_denoiser(n, d, host, ex);
    case T5:
        return t5_forward(d->out[0], d->in[0], n->t5, ex);
    case CLIP:
        return clip_text_forward(d->out[0], d->out[1], d->in[0], ex->dry ? NULL : host->in[0].data,
                                 n->clip, ex);
    case VISION:
        return clip_vision_forward(d->out[0], d->in[0], n->vision, ex);
    case INCEPTION:
        return inception_forward(d->out[0], d->in[0], n->inception, ex);
    case DECODER:
        return vae_decode(d->out[0], d->in[0], n->vae, ex);
    case ENCODER:
        return vae_encode(d->out[0], d->in[0], n->vae, ex);
    case TINY_DECODER:
        return tiny_vae_decode(d->out[0], d->in[0], n->tiny, ex);
    default:
        return tiny_vae_encode(d->out[0], d->in[0], n->tiny, ex);
    }
}

// Each tensor in an allocation of its own and a slab of exactly the measured size: what lies behind them is out of bounds.
static void net_run(const net *n, io *host)
{
    swd_backend *be = n->be;
    io d = *host;
    for (int j = 0; j < INPUTS + OUTPUTS; j++) {
        swd_tensor *t = j < INPUTS ? &d.in[j] : &d.out[j - INPUTS];
        if (!tensor_present(*t)) continue;
        const void *from = t->data;
        t->data = be->alloc(be, tensor_bytes(*t));
        CHECK(t->data, "no memory");
        if (j < INPUTS) OK(be->upload(be, *t, from, NULL, &error), error);
    }
    swd_exec ex = {.backend = be, .err = &error, .act = n->compute, .dry = true};
    OK(forward(n, &d, host, &ex), error);
    size_t bytes = ex.peak;
    ex = (swd_exec){.backend = be, .err = &error, .act = n->compute, .slab_bytes = bytes};
    ex.slab = be->alloc(be, bytes);
    CHECK(ex.slab, "no memory");
    OK(forward(n, &d, host, &ex), error);
    for (int j = 0; j < OUTPUTS; j++)
        if (tensor_present(d.out[j]))
            OK(be->download(be, host->out[j].data, d.out[j], NULL, &error), error);
    OK(be->synchronize(be, NULL, &error), error);
    be->release(be, ex.slab);
    for (int j = 0; j < INPUTS; j++) be->release(be, d.in[j].data);
    for (int j = 0; j < OUTPUTS; j++) be->release(be, d.out[j].data);
}

/* ---- comparisons ---- */

static double distance(swd_tensor a, swd_tensor b)
{
    double d = 0, n = 0;
    const float *p = a.data, *q = b.data;
    for (int64_t i = 0; i < tensor_numel(a); i++)
        d += ((double)p[i] - q[i]) * ((double)p[i] - q[i]), n += (double)q[i] * q[i];
    return sqrt(d / n);
}

static void close_to(const io *got, const io *want, double tolerance, const char *what)
{
    for (int j = 0; j < OUTPUTS; j++) {
        if (!tensor_present(want->out[j])) continue;
        double d = distance(got->out[j], want->out[j]);
        printf("# %s output %d: %.2e of %.2e\n", what, j, d, tolerance);
        CHECK(d <= tolerance, "%s output %d: %g", what, j, d);
    }
}

// Sample b of `whole` (all of it: -1) has the very bytes of `part`.
static void same_bytes(const io *part, const io *whole, int b, const char *what)
{
    for (int j = 0; j < OUTPUTS; j++) {
        if (!tensor_present(part->out[j])) continue;
        size_t bytes = tensor_bytes(part->out[j]);
        const char *from = (const char *)whole->out[j].data + (b > 0 ? bytes * (size_t)b : 0);
        CHECK(memcmp(part->out[j].data, from, bytes) == 0, "%s output %d: other bytes", what, j);
    }
}

static void check_case(const net *cuda, const net *cpu, const io *golden, const char *what,
                       double tolerance)
{
    char text[128];
    io got = io_sample(golden, -1), again = io_sample(golden, -1), ref = io_sample(golden, -1);
    net_run(cuda, &got);
    net_run(cuda, &again);
    net_run(cpu, &ref);
    snprintf(text, sizeof text, "%s against the golden", what);
    close_to(&got, golden, tolerance, text);
    snprintf(text, sizeof text, "%s against the CPU in f32", what);
    close_to(&got, &ref, (cuda->compute == SWD_F32 ? 1.4142 : 1) * tolerance, text);
    snprintf(text, sizeof text, "%s again", what);
    same_bytes(&again, &got, -1, text);
    int64_t batch = golden->in[0].shape[0];
    for (int b = 0; b < batch && batch > 1; b++) {
        io alone = io_sample(golden, b);
        net_run(cuda, &alone);
        snprintf(text, sizeof text, "%s sample %d alone", what, b);
        same_bytes(&alone, &got, b, text);
        io_free(&alone);
    }
    io_free(&got);
    io_free(&again);
    io_free(&ref);
}

static void compare(kind k, const char *model_dir, const char *golden_file)
{
    char model[1024], what[64];
    safetensors *file = NULL;
    snprintf(model, sizeof model, "%s", in_source(model_dir));
    OK(safetensors_open(&file, in_source(golden_file), "", &error), error);
    net cpu = net_open(k, model, "cpu", SWD_F32);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        net cuda = net_open(k, model, "cuda", bf16 ? SWD_BF16 : SWD_F32);
        io golden;
        int n = 0;
        for (; io_read(&golden, file, k, n); n++) {
            snprintf(what, sizeof what, "%s %s %s %d", strrchr(model_dir, '/') + 1,
                     output_names[k][0], bf16 ? "bf16" : "f32", n);
            check_case(&cuda, &cpu, &golden, what,
                       is_vae(k) || k == INCEPTION ? (bf16 ? BF16_VAE : F32_VAE)
                                                   : (bf16 ? BF16_MODEL : F32_MODEL));
            io_free(&golden);
        }
        io_free(&golden);
        CHECK(n > 0, "%s: no case", golden_file);
        net_close(&cuda);
    }
    net_close(&cpu);
    safetensors_close(&file);
    CHECK(emu_live_bytes() == 0, "%zu bytes of the device are left", emu_live_bytes());
}

#define MODELS "tests/goldens/models/"
#define FLUXES "tests/goldens/flux/"
#define VAES "tests/goldens/vae/"
static void model(kind k, const char *dir)
{
    char file[256];
    snprintf(file, sizeof file, "%s/io.safetensors", dir);
    compare(k, dir, file);
}

static void coder(kind decoder, kind encoder, const char *dir)
{
    char file[256];
    snprintf(file, sizeof file, "%s/golden.safetensors", dir);
    compare(decoder, dir, file);
    compare(encoder, dir, file);
}

static void sd3(void)
{
    model(SD3, MODELS "sd3");
}
static void sd35_large(void)
{
    model(SD3, MODELS "sd35l");
}
static void sd35_medium(void)
{
    model(SD3, MODELS "sd35m");
}
static void flux_blocks(void)
{
    model(FLUX, FLUXES "double");
    model(FLUX, FLUXES "single");
}
static void flux_dev(void)
{
    model(FLUX, FLUXES "dev");
}
// Modulations that come one by one, twice over: less memory, the same bytes.
static void streamed(denoiser_kind class, const char *dir)
{
    char model[1024], json[1100], note[DEVICE_NOTE_MAX];
    config_denoiser c;
    weights *w = NULL;
    safetensors *file = NULL;
    net all = {.kind = FLUX, .compute = SWD_BF16}, some = all;
    io golden;
    snprintf(model, sizeof model, "%s", in_source(dir));
    snprintf(json, sizeof json, "%s/config.json", model);
    OK(denoiser_config_read(&c, class, json, &error), error);
    OK(device_open(&all.be, note, "cuda", 1, &error), error);
    some.be = all.be;
    OK(weights_open(&w, model, "diffusion_pytorch_model", &error), error);
    OK(denoiser_create(&all.denoiser, &c, w, all.be, SWD_BF16, &error), error);
    size_t bytes = backend_held(all.be);
    OK(denoiser_create_streamed(&some.denoiser, &c, w, some.be, SWD_BF16, &error), error);
    OK(denoiser_make_room(some.denoiser, &error), error);
    CHECK(denoiser_streams(some.denoiser) && !denoiser_streams(all.denoiser), "what is streamed?");
    CHECK(backend_held(all.be) - bytes < bytes, "%s: streaming takes no less memory", dir);
    snprintf(json, sizeof json, "%s/io.safetensors", model);
    OK(safetensors_open(&file, json, "", &error), error);
    CHECK(io_read(&golden, file, class == DENOISER_FLUX ? FLUX : SD3, 1), "%s: no case", dir);
    io want = io_sample(&golden, -1);
    net_run(&all, &want);
    for (int i = 0; i < 2; i++) {
        io got = io_sample(&golden, -1);
        net_run(&some, &got);
        same_bytes(&got, &want, -1, dir);
        io_free(&got);
    }
    io_free(&want);
    io_free(&golden);
    safetensors_close(&file);
    denoiser_destroy(&some.denoiser);
    weights_close(&w);
    net_close(&all);
    CHECK(emu_live_bytes() == 0, "%zu bytes of the device are left", emu_live_bytes());
}
static void streamed_modulations(void)
{
    streamed(DENOISER_FLUX, FLUXES "dev");
    streamed(DENOISER_SD3, MODELS "sd35m");
}
static void t5_encoders(void)
{
    model(T5, MODELS "t5_gated");
    model(T5, MODELS "t5_relu");
}
static void clip_encoders(void)
{
    model(CLIP, MODELS "clip_quick");
    model(CLIP, MODELS "clip_gelu");
}
static void clip_vision_towers(void)
{
    model(VISION, "tests/goldens/eval/clip");
    model(VISION, "tests/goldens/eval/vision");
}
static void inception_network(void)
{
    model(INCEPTION, "tests/goldens/eval/inception");
}
static void autoencoders(void)
{
    static const char *const dirs[] = {VAES "plain", VAES "quant", VAES "no_attention",
                                       VAES "odd_attention", VAES "sixteenth"};
    for (int i = 0; i < 5; i++) coder(DECODER, ENCODER, dirs[i]);
}
static void tiny_autoencoder(void)
{
    coder(TINY_DECODER, TINY_ENCODER, VAES "tiny");
}

int main(int argc, char **argv)
{
    static const tap_test tests[] = {
        {"sd3", sd3},
        {"sd35_large", sd35_large},
        {"sd35_medium", sd35_medium},
        {"flux_blocks", flux_blocks},
        {"flux_dev", flux_dev},
        {"streamed_modulations", streamed_modulations},
        {"t5_encoders", t5_encoders},
        {"clip_encoders", clip_encoders},
        {"clip_vision_towers", clip_vision_towers},
        {"inception_network", inception_network},
        {"autoencoders", autoencoders},
        {"tiny_autoencoder", tiny_autoencoder},
    };
    return tap_run(tests, sizeof tests / sizeof *tests, argc, argv);
}
