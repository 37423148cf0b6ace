// SPDX-License-Identifier: MIT
// The scheduler: fibers of a block, one block after another on each worker, in an order that looks for trouble.
//
// EMU_SCHED=order (default) and reverse run the first or last thread that can; random picks any; pct gives the warps random
// priorities, runs the highest as far as it goes and now and then drops it to the bottom (Burckhardt et al., ASPLOS 2010).
// EMU_SEED seeds the last two, EMU_WORKERS runs blocks on so many OS threads.
#include "engine.h"
#include "fault.h"
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <thread>
#include <utility>

__thread uint3 threadIdx, blockIdx;
__thread dim3 blockDim, gridDim;

namespace emu
{
__thread Thread *cur;
__thread Worker *W;

enum { WORKERS_MAX = 64 };
static const char *const policy_names[] = {"order", "reverse", "random", "pct"};
static struct Settings {
    Policy policy = ORDER;
    uint64_t seed = 1;
    int workers = 1;
} settings;

static void read_settings()
{
    const char *p = getenv("EMU_SCHED"), *s = getenv("EMU_SEED"), *w = getenv("EMU_WORKERS");
    if (p) {
        int i = 0;
        while (i < 4 && strcmp(p, policy_names[i]) != 0) i++;
        if (i == 4) fail("EMU_SCHED=%s: order, reverse, random or pct", p);
        settings.policy = static_cast<Policy>(i);
    }
    if (s) settings.seed = strtoull(s, nullptr, 0);
    if (w) settings.workers = atoi(w);
    if (settings.workers < 1 || settings.workers > WORKERS_MAX)
        fail("EMU_WORKERS=%s: 1 to %d", w, WORKERS_MAX);
}

static const Settings &config()
{
    static std::once_flag once;
    std::call_once(once, read_settings);
    return settings;
}

Policy policy()
{
    return settings.policy;
}

uint64_t seed()
{
    return config().seed;
}

// ---- fatal errors ----

void report_place()
{
    if (W && W->kernel) {
        fprintf(stderr, "  in %s, block (%u,%u,%u)", W->kernel, blockIdx.x, blockIdx.y, blockIdx.z);
        if (cur) fprintf(stderr, ", thread (%u,%u,%u)", cur->index.x, cur->index.y, cur->index.z);
        fputc('\n', stderr);
    }
    fprintf(stderr, "  EMU_SCHED=%s EMU_SEED=%llu\n", policy_names[settings.policy],
            static_cast<unsigned long long>(settings.seed));
}

static void report(Site site, const char *fmt, va_list ap)
{
    fprintf(stderr, "EMU ERROR: ");
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    if (site.file) fprintf(stderr, "  at %s:%d\n", site.file, site.line);
    report_place();
    abort();
}

void fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    report(Site{nullptr, 0}, fmt, ap);
    abort();
}

void fail_at(Site site, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    report(site, fmt, ap);
    abort();
}

// ---- choosing ----

// The first at or after a random place: cheap (it is most of what a switch costs), and all alike where all are set.
static unsigned any_bit(uint32_t m)
{
    unsigned from = rnd() % 32;
    uint32_t turned = m >> from | m << ((32 - from) % 32);
    return (static_cast<unsigned>(__builtin_ctz(turned)) + from) % 32;
}

void set_ready(Thread *t)
{
    W->block.warps[t->warp].ready |= 1u << t->lane;
    W->block.ready_warps |= 1u << t->warp;
}

static unsigned pick_pct(Block &b)
{
    unsigned i = 0;
    while (!(b.ready_warps >> b.priority[i] & 1)) i++;
    uint8_t w = b.priority[i];
    if (rnd() % 256 == 0) {
        volatile uint8_t *p = b.priority; // not memmove: ThreadSanitizer would see it
        for (; i + 1 < b.n_warps; i++) p[i] = p[i + 1];
        p[i] = w;
    }
    return w;
}

