/* QEMU TCG plugin: counts the executed instructions of the marked region, by class.
 *
 *     qemu-riscv64 -plugin count.so,out=PATH program ...
 *
 * At exit PATH holds one JSON object:
 *     {"regions": completed regions, "open": regions never left, "counts": {class: n}, "unknown": n}
 * Classes are those of classes.def, `unknown` apart. PATH is created empty when the plugin loads, so
 * an empty file means that the program died and a missing one that the plugin never ran.
 *
 * How: a translation block is cut at region markers into segments. All instructions of a segment run
 * whenever its first one does, so one callback on the first adds the segment's counts, which were
 * summed at translation. Blocks are shared by all vCPUs and by passes inside and outside the region:
 * whether to add is decided at execution, from the state of the vCPU. The one exception is an
 * instruction that faults in the middle of a segment of a program that handles the signal and goes
 * on: the rest of that segment is counted though it did not run.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../host/region.h"
#include "decode.h"
#include "qemu_api.h"

#define MAX_VCPUS 4096 /* one per guest thread ever alive at once; pages of unused entries cost nothing */
#define CACHE_LINE 64

QEMU_EXPORT int qemu_plugin_version = QEMU_API_VERSION;

struct counts {
    uint64_t of[LRF_CLASSES];
};

/* What one vCPU did. Only its own thread writes it; aligned so that vCPUs do not share cache lines. */
struct vcpu {
    bool in_region, counting; /* a thread that waits for others is in its region and does not count */
    uint64_t regions;
    struct counts counts;
} __attribute__((aligned(CACHE_LINE)));

static struct vcpu vcpus[MAX_VCPUS];
static FILE *out;

static void on_vcpu_init(qemu_plugin_id_t id, unsigned vcpu_index)
{
    (void)id;
    if (vcpu_index >= MAX_VCPUS) {
        fprintf(stderr, "count plugin: more than %d threads at once\n", MAX_VCPUS);
        _Exit(EXIT_FAILURE);
    }
}

static void on_segment(unsigned vcpu_index, void *segment)
{
    struct vcpu *vcpu = &vcpus[vcpu_index];
    if (!vcpu->counting)
        return;
    const struct counts *add = segment;
    for (int c = 0; c < LRF_CLASSES; c++)
        vcpu->counts.of[c] += add->of[c];
}

/* Whether the thread that forked the shares under way is in its region. It stays there until they have ended. */
static bool team_counts;

/* A second begin inside a region and an end outside of one change nothing. */
static void on_marker(unsigned vcpu_index, void *code)
{
    struct vcpu *vcpu = &vcpus[vcpu_index];
    switch ((uint32_t)(uintptr_t)code) {
    case LRF_REGION_BEGIN_CODE: vcpu->in_region = vcpu->counting = true; break;
    case LRF_REGION_END_CODE:
        vcpu->regions += vcpu->in_region;
        vcpu->in_region = vcpu->counting = false;
        break;
    case LRF_FORK_CODE:
        __atomic_store_n(&team_counts, vcpu->in_region, __ATOMIC_RELEASE);
        vcpu->counting = false;
        break;
    case LRF_SHARE_BEGIN_CODE: vcpu->counting = __atomic_load_n(&team_counts, __ATOMIC_ACQUIRE); break;
    case LRF_SHARE_END_CODE:
    case LRF_JOIN_CODE: vcpu->counting = false; break;
    default: vcpu->counting = vcpu->in_region; /* FORKED, JOINED */
    }
}

/* Segments live as long as the process: QEMU may run a block any time until it exits, and translated
 * code is bounded by the size of the program. */
static struct counts *new_segment(struct qemu_plugin_insn *first)
{
    struct counts *segment = calloc(1, sizeof *segment);
    if (!segment) {
        fputs("count plugin: out of memory\n", stderr);
        _Exit(EXIT_FAILURE);
    }
    qemu_plugin_register_vcpu_insn_exec_cb(first, on_segment, QEMU_PLUGIN_CB_NO_REGS, segment);
    return segment;
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct counts *segment = NULL;
    const size_t n = qemu_plugin_tb_n_insns(tb);
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const uint32_t code = lrf_fetch(qemu_plugin_insn_data(insn), qemu_plugin_insn_size(insn));
        if (lrf_is_marker(code)) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_marker, QEMU_PLUGIN_CB_NO_REGS, (void *)(uintptr_t)code);
            segment = NULL;
            continue;
        }
        if (!segment)
            segment = new_segment(insn);
        segment->of[lrf_classify(code)]++;
    }
}

static void on_exit(qemu_plugin_id_t id, void *unused)
{
    static const char *const names[] = {
#define LRF_CLASS(name, meaning) #name,
#include "classes.def"
#undef LRF_CLASS
    };
    struct counts total = {0};
    uint64_t regions = 0, open = 0;
    (void)id, (void)unused;
    for (int v = 0; v < MAX_VCPUS; v++) {
        regions += vcpus[v].regions;
        open += vcpus[v].in_region;
        for (int c = 0; c < LRF_CLASSES; c++)
            total.of[c] += vcpus[v].counts.of[c];
    }
    fprintf(out, "{\"regions\": %" PRIu64 ", \"open\": %" PRIu64 ", \"counts\": {", regions, open);
    for (int c = 0; c < LRF_unknown; c++)
        fprintf(out, "%s\"%s\": %" PRIu64, c ? ", " : "", names[c], total.of[c]);
    fprintf(out, "}, \"unknown\": %" PRIu64 "}\n", total.of[LRF_unknown]);
    if (fclose(out) != 0)
        perror("count plugin: cannot write the counts");
}

QEMU_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    if (strcmp(info->target_name, "riscv64") != 0) {
        fprintf(stderr, "count plugin: decodes riscv64 only, not %s\n", info->target_name);
        return -1;
    }
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) {
        fputs("count plugin: needs exactly one argument, out=PATH\n", stderr);
        return -1;
    }
    out = fopen(argv[0] + 4, "w");
    if (!out) {
        perror("count plugin: cannot create the output file");
        return -1;
    }
    qemu_plugin_register_vcpu_init_cb(id, on_vcpu_init);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, on_exit, NULL);
    return 0;
}
