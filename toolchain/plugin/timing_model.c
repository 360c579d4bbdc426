/* Read the parameters of the modelled chip. See timing_model.h. */
#define _POSIX_C_SOURCE 200809L /* strtok_r */
#include "timing_model.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const lrf_operation_names[LRF_OPERATIONS] = {
#define LRF_OPERATION(name, meaning) #name,
#include "operations.def"
#undef LRF_OPERATION
};

static const struct scalar {
    const char *name;
    size_t offset;
    uint32_t least, most;
} SCALARS[] = {
#define SCALAR(name, least, most) {#name, offsetof(struct lrf_model, name), least, most}
    SCALAR(vlen_bits, 0, 65536),       SCALAR(line_bytes, 16, 256),        SCALAR(issue_width, 1, 16),
    SCALAR(window, 0, 1024),           SCALAR(vector_queue, 0, 256),       SCALAR(in_order_writeback, 0, 1),
    SCALAR(mispredict_cycles, 0, 100), SCALAR(taken_branch_cycles, 0, 10), SCALAR(predictor_entries, 1, 1 << 20),
    SCALAR(history_bits, 0, 20),       SCALAR(return_stack, 1, 64),        SCALAR(target_entries, 1, 1 << 16),
    SCALAR(perfect_memory, 0, 1),      SCALAR(misses, 1, 256),             SCALAR(store_buffer, 1, 256),
    SCALAR(prefetch_streams, 0, 256),   SCALAR(prefetch_near_lines, 0, 64), SCALAR(prefetch_far_lines, 0, 256),
    SCALAR(dram_latency, 1, 10000),    SCALAR(dram_rate, 1, 1 << 20),      SCALAR(dram_write_rate, 1, 1 << 20),
    SCALAR(barrier_cycles, 0, 1000000), SCALAR(write_stream_lines, 0, 64), SCALAR(fill_cycles, 0, 1024),
    SCALAR(write_back_cycles, 0, 1024), SCALAR(load_after_store, 0, 100),  SCALAR(store_drain_rate, 0, 1 << 20),
    SCALAR(float_to_vector, 0, 100),   SCALAR(vector_in_order, 0, 1),
#undef SCALAR
};

struct reader {
    struct lrf_model *model;
    char *rest;      /* of the line */
    bool failed;
};

static char *word(struct reader *r)
{
    char *next = strtok_r(NULL, " \n", &r->rest);
    if (!next)
        r->failed = true;
    return next ? next : "";
}

static uint32_t number(struct reader *r, uint32_t least, uint32_t most)
{
    const char *text = word(r);
    char *end;
    const unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || value < least || value > most)
        r->failed = true;
    return (uint32_t)value;
}

static void expect(struct reader *r, const char *keyword)
{
    if (strcmp(word(r), keyword) != 0)
        r->failed = true;
}

static void read_pipe(struct reader *r)
{
    struct lrf_model *m = r->model;
    const char *name = word(r);
    if (m->pipes == LRF_MAX_PIPES || strlen(name) >= sizeof m->pipe_names[0])
        r->failed = true;
    else
        strcpy(m->pipe_names[m->pipes++], name);
}

