/* In-order issue, completion and control transfers. See timing_pipeline.h. */
#include "timing_pipeline.h"

#include <string.h>

void lrf_pipeline_init(struct lrf_pipeline *p, const struct lrf_model *model)
{
    memset(p, 0, sizeof *p);
    p->model = model;
    lrf_memory_init(&p->memory, model);
    lrf_predictor_init(&p->predictor, model);
}

void lrf_pipeline_begin(struct lrf_pipeline *p)
{
    p->busy_cycles = p->branches = p->mispredicts = 0;
    memset(p->stalls, 0, sizeof p->stalls);
    memset(p->memory.moved, 0, sizeof p->memory.moved);
}

uint64_t lrf_pipeline_drain(struct lrf_pipeline *p)
{
    const uint64_t start = p->start;
    p->cycle += p->slots != 0;
    if (p->last_write > p->cycle) {
        p->stalls[p->last_cause] += p->last_write - p->cycle;
        p->cycle = p->last_write;
    }
    p->start = p->fetch = p->vector_cycle = p->entry = p->cycle;
    p->slots = p->entry_slots = 0;
    return p->cycle - start;
}

/* An instruction counts for `cycle` of the program's order: what lies between it and the last one was stalled. */
static void advance(struct lrf_pipeline *p, const struct lrf_moment *at)
{
    if (at->cycle == p->cycle && p->slots) {
        p->slots++;
        return;
    }
    p->stalls[at->cause] += at->cycle - p->cycle - (p->slots != 0);
    p->busy_cycles++;
    p->cycle = at->cycle;
    p->slots = 1;
}

uint32_t lrf_occupancy(struct lrf_pipe *pipe, const struct lrf_step *step)
{
    const uint32_t sum = pipe->fraction + step->busy;
    pipe->fraction = sum % LRF_FRACTION;
    return sum / LRF_FRACTION;
}

static const uint8_t CAUSE_OF_LEVEL[LRF_LEVELS] = {LRF_L1, LRF_L2, LRF_L3, LRF_DRAM};

static uint8_t cause_of(const struct lrf_model *model, unsigned level)
{
    return level == model->caches ? LRF_DRAM : CAUSE_OF_LEVEL[level];
}

/* When the results of a step that starts at `issue` are there. Its lines are touched one after the other while it
 * occupies its pipe; a line that arrives late still needs the nearest cache's latency to reach the register. */
uint64_t lrf_complete(struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_touched touched, uint64_t issue,
                      uint8_t *cause, uint32_t *port)
{
    uint64_t ready = issue + step->latency;
    const bool in_a_run = step->store && lrf_stores_in_a_run(&p->memory, touched);
    const enum lrf_access kind = in_a_run ? LRF_STORE_IN_A_RUN : step->store ? LRF_STORE : LRF_LOAD;
    *cause = step->load ? LRF_L1 : LRF_DEPENDENCY;
    for (uint32_t i = 0; i < touched.count; i++) {
        const uint64_t now = issue + (uint64_t)i * step->busy / (touched.count * LRF_FRACTION);
        unsigned level;
        const uint64_t there = lrf_access(&p->memory, now, touched.address[i], kind, &level);
        if (step->store) {
            const uint32_t slot = p->next_store, last = (slot ? slot : p->model->store_buffer) - 1;
            const uint64_t after = there > p->store_done[last] ? there : p->store_done[last];
            p->store_done[slot] = after;
            p->store_cause[slot] = cause_of(p->model, level);
            p->next_store = slot + 1 == p->model->store_buffer ? 0 : slot + 1;
        }
        if (step->load && there > now && there + p->model->cache[0].latency > ready) {
            ready = there + p->model->cache[0].latency;
            *cause = cause_of(p->model, level);
        }
    }
    if (!in_a_run)
        lrf_prefetch(&p->memory, issue, step->pc, touched);
    *port = p->memory.port;
    p->memory.port = 0;
    return ready + (step->load ? *port / LRF_FRACTION : 0);
}

uint32_t lrf_line_cycles(struct lrf_pipe *pipe, uint32_t port)
{
    const uint32_t sum = pipe->fraction + port;
    pipe->fraction = sum % LRF_FRACTION;
    return sum / LRF_FRACTION;
}

/* A store needs as many entries of the buffer as it touches lines (all of them at most). */
void lrf_wait_for_stores(const struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_touched touched,
                         struct lrf_moment *at)
{
    if (!step->store || !touched.count)
        return;
    const uint32_t entries = p->model->store_buffer, wanted = touched.count < entries ? touched.count : entries;
    const uint32_t last = (p->next_store + wanted - 1) % entries;
    lrf_not_before(at, p->store_done[last], p->store_cause[last]);
}

/* The pipe that the step occupies is free, of lines and of stores that loads do not overtake. */
static void wait_for_pipe(const struct lrf_pipe *pipe, const struct lrf_step *step, struct lrf_moment *at)
{
    lrf_not_before(at, pipe->free, LRF_UNIT);
    if (step->load && step->vector)
        lrf_not_before(at, pipe->load_free, LRF_UNIT);
}

