// SPDX-License-Identifier: MIT
#include "check.h"
#include "number.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLAB_GUARD = 256, GUARD_BYTE = 0xa5 };

typedef struct check {
    const case_walk *walk;
    fixture f;
    swd_err err;
    swd_exec ex;
    size_t measured; // bytes of the slab
    unsigned char *slab;
    unsigned char *first[OPERANDS_MAX]; // buffers after the first run
    char *message;
} check;

static SWD_PRINTF(2, 3) bool fail(check *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->message, CHECK_MESSAGE_MAX, fmt, ap);
    va_end(ap);
    return false;
}

static bool failed_call(check *c, const char *what)
{
    return fail(c, "%s: status %d, %s", what, (int)c->err.status, c->err.message);
}

static bool measure(check *c)
{
    size_t left;
    if (case_measure(&c->measured, &left, &c->f, c->walk, &c->err) != SWD_OK)
        return failed_call(c, "measuring");
    return left == 0 || fail(c, "measuring leaves %zu bytes of the slab in use", left);
}

static bool fill_slab(check *c, int byte)
{
    swd_backend *b = c->f.backend;
    size_t bytes = c->measured + SLAB_GUARD;
    if (!c->slab) c->slab = b->alloc(b, bytes);
    if (!c->slab) return fail(c, "no memory for a slab of %zu bytes", bytes);
    unsigned char *host = test_alloc(bytes, 1);
    memset(host, byte, c->measured);
    memset(host + c->measured, GUARD_BYTE, SLAB_GUARD);
    swd_status s = b->upload(b, tensor1(c->slab, SWD_U8, (int64_t)bytes), host, NULL, &c->err);
    if (s == SWD_OK) s = b->synchronize(b, NULL, &c->err);
    free(host);
    return s == SWD_OK || failed_call(c, "upload of the slab");
}

static bool slab_is_kept(check *c)
{
    swd_backend *b = c->f.backend;
    unsigned char guard[SLAB_GUARD];
    swd_tensor t = tensor1(c->slab + c->measured, SWD_U8, SLAB_GUARD);
    if (b->download(b, guard, t, NULL, &c->err) != SWD_OK ||
        b->synchronize(b, NULL, &c->err) != SWD_OK)
        return failed_call(c, "download of the slab");
    for (int i = 0; i < SLAB_GUARD; i++)
        if (guard[i] != GUARD_BYTE)
            return fail(c, "byte %d behind the slab of %zu is written", i, c->measured);
    return true;
}

static bool run_once(check *c, int slab_byte)
{
    swd_backend *b = c->f.backend;
    if (fixture_upload(&c->f, &c->err) != SWD_OK) return failed_call(c, "upload");
    if (!fill_slab(c, slab_byte)) return false;
    c->ex = (swd_exec){.backend = b, .err = &c->err, .slab = c->slab, .slab_bytes = c->measured};
    if (c->walk->family->run(&c->f, c->walk->c, &c->ex) != SWD_OK ||
        b->synchronize(b, NULL, &c->err) != SWD_OK)
        return failed_call(c, "the call");
    if (c->ex.used != 0 || c->ex.peak != c->measured)
        return fail(c, "the slab: %zu bytes measured, %zu used, %zu of them still", c->measured,
                    c->ex.peak, c->ex.used);
    if (fixture_download(&c->f, &c->err) != SWD_OK) return failed_call(c, "download");
    return slab_is_kept(c);
}

static const char *index_text(char *buf, size_t n, swd_tensor t, int64_t i)
{
    size_t k = 0;
    int64_t rest = tensor_numel(t);
    for (int d = 0; d < t.ndim && k < n; d++) {
        rest /= t.shape[d];
        k += (size_t)snprintf(buf + k, n - k, "%s%lld", d ? ", " : "", (long long)(i / rest));
        i %= rest;
    }
    return buf;
}

// Where the element is as it should be; else the interval that it is not in.
static bool is_right(const operand *o, int64_t i, double *low, double *high)
{
    swd_dtype type = o->t.dtype;
    double got = result_of(o, i), slack = o->slack[i];
    *low = number_round(o->want[i] - slack, type);
    *high = number_round(o->want[i] + slack, type);
    if (slack == 0 || isnan(*low)) return number_same(got, *low);
    return got >= *low && got <= *high;
}

static bool operand_is_right(check *c, const operand *o)
{
    int64_t wrong = 0, worst = 0, n = tensor_numel(o->t);
    double low, high;
    char at[96];
    if (!o->want) return fail(c, "%s: the oracle expects nothing", o->name);
    for (int64_t i = 0; i < n; i++) {
        if (o->slack[i] < 0 && c->f.sampled) continue;
        if (o->slack[i] < 0)
            return fail(c, "%s: the oracle says nothing of element %lld", o->name, (long long)i);
        if (!is_right(o, i, &low, &high) && wrong++ == 0) worst = i;
    }
    if (wrong == 0) return true;
    is_right(o, worst, &low, &high);
    return fail(c,
                "%s[%s] (element %lld) is %.9g, not %.9g: %.9g to %.9g would do (slack %.3g); %lld "
                "of %lld are wrong",
                o->name, index_text(at, sizeof at, o->t, worst), (long long)worst,
                result_of(o, worst), o->want[worst], low, high, o->slack[worst], (long long)wrong,
                (long long)n);
}

static bool results_are_right(check *c)
{
    for (int i = 0; i < c->f.n; i++) {
        const operand *o = &c->f.operand[i];
        if (o->role == WEIGHT) continue;
        int64_t byte = operand_damage(o);
        if (byte >= 0)
            return fail(c,
                        "%s: byte %lld of its buffer of %zu is changed (element 0 is at byte %lld)",
                        o->name, (long long)byte, o->bytes, (long long)o->first);
        if (o->role != IN && !operand_is_right(c, o)) return false;
    }
    return true;
}

static bool repeats(check *c)
{
    for (int i = 0; i < c->f.n; i++) {
        const operand *o = &c->f.operand[i];
        if (o->role == WEIGHT) continue;
        c->first[i] = test_alloc(o->bytes, 1);
        memcpy(c->first[i], o->after, o->bytes);
    }
    if (!run_once(c, 0)) return false;
    for (int i = 0; i < c->f.n; i++) {
        const operand *o = &c->f.operand[i];
        if (c->first[i] && memcmp(c->first[i], o->after, o->bytes) != 0)
            return fail(c, "%s: a second run, with other scratch, gives other bytes", o->name);
    }
    return true;
}

static bool all_steps(check *c, swd_backend *b, uint64_t seed, bool once)
{
    if (case_make(&c->f, c->walk, b, seed, &c->err) != SWD_OK)
        return failed_call(c, "making the operands");
    if (!measure(c) || !run_once(c, 0xff)) return false;
    c->walk->family->reference(&c->f, c->walk->c);
    return results_are_right(c) && (once || repeats(c));
}

bool check_case(char message[CHECK_MESSAGE_MAX], const case_walk *w, swd_backend *b, uint64_t seed,
                bool once)
{
    check c = {.walk = w, .message = message};
    size_t weights = b->weight_bytes(b);
    bool good = all_steps(&c, b, seed, once);
    fixture_close(&c.f);
    if (c.slab) b->release(b, c.slab);
    for (int i = 0; i < OPERANDS_MAX; i++) free(c.first[i]);
    if (good && b->weight_bytes(b) != weights)
        return fail(&c, "%zu bytes of packed weights are still held", b->weight_bytes(b) - weights);
    return good;
}