static Thread *pick()
{
    Block &b = W->block;
    if (!b.ready_warps) return nullptr;
    bool stay = b.ready_warps >> b.cur_warp & 1;
    unsigned w, l;
    switch (settings.policy) {
    case ORDER:
        w = stay ? b.cur_warp : static_cast<unsigned>(__builtin_ctz(b.ready_warps));
        l = static_cast<unsigned>(__builtin_ctz(b.warps[w].ready));
        break;
    case REVERSE:
        w = stay ? b.cur_warp : 31u - static_cast<unsigned>(__builtin_clz(b.ready_warps));
        l = 31u - static_cast<unsigned>(__builtin_clz(b.warps[w].ready));
        break;
    case RANDOM:
        w = any_bit(b.ready_warps);
        l = any_bit(b.warps[w].ready);
        break;
    default:
        w = pick_pct(b);
        l = any_bit(b.warps[w].ready);
    }
    b.cur_warp = w;
    b.warps[w].ready &= ~(1u << l);
    if (!b.warps[w].ready) b.ready_warps &= ~(1u << w);
    return &b.threads[w * WARP_LANES + l];
}

// ---- fibers of a block ----

static void fiber_main();

static void enter(Thread *t)
{
    Fiber *to = static_cast<Fiber *>(t->fiber), *from = W->running;
    if (t->state == NEW) {
        if (!to) {
            if (W->idle.empty()) {
                to = fiber_create(W->n_fibers++, fiber_main);
            } else {
                to = W->idle.back();
                W->idle.pop_back();
            }
            t->fiber = to;
        }
        W->starting = t;
    }
    W->running = to;
    fiber_jump(from, to, t->tsan);
}

[[noreturn]] static void deadlock()
{
    const Block &b = W->block;
    const Thread *before = nullptr;
    for (unsigned i = 0; i < b.n_threads; i++) {
        const Thread *t = &b.threads[i];
        bool news = t->state == PARKED &&
                    !(before && before->state == PARKED && before->site.line == t->site.line);
        if (news)
            fprintf(stderr, "EMU: from thread %u on: waits in %s, %s:%d\n", i, t->where,
                    t->site.file, t->site.line);
        before = t;
    }
    fail("deadlock: no thread of the block can run");
}

void park(const char *where, Site site)
{
    Thread *self = cur;
    self->state = PARKED;
    self->where = where;
    self->site = site;
    Thread *next = pick();
    if (!next) deadlock();
    if (next != self) enter(next);
    cur = self;
    threadIdx = self->index;
    self->state = RUNNING;
}

void yield_point()
{
    if (settings.policy < RANDOM || !cur) return;
    set_ready(cur);
    park("an atomic", Site{nullptr, 0});
}

// For ThreadSanitizer a block starts after the launch and ends before what comes after the grid; blocks are not ordered.
static char block_starts, block_ends;

static void fiber_main()
{
    fiber_landed(W->running);
    for (;;) {
        Thread *t = W->starting;
        Fiber *mine = W->running;
        t->state = RUNNING;
        t->fiber = mine;
        cur = t;
        threadIdx = t->index;
        tsan_acquire(&block_starts);
        (*W->body)();
        tsan_release(&block_ends);
        t->state = DONE;
        thread_exits(t);
        Thread *next = pick();
        if (!t->tsan) { // otherwise each thread keeps a stack of its own
            if (next && next->state == NEW) {
                W->starting = next;
                continue;
            }
            W->idle.push_back(mine);
            t->fiber = nullptr;
        }
        if (next) {
            enter(next);
            continue;
        }
        if (W->block.live) deadlock();
        cur = nullptr;
        W->running = &W->home;
        fiber_jump(mine, &W->home, W->home_tsan);
    }
}

// ---- blocks and grids ----

static void context_set(Thread &t, unsigned i)
{
#ifdef EMU_TSAN
    Context &c = W->context[W->parity][i];
    if (!c.tsan) c.tsan = tsan_create_fiber();
    if (!c.fiber) c.fiber = fiber_create(W->n_fibers++, fiber_main);
    t.fiber = c.fiber;
    t.tsan = c.tsan;
#else
    (void)t, (void)i;
#endif
}

