/* See timing_output.h. */
#include "timing_output.h"

#include <inttypes.h>

static const char *const CLASS_NAMES[] = {
#define LRF_CLASS(name, meaning) #name,
#include "classes.def"
#undef LRF_CLASS
};
static const char *const CAUSE_NAMES[LRF_CAUSES] = {"dependency", "unit", "branch", "l1", "l2", "l3", "dram"};
static const char *const LEVEL_NAMES[LRF_MAX_CACHES] = {"l1", "l2", "l3"};

static void write_pass(FILE *out, const struct lrf_model *model, const struct lrf_pass *sum)
{
    uint64_t instructions = 0;
    for (int c = 0; c < LRF_CLASSES; c++)
        instructions += sum->counts[c];
    fprintf(out, "{\"cycles\": %" PRIu64 ", \"instructions\": %" PRIu64 ", \"ipc\": %.4f, \"forks\": %" PRIu64, sum->cycles,
            instructions, sum->cycles ? (double)instructions / (double)sum->cycles : 0.0, sum->forks);
    fprintf(out, ", \"busy_cycles\": %" PRIu64 ", \"stalls\": {", sum->busy_cycles);
    for (int c = 0; c < LRF_CAUSES; c++)
        fprintf(out, "\"%s\": %" PRIu64 ", ", CAUSE_NAMES[c], sum->stalls[c]);
    fprintf(out, "\"join\": %" PRIu64 "}, \"bytes\": {", sum->joins);
    for (uint32_t l = 0; l <= model->caches; l++)
        fprintf(out, "%s\"%s\": %" PRIu64, l ? ", " : "", l < model->caches ? LEVEL_NAMES[l] : "dram", sum->moved[l]);
    fputs("}, \"counts\": {", out);
    for (int c = 0; c < LRF_unknown; c++)
        fprintf(out, "%s\"%s\": %" PRIu64, c ? ", " : "", CLASS_NAMES[c], sum->counts[c]);
    fprintf(out,
            "}, \"unknown\": %" PRIu64 ", \"unknown_operations\": %" PRIu64 ", \"unknown_vtype\": %" PRIu64
            ", \"branches\": %" PRIu64 ", \"mispredicts\": %" PRIu64 "}",
            sum->counts[LRF_unknown], sum->unknown_operations, sum->unknown_vtype, sum->branches, sum->mispredicts);
}

void lrf_write_passes(FILE *out, const struct lrf_model *model, const struct lrf_hart *harts, unsigned count)
{
    const char *separator = "";
    unsigned open = 0;
    for (unsigned h = 0; h < count; h++)
        open += harts[h].in_region;
    fprintf(out, "{\"open\": %u, \"passes\": [", open);
    for (unsigned h = 0; h < count; h++) {
        for (uint32_t n = 0; n < harts[h].passes; n++) {
            fputs(separator, out);
            write_pass(out, model, &harts[h].pass[n]);
            separator = ", ";
        }
    }
    fputs("]}\n", out);
}
