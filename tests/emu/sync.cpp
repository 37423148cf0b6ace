// SPDX-License-Identifier: MIT
// Barriers of a block and collectives of a warp: who takes part parks; the last to arrive does the work and wakes the others.
#include "engine.h"
#include <sys/mman.h>

namespace emu
{
void block_sync_reset(Block &b)
{
    for (unsigned i = 0; i < b.n_warps; i++) {
        Warp &w = b.warps[i];
        unsigned lanes = b.n_threads - i * WARP_LANES;
        w.exist = w.ready = lanes >= WARP_LANES ? ~0u : (1u << lanes) - 1;
        w.done = 0;
        w.n_collectives = 0;
    }
    for (Barrier &r : b.barriers) r.arrived = 0;
}

void thread_exits(Thread *t)
{
    Block &b = W->block;
    Warp &w = b.warps[t->warp];
    b.live--;
    w.done |= 1u << t->lane;
    if (b.barriers[0].arrived)
        fail_at(b.barriers[0].site, "a thread exits while others wait for it in __syncthreads");
    for (int i = 0; i < w.n_collectives; i++)
        if (w.collective[i].arrived && w.collective[i].mask >> t->lane & 1)
            fail_at(w.collective[i].site, "lane %u exits while its warp waits for it in %s",
                    t->lane, w.collective[i].name);
}

void barrier(unsigned id, unsigned n, Site site, int *pred)
{
    if (!cur) fail_at(site, "a barrier outside a kernel");
    Block &b = W->block;
    Barrier &r = b.barriers[id];
    Thread *self = cur;
    unsigned need = n ? n : b.n_threads;
    const char *name = n ? "a named barrier" : "__syncthreads";
    if (need > b.n_threads)
        fail_at(site, "a barrier of %u threads in a block of %u", need, b.n_threads);
    if (!r.arrived) {
        r.need = need;
        r.site = site;
        r.whole = !n;
        r.sum = 0;
    } else if (r.need != need || (r.whole && r.site.line != site.line)) {
        fail_at(site, "threads of a block meet in different barriers: of %u here, of %u at %s:%d",
                need, r.need, r.site.file, r.site.line);
    }
    if (r.whole && b.live != b.n_threads) fail_at(site, "__syncthreads after a thread has exited");
    char *order = &r.order[r.phase & 1];
    tsan_release(order);
    r.pred[r.arrived] = pred;
    if (pred) r.sum += static_cast<unsigned>(*pred);
    if (++r.arrived < need) {
        r.waiting.push_back(self);
        park(name, site);
    } else {
        for (unsigned i = 0; i < need; i++)
            if (r.pred[i]) *r.pred[i] = static_cast<int>(r.sum);
        for (Thread *t : r.waiting) set_ready(t);
        r.waiting.clear();
        r.arrived = 0;
        r.phase++;
        if (policy() >= RANDOM) {
            set_ready(self);
            park(name, site);
        }
    }
    tsan_acquire(order);
}

// The collective that the calling lane takes part in: one under way, or a new one.
static Collective *join(Warp &w, uint32_t mask, WarpOp op, const char *name, Site site)
{
    Collective *unused = nullptr;
    for (int i = 0; i < w.n_collectives; i++) {
        Collective *c = &w.collective[i];
        if (!c->arrived) {
            unused = c;
            continue;
        }
        if (c->mask != mask)
            continue; // lanes may wait in a wider one for those that are in a narrower one
        if (c->op != op || c->site.line != site.line)
            fail_at(site, "lanes of a warp diverge: %s meets %s of %s:%d", name, c->name,
                    c->site.file, c->site.line);
        return c;
    }
    if (!unused && w.n_collectives == COLLECTIVES_MAX)
        fail_at(site, "more than %d operations of a warp at once", int(COLLECTIVES_MAX));
    Collective *c = unused ? unused : &w.collective[w.n_collectives++];
    c->mask = mask;
    c->arrived = 0;
    c->op = op;
    c->name = name;
    c->site = site;
    return c;
}

void warp_collective(uint32_t mask, WarpOp op, void *arg, const char *name, Site site,
                     bool orders_memory)
{
    if (!cur) fail_at(site, "%s outside a kernel", name);
    Thread *self = cur;
    Warp &w = W->block.warps[self->warp];
    uint32_t bit = 1u << self->lane, want = mask & w.exist;
    if (!(mask & bit)) fail_at(site, "%s: the calling lane is not in mask %08x", name, mask);
    if (want & w.done)
        fail_at(site, "%s: mask %08x names lanes that have exited (%08x)", name, mask,
                want & w.done);
    Collective *c = join(w, want, op, name, site);
    c->arg[self->lane] = arg;
    c->arrived |= bit;
    char *order = &w.order[w.phase & 1];
    if (orders_memory) tsan_release(order);
    if (c->arrived != want) {
        park(name, site);
    } else {
        op(want, c->arg);
        w.ready |= want & ~bit;
        if (w.ready) W->block.ready_warps |= 1u << self->warp;
        c->arrived = 0;
        while (w.n_collectives && !w.collective[w.n_collectives - 1].arrived) w.n_collectives--;
        if (orders_memory) w.phase++;
        if (policy() >= RANDOM) {
            set_ready(self);
            park(name, site);
        }
    }
    if (orders_memory) tsan_acquire(order);
}

// ThreadSanitizer knows no fences: threads that execute one are ordered with each other.
void fence()
{
    static char order;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    tsan_release(&order);
    tsan_acquire(&order);
}

void cp_async_push(void *dst, const void *src, bool pred)
{
    Thread *t = cur;
    if (!t) fail("cp_async16 outside a kernel");
    if (t->cp_end - t->cp_first == CP_ASYNC_MAX)
        fail("a thread has more than %d copies under way", int(CP_ASYNC_MAX));
    if (!t->cp) { // not by malloc, whose calls ThreadSanitizer orders by thread
        void *map = mmap(nullptr, CP_ASYNC_MAX * sizeof(CpAsync), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED) fail("no memory for copies");
        t->cp = static_cast<CpAsync *>(map);
    }
    t->cp[t->cp_end++ % CP_ASYNC_MAX] = CpAsync{dst, src, t->cp_group, pred};
}

void cp_async_end_group()
{
    cur->cp_group++;
}

bool cp_async_take(uint32_t n, CpAsync *out)
{
    Thread *t = cur;
    if (t->cp_first == t->cp_end) return false;
    const CpAsync &oldest = t->cp[t->cp_first % CP_ASYNC_MAX];
    if (oldest.group + n >= t->cp_group) return false;
    *out = oldest;
    t->cp_first++;
    return true;
}
} // namespace emu