static void block_reset(Block &b, dim3 dim)
{
    unsigned n = dim.x * dim.y * dim.z;
    b.n_threads = b.live = n;
    b.n_warps = (n + WARP_LANES - 1) / WARP_LANES;
    b.cur_warp = 0;
    b.ready_warps = b.n_warps == 32 ? ~0u : (1u << b.n_warps) - 1;
    for (unsigned i = 0; i < b.n_warps; i++) b.priority[i] = static_cast<uint8_t>(i);
    if (settings.policy == PCT)
        for (unsigned i = b.n_warps; i > 1; i--)
            std::swap(b.priority[i - 1], b.priority[rnd() % i]);
    block_sync_reset(b);
    for (unsigned i = 0; i < n; i++) {
        Thread &t = b.threads[i];
        t.index = {i % dim.x, i / dim.x % dim.y, i / dim.x / dim.y};
        t.lane = i % WARP_LANES;
        t.warp = i / WARP_LANES;
        t.state = NEW;
        t.cp_first = t.cp_end = t.cp_group = 0;
        t.fiber = nullptr;
        context_set(t, i);
    }
}

static void run_block(dim3 dim)
{
    block_reset(W->block, dim);
    smem_begin_block(W->block);
    tsan_release(&block_starts);
    enter(pick());
    smem_end_block(W->block);
    W->parity ^= 1;
}

static Worker *worker_create()
{
    Worker *w = new Worker();
    // No allocation while fibers run: ThreadSanitizer would see it from many threads.
    w->idle.reserve(BLOCK_MAX);
    for (Barrier &r : w->block.barriers) r.waiting.reserve(BLOCK_MAX);
    smem_create(w->block);
    fault_handler_install();
    fault_stack_install();
    return w;
}

struct Grid {
    Launch launch;
    uint64_t n;
    std::atomic<uint64_t> next;
};

static void run_blocks(Grid *g, int id)
{
    static Worker *workers[WORKERS_MAX];
    if (!workers[id]) workers[id] = worker_create();
    W = workers[id];
    const Launch &l = g->launch;
    W->body = l.body;
    W->kernel = l.kernel;
    W->smem_granted = l.smem_granted;
    W->running = &W->home;
    W->random = settings.seed * UINT64_C(0x9E3779B97F4A7C15) + UINT64_C(88172645463325252) +
                static_cast<unsigned>(id);
    W->home_tsan = tsan_current_fiber();
    smem_begin_grid(W->block, l.dynamic_bytes);
    for (uint64_t i; (i = g->next.fetch_add(1)) < g->n;) {
        uint64_t k = settings.policy == REVERSE ? g->n - 1 - i : i;
        blockIdx = {static_cast<unsigned>(k % l.grid.x),
                    static_cast<unsigned>(k / l.grid.x % l.grid.y),
                    static_cast<unsigned>(k / l.grid.x / l.grid.y)};
        blockDim = l.block;
        gridDim = l.grid;
        run_block(l.block);
    }
    tsan_acquire(&block_ends);
    smem_end_grid(W->block);
    W->kernel = nullptr;
}

// Worker 0 is the caller; the others are OS threads kept for good, so that a fiber never changes its OS thread.
static struct Pool {
    std::mutex lock;
    std::condition_variable wake, done;
    Grid *grid = nullptr;
    uint64_t number = 0;
    int left = 0;
} &pool = *new Pool(); // never destroyed: its threads outlive main()

static void pool_thread(int id)
{
    for (uint64_t seen = 0;;) {
        Grid *g;
        {
            std::unique_lock<std::mutex> l(pool.lock);
            pool.wake.wait(l, [&] { return pool.number != seen; });
            seen = pool.number;
            g = pool.grid;
        }
        run_blocks(g, id);
        std::lock_guard<std::mutex> l(pool.lock);
        if (--pool.left == 0) pool.done.notify_one();
    }
}

void run_grid(const Launch &launch)
{
    Grid g = {launch, static_cast<uint64_t>(launch.grid.x) * launch.grid.y * launch.grid.z, {0}};
    int n_workers = config().workers;
    if (n_workers == 1 || g.n == 1) {
        run_blocks(&g, 0);
        return;
    }
    static int started = 1;
    for (; started < n_workers; started++) std::thread(pool_thread, started).detach();
    {
        std::lock_guard<std::mutex> l(pool.lock);
        pool.grid = &g;
        pool.left = n_workers - 1;
        pool.number++;
    }
    pool.wake.notify_all();
    run_blocks(&g, 0);
    std::unique_lock<std::mutex> l(pool.lock);
    pool.done.wait(l, [] { return pool.left == 0; });
}
} // namespace emu