static struct lrf_pipe *first_free(struct lrf_pipeline *p, const struct lrf_step *step)
{
    struct lrf_pipe *best = &p->pipe[step->pipe[0]];
    for (unsigned i = 1; i < step->pipes; i++)
        if (p->pipe[step->pipe[i]].free < best->free)
            best = &p->pipe[step->pipe[i]];
    return best;
}

/* A later result may not be overtaken by this one in the same register. */
static void wait_for_destinations(const struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_moment *at)
{
    for (unsigned d = 0; d < step->destinations; d++) {
        const unsigned first = step->destination[d].first, end = first + step->destination[d].count;
        for (unsigned r = first; r < end; r++)
            if (p->ready[r] > at->cycle + step->latency)
                lrf_not_before(at, p->ready[r] - step->latency, p->cause[r]);
    }
}

/* With results written in order, an instruction that would end before an earlier one does not start yet. */
static void wait_for_earlier_results(const struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_moment *at)
{
    if (p->model->in_order_writeback && p->last_write > at->cycle + step->latency)
        lrf_not_before(at, p->last_write - step->latency, p->last_cause);
}

static void execute(struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_touched touched,
                    struct lrf_pipe *pipe, uint64_t issue)
{
    uint8_t cause;
    uint32_t port;
    pipe->free = issue + lrf_occupancy(pipe, step);
    const uint64_t ready = lrf_complete(p, step, touched, issue, &cause, &port);
    pipe->free += lrf_line_cycles(pipe, port);
    if (step->stored_bytes) {
        const uint32_t rate = p->model->store_drain_rate;
        pipe->load_free = pipe->free + p->model->load_after_store + (rate ? step->stored_bytes * LRF_RATE / rate : 0);
    }
    /* A store has no result, but where they are written in order it holds its place among them. */
    if ((step->destinations || p->model->in_order_writeback) && ready >= p->last_write) {
        p->last_write = ready;
        p->last_cause = cause;
    }
    lrf_write(p, step, issue, ready, cause);
}

/* Beside the scalar core: a vector instruction leaves it when its scalar sources are there and the queue has room, and
 * starts in order among vector instructions. */
static void queue_vector(struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_touched touched,
                         struct lrf_moment *at)
{
    for (unsigned s = 0; s < step->sources; s++)
        if (step->source[s].first < LRF_V || step->source[s].first == LRF_VL)
            lrf_not_before(at, p->ready[step->source[s].first], p->cause[step->source[s].first]);
    lrf_not_before(at, p->queue[p->next_queued], p->queue_cause[p->next_queued]);
    advance(p, at);
    struct lrf_moment start = {at->cycle + 1, LRF_DEPENDENCY};
    lrf_not_before(&start, p->vector_cycle, LRF_UNIT);
    lrf_wait_for_sources(p, step, &start);
    lrf_wait_for_stores(p, step, touched, &start);
    wait_for_destinations(p, step, &start);
    struct lrf_pipe *pipe = first_free(p, step);
    wait_for_pipe(pipe, step, &start);
    wait_for_earlier_results(p, step, &start);
    execute(p, step, touched, pipe, start.cycle);
    p->vector_cycle = start.cycle;
    p->queue[p->next_queued] = start.cycle;
    p->queue_cause[p->next_queued] = start.cause;
    p->next_queued = p->next_queued + 1 == p->model->vector_queue ? 0 : p->next_queued + 1;
}

void lrf_pipeline_step(struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_touched touched)
{
    if (p->model->window) {
        lrf_window_step(p, step, touched);
        return;
    }
    struct lrf_moment at = {p->cycle + (p->slots == p->model->issue_width), LRF_UNIT};
    lrf_not_before(&at, p->fetch, LRF_BRANCH);
    if (step->vector && p->model->vector_queue) {
        queue_vector(p, step, touched, &at);
        return;
    }
    lrf_wait_for_sources(p, step, &at);
    lrf_wait_for_stores(p, step, touched, &at);
    wait_for_destinations(p, step, &at);
    struct lrf_pipe *pipe = first_free(p, step);
    wait_for_pipe(pipe, step, &at);
    wait_for_earlier_results(p, step, &at);
    advance(p, &at);
    execute(p, step, touched, pipe, at.cycle);
}

void lrf_pipeline_branch(struct lrf_pipeline *p, const struct lrf_step *step, uint64_t pc, uint64_t fall_through,
                         uint64_t next)
{
    const bool taken = next != fall_through;
    bool wrong = false;
    if (step->conditional)
        wrong = lrf_mispredicts(&p->predictor, pc, taken, next < pc);
    else if (step->returns)
        wrong = lrf_mispredicts_return(&p->predictor, next);
    else if (step->indirect)
        wrong = lrf_mispredicts_indirect(&p->predictor, pc, next);
    if (step->call)
        lrf_predictor_call(&p->predictor, fall_through);
    p->branches++;
    p->mispredicts += wrong;
    const uint64_t resolved = p->model->window ? p->resolved : p->cycle + 1;
    if (wrong)
        p->fetch = resolved + p->model->mispredict_cycles;
    else if (taken && p->model->taken_branch_cycles)
        p->fetch = (p->model->window ? p->entry : p->cycle) + 1 + p->model->taken_branch_cycles;
}
