/* Out-of-order issue from a window of as many instructions as the reorder buffer holds. See timing_pipeline.h.
 *
 * Registers are renamed without limit, and each pipe takes the instructions that may start in it as they come in the
 * order of the program: a later one fills an earlier gap. So it is an upper bound on what a real scheduler finds. A
 * vector unit may issue in order behind the window: then no vector instruction starts before an earlier one has, nor
 * before the scalar instructions ahead of it have ended, the branches among them.
 */
#include "timing_pipeline.h"

#define WORD_SHIFT 6

static uint64_t *calendar(struct lrf_pipe *pipe, uint64_t word)
{
    const uint32_t i = word % LRF_CALENDAR_WORDS;
    if (pipe->word[i] < word) {
        pipe->word[i] = word;
        pipe->busy[i] = 0;
    }
    return pipe->word[i] == word ? &pipe->busy[i] : 0; /* none: further back than is remembered */
}

/* The first cycle from `from` on at which the pipe is free for `length` cycles in a row. */
static uint64_t gap(struct lrf_pipe *pipe, uint64_t from, uint32_t length)
{
    uint64_t start = from, at = from;
    while (at < start + length) {
        const uint64_t *busy = calendar(pipe, at >> WORD_SHIFT);
        const uint64_t taken = busy ? *busy >> (at & 63) : 0;
        if (taken & 1) {
            at += ~taken ? (uint64_t)__builtin_ctzll(~taken) : 64 - (at & 63);
            start = at;
        } else {
            at += taken ? (uint64_t)__builtin_ctzll(taken) : 64 - (at & 63);
        }
    }
    return start;
}

static void take(struct lrf_pipe *pipe, uint64_t start, uint32_t length)
{
    while (length) {
        const uint32_t first = start & 63, here = length < 64 - first ? length : 64 - first;
        uint64_t *busy = calendar(pipe, start >> WORD_SHIFT);
        if (busy)
            *busy |= (here == 64 ? ~UINT64_C(0) : (UINT64_C(1) << here) - 1) << first;
        start += here;
        length -= here;
    }
}

/* When the step enters the window: in order, `issue_width` a cycle, with an entry free. */
static struct lrf_moment enter(struct lrf_pipeline *p)
{
    struct lrf_moment at = {p->entry + (p->entry_slots == p->model->issue_width), LRF_DEPENDENCY};
    lrf_not_before(&at, p->fetch, LRF_BRANCH);
    lrf_not_before(&at, p->retired[p->next_retired], LRF_UNIT);
    p->entry_slots = at.cycle == p->entry ? p->entry_slots + 1 : 1;
    p->entry = at.cycle;
    return at;
}

/* In order, `issue_width` a cycle, at `complete` at the earliest. */
static void retire(struct lrf_pipeline *p, uint64_t complete, uint8_t cause)
{
    const uint64_t natural = p->cycle + (p->slots == p->model->issue_width);
    const uint64_t at = complete > natural ? complete : natural;
    if (at == p->cycle && p->slots) {
        p->slots++;
    } else {
        p->stalls[cause] += at - p->cycle - (p->slots != 0);
        p->busy_cycles++;
        p->cycle = at;
        p->slots = 1;
    }
    p->retired[p->next_retired] = at;
    p->next_retired = p->next_retired + 1 == p->model->window ? 0 : p->next_retired + 1;
}

void lrf_window_step(struct lrf_pipeline *p, const struct lrf_step *step, struct lrf_touched touched)
{
    struct lrf_moment at = enter(p);
    at.cycle++; /* from the window to a pipe */
    lrf_wait_for_sources(p, step, &at);
    lrf_wait_for_stores(p, step, touched, &at);
    const bool in_order = step->vector && p->model->vector_in_order;
    if (in_order) {
        lrf_not_before(&at, p->vector_cycle, LRF_UNIT);
        lrf_not_before(&at, p->scalar_done, p->scalar_cause);
    }
    struct lrf_pipe *pipe = &p->pipe[step->pipe[0]];
    uint64_t start = gap(pipe, at.cycle, (step->busy + pipe->fraction) / LRF_FRACTION);
    for (unsigned i = 1; i < step->pipes && start > at.cycle; i++) {
        struct lrf_pipe *other = &p->pipe[step->pipe[i]];
        const uint64_t when = gap(other, at.cycle, (step->busy + other->fraction) / LRF_FRACTION);
        if (when < start)
            start = when, pipe = other;
    }
    take(pipe, start, lrf_occupancy(pipe, step));
    uint32_t port;
    uint8_t from_memory, cause = start > at.cycle ? LRF_UNIT : at.cause;
    const uint64_t ready = lrf_complete(p, step, touched, start, &from_memory, &port);
    take(pipe, start + (step->busy + pipe->fraction) / LRF_FRACTION, lrf_line_cycles(pipe, port));
    if (in_order) {
        p->vector_cycle = start;
    } else if (!step->vector && ready > p->scalar_done) {
        p->scalar_done = ready;
        p->scalar_cause = step->load ? from_memory : LRF_DEPENDENCY;
    }
    if (from_memory > LRF_L1 || (cause == LRF_DEPENDENCY && step->load))
        cause = from_memory;
    if (step->destinations && ready >= p->last_write) {
        p->last_write = ready;
        p->last_cause = cause;
    }
    lrf_write(p, step, start, ready, step->load ? from_memory : LRF_DEPENDENCY);
    p->resolved = ready;
    retire(p, ready, cause);
}
