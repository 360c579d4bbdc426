/* The markers of region.h: passes through the measured region, and the shares that threads take of a dispatch.
 *
 * One thread runs a pass; where it forks, all shares start together, and it goes on when the slowest has ended and the
 * barrier has cost what the model says. Every share ends before the forking thread meets JOINED, so the figures are
 * complete there, whatever order the host ran the threads in.
 */
#include <stdlib.h>
#include <string.h>

#include "../host/region.h"
#include "timing_hart.h"

/* The shares of the dispatch under way. */
static struct {
    pthread_mutex_t lock;
    bool measured; /* the forking thread is in its region */
    uint64_t slowest;
    struct lrf_pass sum;
} team = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void start(struct lrf_hart *hart, const struct lrf_model *model)
{
    if (!hart->pipeline) {
        hart->pipeline = lrf_allocate(sizeof *hart->pipeline);
        lrf_pipeline_init(hart->pipeline, model);
    }
    hart->in_region = true;
    hart->paused = false;
    memset(&hart->now, 0, sizeof hart->now);
    lrf_pipeline_begin(hart->pipeline);
}

/* All but cycles and stalls, which do not add up over threads. */
static void add_counts(struct lrf_pass *sum, const struct lrf_pass *part)
{
    for (int c = 0; c < LRF_CLASSES; c++)
        sum->counts[c] += part->counts[c];
    for (int l = 0; l < LRF_LEVELS; l++)
        sum->moved[l] += part->moved[l];
    sum->unknown_operations += part->unknown_operations;
    sum->unknown_vtype += part->unknown_vtype;
    sum->branches += part->branches;
    sum->mispredicts += part->mispredicts;
}

/* What the pipeline counted since `start` goes to `hart->now`. */
static void take_figures(struct lrf_hart *hart)
{
    const struct lrf_pipeline *p = hart->pipeline;
    struct lrf_pass seen = {.branches = p->branches, .mispredicts = p->mispredicts};
    memcpy(seen.moved, p->memory.moved, sizeof seen.moved);
    add_counts(&hart->now, &seen);
    hart->now.busy_cycles = p->busy_cycles;
    memcpy(hart->now.stalls, p->stalls, sizeof hart->now.stalls);
}

static void end_pass(struct lrf_hart *hart)
{
    hart->in_region = false;
    hart->now.cycles += lrf_pipeline_drain(hart->pipeline);
    take_figures(hart);
    hart->pass = realloc(hart->pass, (hart->passes + 1) * sizeof *hart->pass);
    if (!hart->pass)
        abort();
    hart->pass[hart->passes++] = hart->now;
}

static void fork_team(struct lrf_hart *hart)
{
    pthread_mutex_lock(&team.lock);
    team.measured = hart->in_region;
    team.slowest = 0;
    memset(&team.sum, 0, sizeof team.sum);
    pthread_mutex_unlock(&team.lock);
    if (hart->in_region)
        hart->now.cycles += lrf_pipeline_drain(hart->pipeline);
    hart->paused = true;
}

static void begin_share(struct lrf_hart *hart, const struct lrf_model *model)
{
    pthread_mutex_lock(&team.lock);
    const bool measured = team.measured;
    pthread_mutex_unlock(&team.lock);
    if (measured)
        start(hart, model);
}

static void end_share(struct lrf_hart *hart)
{
    if (!hart->in_region)
        return;
    const uint64_t cycles = lrf_pipeline_drain(hart->pipeline);
    take_figures(hart);
    hart->in_region = false;
    pthread_mutex_lock(&team.lock);
    if (cycles > team.slowest)
        team.slowest = cycles;
    add_counts(&team.sum, &hart->now);
    pthread_mutex_unlock(&team.lock);
}

static void join_team(struct lrf_hart *hart, const struct lrf_model *model)
{
    hart->paused = false;
    if (!hart->in_region)
        return;
    pthread_mutex_lock(&team.lock);
    const uint64_t slowest = team.slowest > hart->share_cycles ? team.slowest : hart->share_cycles;
    add_counts(&hart->now, &team.sum);
    pthread_mutex_unlock(&team.lock);
    hart->now.forks++;
    hart->now.cycles += slowest + model->barrier_cycles;
    hart->now.joins += slowest - hart->share_cycles + model->barrier_cycles;
}

void lrf_hart_marker(struct lrf_hart *hart, const struct lrf_model *model, uint32_t code, uint64_t pc)
{
    lrf_hart_finish(hart, pc);
    switch (code) {
    case LRF_REGION_BEGIN_CODE: /* a second one inside a region changes nothing */
        if (!hart->in_region)
            start(hart, model);
        break;
    case LRF_REGION_END_CODE:
        if (hart->in_region)
            end_pass(hart);
        break;
    case LRF_SHARE_BEGIN_CODE: begin_share(hart, model); break;
    case LRF_SHARE_END_CODE: end_share(hart); break;
    case LRF_FORK_CODE: fork_team(hart); break;
    case LRF_FORKED_CODE: hart->paused = false; break;
    case LRF_JOIN_CODE:
        if (hart->in_region)
            hart->share_cycles = lrf_pipeline_drain(hart->pipeline);
        hart->paused = true;
        break;
    default: join_team(hart, model); /* JOINED */
    }
}
