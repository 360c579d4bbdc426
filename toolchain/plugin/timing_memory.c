/* See timing_memory.h. */
#include "timing_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_SHIFT 5 /* a slot of a channel is 32 cycles */

void *lrf_allocate(size_t bytes)
{
    void *memory = calloc(1, bytes ? bytes : 1);
    if (!memory) {
        fputs("timing plugin: out of memory\n", stderr);
        _Exit(EXIT_FAILURE);
    }
    return memory;
}

void lrf_memory_init(struct lrf_memory *memory, const struct lrf_model *model)
{
    memory->model = model;
    memory->line_shift = (uint32_t)__builtin_ctz(model->line_bytes);
    for (uint32_t k = 0; k < model->caches; k++) {
        const struct lrf_cache_model *shape = &model->cache[k];
        memory->cache[k].lines = lrf_allocate((size_t)shape->sets * shape->ways * sizeof(struct lrf_line));
        memory->cache[k].set_mask = shape->sets - 1;
        memory->cache[k].ways = shape->ways;
    }
}

/* The cycle at which a transfer asked for at `now` starts. Beyond the ring, time is taken as free. */
static uint64_t transfer(struct lrf_channel *channel, uint64_t now, uint32_t bytes, uint32_t rate)
{
    uint64_t slot = now >> SLOT_SHIFT, start = now;
    uint32_t left = bytes * LRF_RATE * LRF_RATE / rate;
    bool started = false;
    for (;; slot++) {
        const uint32_t i = slot % LRF_CHANNEL_SLOTS;
        if (channel->slot[i] != slot) {
            if (channel->slot[i] > slot)
                return start;
            channel->slot[i] = slot;
            channel->granted[i] = 0;
        }
        const uint32_t room = (LRF_RATE << SLOT_SHIFT) - channel->granted[i];
        if (!room)
            continue;
        if (!started) {
            const uint64_t from = (slot << SLOT_SHIFT) + channel->granted[i] / LRF_RATE;
            start = from > now ? from : now;
            started = true;
        }
        if (room >= left) {
            channel->granted[i] += left;
            return start;
        }
        channel->granted[i] = LRF_RATE << SLOT_SHIFT;
        left -= room;
    }
}

static struct lrf_line *lookup(struct lrf_memory *m, unsigned k, uint64_t line)
{
    struct lrf_line *set = &m->cache[k].lines[(line & m->cache[k].set_mask) * m->cache[k].ways];
    for (uint32_t w = 0; w < m->cache[k].ways; w++) {
        if (set[w].tag == line + 1) {
            set[w].used = ++m->clock;
            return &set[w];
        }
    }
    return NULL;
}

static struct lrf_line *install(struct lrf_memory *m, unsigned k, uint64_t now, uint64_t line, uint64_t ready);

/* A dirty line leaves cache `k`: for the next cache, which takes it whole if it has not got it, or for memory. The cycle
 * at which it starts to. */
static uint64_t write_back(struct lrf_memory *m, unsigned k, uint64_t now, uint64_t line)
{
    const struct lrf_model *model = m->model;
    m->moved[k + 1] += model->line_bytes;
    if (k == 0)
        m->port += model->write_back_cycles;
    if (k + 1 == model->caches)
        return transfer(&m->channel[k], now, model->line_bytes, model->dram_write_rate);
    const uint64_t start = transfer(&m->back[k], now, model->line_bytes, model->cache[k].write_rate);
    struct lrf_line *next = lookup(m, k + 1, line);
    if (!next)
        next = install(m, k + 1, start, line, start);
    next->dirty = 1;
    return next->held > start ? next->held : start;
}

/* A place for `line`, which is there at `ready`; `held` is when what it pushes out has started to leave. */
static struct lrf_line *install(struct lrf_memory *m, unsigned k, uint64_t now, uint64_t line, uint64_t ready)
{
    uint64_t held = now;
    struct lrf_line *set = &m->cache[k].lines[(line & m->cache[k].set_mask) * m->cache[k].ways], *victim = set;
    for (uint32_t w = 0; w < m->cache[k].ways; w++)
        if (!set[w].tag || (victim->tag && set[w].used < victim->used))
            victim = &set[w];
    if (victim->dirty)
        held = write_back(m, k, now, victim->tag - 1);
    *victim = (struct lrf_line){.tag = line + 1, .ready = ready, .held = held, .used = ++m->clock};
    return victim;
}

static uint32_t latency_of(const struct lrf_model *model, unsigned level)
{
    return level < model->caches ? model->cache[level].latency : model->dram_latency;
}

/* Bring `line` into cache `k`, which does not have it. Latencies add up to the load-to-use latency of the level that
 * has the line, less the nearest cache's own. */
static struct lrf_line *fetch(struct lrf_memory *m, unsigned k, uint64_t now, uint64_t line, unsigned *level)
{
    uint64_t there = now; /* when the next level has the line */
    *level = k + 1;
    if (k + 1 < m->model->caches) {
        struct lrf_line *next = lookup(m, k + 1, line);
        if (!next)
            next = fetch(m, k + 1, now, line, level);
        else if (next->ready > now)
            *level = next->source;
        there = next->ready > now ? next->ready : now;
    }
    const uint32_t rate = k + 1 < m->model->caches ? m->model->cache[k].read_rate : m->model->dram_rate;
    const uint64_t start = transfer(&m->channel[k], there, m->model->line_bytes, rate);
    m->moved[k + 1] += m->model->line_bytes;
    const uint64_t ready = start + latency_of(m->model, k + 1) - m->model->cache[k].latency;
    struct lrf_line *entry = install(m, k, ready, line, ready);
    entry->source = (uint8_t)*level;
    entry->fresh = 1;
    return entry;
}