static void read_pipe_list(struct reader *r, struct lrf_cost *cost)
{
    char *rest = NULL;
    for (char *name = strtok_r(word(r), ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        uint32_t pipe = 0;
        while (pipe < r->model->pipes && strcmp(r->model->pipe_names[pipe], name) != 0)
            pipe++;
        if (pipe == r->model->pipes || cost->pipes == sizeof cost->pipe)
            r->failed = true;
        else
            cost->pipe[cost->pipes++] = (uint8_t)pipe;
    }
}

static void read_table(struct reader *r, uint16_t table[LRF_SEWS][LRF_LMULS])
{
    for (int sew = 0; sew < LRF_SEWS; sew++)
        for (int lmul = 0; lmul < LRF_LMULS; lmul++)
            table[sew][lmul] = (uint16_t)number(r, 0, UINT16_MAX);
}

static void read_operation(struct reader *r)
{
    const char *name = word(r);
    int operation = 0;
    while (operation < LRF_OPERATIONS && strcmp(lrf_operation_names[operation], name) != 0)
        operation++;
    if (operation == LRF_OPERATIONS || r->model->cost[operation].given) {
        r->failed = true;
        return;
    }
    struct lrf_cost *cost = &r->model->cost[operation];
    cost->given = true;
    read_pipe_list(r, cost);
    expect(r, "busy");
    read_table(r, cost->busy);
    expect(r, "latency");
    read_table(r, cost->latency);
    expect(r, "per_element");
    cost->per_element = (uint16_t)number(r, 0, 1024);
    expect(r, "per_register");
    cost->per_register = (uint16_t)number(r, 0, 1024);
    expect(r, "fields");
    cost->fields = (uint16_t)number(r, 1, 8);
    expect(r, "masked");
    cost->masked = (uint16_t)number(r, LRF_FRACTION, 16 * LRF_FRACTION);
}

static void read_cache(struct reader *r)
{
    const uint32_t level = number(r, 0, LRF_MAX_CACHES - 1);
    if (r->failed || level != r->model->caches) {
        r->failed = true;
        return;
    }
    struct lrf_cache_model *cache = &r->model->cache[r->model->caches++];
    expect(r, "sets");
    cache->sets = number(r, 1, 1 << 24);
    expect(r, "ways");
    cache->ways = number(r, 1, 64);
    expect(r, "latency");
    cache->latency = number(r, 1, 10000);
    expect(r, "read");
    cache->read_rate = number(r, 1, 1 << 20);
    expect(r, "write");
    cache->write_rate = number(r, 1, 1 << 20);
    if (cache->sets & (cache->sets - 1))
        r->failed = true;
}

static void read_line(struct reader *r, const char *key)
{
    if (strcmp(key, "pipe") == 0) {
        read_pipe(r);
    } else if (strcmp(key, "operation") == 0) {
        read_operation(r);
    } else if (strcmp(key, "cache") == 0) {
        read_cache(r);
    } else {
        for (size_t i = 0; i < sizeof SCALARS / sizeof SCALARS[0]; i++) {
            if (strcmp(SCALARS[i].name, key) == 0) {
                const uint32_t value = number(r, SCALARS[i].least, SCALARS[i].most);
                memcpy((char *)r->model + SCALARS[i].offset, &value, sizeof value);
                return;
            }
        }
        r->failed = true;
    }
}

static bool is_whole(const struct lrf_model *m)
{
    for (int o = 0; o < LRF_OPERATIONS; o++)
        if (!m->cost[o].given)
            return false;
    return m->caches >= 1 && m->issue_width && m->line_bytes && m->predictor_entries && m->misses && m->store_buffer &&
           m->dram_latency && m->dram_rate && m->dram_write_rate && !(m->line_bytes & (m->line_bytes - 1)) &&
           !(m->predictor_entries & (m->predictor_entries - 1)) && !(m->target_entries & (m->target_entries - 1));
}

bool lrf_read_model(const char *path, struct lrf_model *model)
{
    char line[512], shown[64] = "";
    struct reader reader = {.model = model};
    FILE *file = fopen(path, "r");
    if (!file) {
        perror("timing plugin: cannot open the model");
        return false;
    }
    memset(model, 0, sizeof *model);
    while (!reader.failed && fgets(line, sizeof line, file)) {
        snprintf(shown, sizeof shown, "%.60s", line);
        const char *key = strtok_r(line, " \n", &reader.rest);
        if (key && *key != '#')
            read_line(&reader, key);
    }
    fclose(file);
    if (!reader.failed && is_whole(model))
        return true;
    fprintf(stderr, "timing plugin: model: %s%s\n", reader.failed ? "bad line: " : "incomplete", reader.failed ? shown : "");
    return false;
}