/* A miss waits until one of the lines under way has arrived, if there are as many as there may be. */
static uint64_t *claim_miss(struct lrf_memory *m)
{
    uint64_t *first = &m->miss_done[0];
    for (uint32_t i = 1; i < m->model->misses; i++)
        if (m->miss_done[i] < *first)
            first = &m->miss_done[i];
    return first;
}

bool lrf_stores_in_a_run(struct lrf_memory *m, struct lrf_touched touched)
{
    struct lrf_write_run *run = &m->run[0];
    if (!m->model->write_stream_lines || !touched.count)
        return false;
    const uint64_t address = touched.address[0], end = touched.end[touched.count - 1];
    if (end <= address || ((end - 1) >> m->line_shift) - (address >> m->line_shift) + 1 != touched.count)
        return false; /* strided or indexed */
    for (unsigned i = 0; i < LRF_WRITE_RUNS; i++) {
        if (m->run[i].end == address) {
            m->run[i].end = end;
            m->run[i].used = ++m->clock;
            return end - m->run[i].start > (uint64_t)m->model->write_stream_lines * m->model->line_bytes;
        }
        if (m->run[i].used < run->used)
            run = &m->run[i];
    }
    *run = (struct lrf_write_run){address, end, ++m->clock};
    return false;
}

/* A line that is written whole needs no reading: its place is enough, once what was there can leave. */
static struct lrf_line *claim(struct lrf_memory *m, uint64_t now, uint64_t line, unsigned *level)
{
    struct lrf_line *entry = install(m, 0, now, line, now);
    entry->ready = entry->held;
    *level = m->model->caches > 1 ? 1 : m->model->caches;
    entry->source = (uint8_t)*level;
    return entry;
}

uint64_t lrf_access(struct lrf_memory *m, uint64_t now, uint64_t address, enum lrf_access kind, unsigned *level)
{
    const uint64_t line = address >> m->line_shift;
    *level = 0;
    if (m->model->perfect_memory)
        return now;
    struct lrf_line *entry = lookup(m, 0, line);
    if (entry) {
        if (entry->ready > now)
            *level = entry->source;
    } else if (kind == LRF_STORE_IN_A_RUN) {
        entry = claim(m, now, line, level);
    } else {
        uint64_t *done = claim_miss(m);
        entry = fetch(m, 0, *done > now ? *done : now, line, level);
        *done = entry->ready;
        entry->fresh = 0; /* the latencies of caches are those of a load that had to wait */
        m->seen = true;
    }
    if (entry->fresh) {
        entry->fresh = 0;
        m->port += m->model->fill_cycles;
        m->seen |= kind != LRF_STORE_IN_A_RUN; /* which the prefetcher is not shown */
    }
    entry->dirty |= kind != LRF_LOAD;
    return entry->ready > now ? entry->ready : now;
}

/* Ask for the lines that `touched` would be `step` bytes on, for all steps up to `ahead` that were not asked for yet. */
static void run_ahead(struct lrf_memory *m, unsigned k, uint64_t now, struct lrf_touched touched, int64_t step,
                      int32_t ahead, int32_t *reached)
{
    unsigned level;
    for (int32_t n = *reached < 0 ? 1 : *reached + 1; n <= ahead; n++) {
        for (uint32_t i = 0; i < touched.count; i++) {
            const uint64_t line = (touched.address[i] + (uint64_t)(step * n)) >> m->line_shift;
            if (!lookup(m, k, line))
                fetch(m, k, now, line, &level);
        }
    }
    if (ahead > *reached)
        *reached = ahead;
}

static int32_t steps_of(uint32_t lines, uint32_t count)
{
    return lines && lines < count ? 1 : (int32_t)(lines / count);
}

/* The entry that follows the instruction at `pc`, else the one that was not used for longest. */
static struct lrf_stream *stream_of(struct lrf_memory *m, uint64_t pc)
{
    struct lrf_stream *oldest = &m->stream[0];
    for (uint32_t i = 0; i < m->model->prefetch_streams; i++) {
        if (m->stream[i].pc == pc)
            return &m->stream[i];
        if (m->stream[i].used < oldest->used)
            oldest = &m->stream[i];
    }
    return oldest;
}

void lrf_prefetch(struct lrf_memory *m, uint64_t now, uint64_t pc, struct lrf_touched touched)
{
    const struct lrf_model *model = m->model;
    const bool seen = m->seen;
    m->seen = false;
    if (!seen || !touched.count || !model->prefetch_streams)
        return;
    struct lrf_stream *stream = stream_of(m, pc);
    const uint64_t address = touched.address[0];
    const int64_t stride = (int64_t)(address - stream->last), line = model->line_bytes;
    const int64_t lines = (int64_t)((address >> m->line_shift) - (stream->last >> m->line_shift));
    stream->used = ++m->clock;
    if (stream->pc != pc) {
        *stream = (struct lrf_stream){.pc = pc, .last = address, .used = stream->used};
        return;
    }
    /* Steps within a line are not seen one by one: from line to line they count as one line. */
    const int64_t step = lines == 1 ? line : lines == -1 ? -line : stride;
    const bool again = step && (step == stream->step || stride == stream->stride);
    stream->last = address;
    stream->stride = stride;
    if (!again) {
        stream->step = step;
        stream->confident = false;
        stream->near = stream->far = 0;
        return;
    }
    stream->near -= stream->confident;
    stream->far -= stream->confident;
    stream->confident = true;
    if (model->caches > 1)
        run_ahead(m, 1, now, touched, stream->step, steps_of(model->prefetch_far_lines, touched.count), &stream->far);
    run_ahead(m, 0, now, touched, stream->step, steps_of(model->prefetch_near_lines, touched.count), &stream->near);
}
