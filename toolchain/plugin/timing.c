/* QEMU TCG plugin: a trace-driven model of one chip's pipeline and memory, over the marked region of a program.
 *
 *     qemu-riscv64 -plugin timing.so,out=PATH,model=PATH program ...
 *
 * `model` is described in timing_model.h. At exit `out` holds one JSON object:
 *     {"open": regions never left, "passes": [{"cycles", "instructions", "ipc", "stalls": {cause: cycles},
 *      "bytes": {level: n}, "counts": {class: n}, "unknown", ...}]}
 * `out` is created empty when the plugin loads, so an empty file means that the program died.
 *
 * This file is all that knows of QEMU: it cuts translation blocks into segments (timing_hart.h) and passes on what is
 * executed and which memory is accessed. One callback a segment and one a memory access (vector instructions: one an
 * element) is all that runs with the program; decoding happens once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../host/region.h"
#include "qemu_api.h"
#include "timing_output.h"

#define MAX_VCPUS 4096 /* one per guest thread ever alive at once */
#define MAX_SEGMENT 512

QEMU_EXPORT int qemu_plugin_version = QEMU_API_VERSION;

static struct lrf_model model;
static struct lrf_hart harts[MAX_VCPUS];
static FILE *out;

static void on_vcpu_init(qemu_plugin_id_t id, unsigned vcpu_index)
{
    (void)id;
    if (vcpu_index >= MAX_VCPUS) {
        fprintf(stderr, "timing plugin: more than %d threads at once\n", MAX_VCPUS);
        _Exit(EXIT_FAILURE);
    }
    harts[vcpu_index].vtype = LRF_VTYPE_UNKNOWN;
}

static void on_segment(unsigned vcpu_index, void *segment)
{
    lrf_hart_segment(&harts[vcpu_index], &model, segment);
}

static void on_access(unsigned vcpu_index, qemu_plugin_meminfo_t info, uint64_t address, void *site)
{
    (void)info;
    lrf_hart_access(&harts[vcpu_index], site, address);
}

struct marker {
    uint32_t code;
    uint64_t pc;
};

static void on_marker(unsigned vcpu_index, void *data)
{
    const struct marker *marker = data;
    lrf_hart_marker(&harts[vcpu_index], &model, marker->code, marker->pc);
}

static void watch_memory(struct qemu_plugin_insn *insn, uint32_t code, uint32_t step)
{
    const enum lrf_class kind = lrf_classify(code);
    if (kind != LRF_scalar_memory && kind != LRF_vector_memory)
        return;
    /* The width of one access is in the instruction; only indexed ones take it from vtype, and 4 will do for them. */
    const struct lrf_instruction decoded = lrf_decode(code, LRF_VTYPE_UNKNOWN, 0);
    struct lrf_site *site = lrf_allocate(sizeof *site);
    *site = (struct lrf_site){step, decoded.access_bytes ? decoded.access_bytes : 1};
    qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, site);
}

/* A segment while its instructions are collected. */
struct open_segment {
    struct qemu_plugin_insn *first;
    uint32_t code[MAX_SEGMENT], instructions;
};

/* Segments live as long as the process: QEMU may run a block any time until it exits. */
static void close_segment(struct open_segment *open)
{
    if (open->instructions) {
        struct lrf_segment *segment = lrf_new_segment(qemu_plugin_insn_vaddr(open->first), open->code, open->instructions);
        qemu_plugin_register_vcpu_insn_exec_cb(open->first, on_segment, QEMU_PLUGIN_CB_NO_REGS, segment);
    }
    open->instructions = 0;
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    struct open_segment open = {0};
    const size_t n = qemu_plugin_tb_n_insns(tb);
    (void)id;
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const uint32_t code = lrf_fetch(qemu_plugin_insn_data(insn), qemu_plugin_insn_size(insn));
        if (lrf_is_marker(code)) {
            struct marker *marker = lrf_allocate(sizeof *marker);
            *marker = (struct marker){code, qemu_plugin_insn_vaddr(insn)};
            close_segment(&open);
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_marker, QEMU_PLUGIN_CB_NO_REGS, marker);
            continue;
        }
        if (!open.instructions)
            open.first = insn;
        watch_memory(insn, code, open.instructions);
        open.code[open.instructions++] = code;
        if (open.instructions == MAX_SEGMENT || lrf_classify(code) == LRF_vector_config)
            close_segment(&open);
    }
    close_segment(&open);
}

static void at_exit(qemu_plugin_id_t id, void *unused)
{
    (void)id, (void)unused;
    lrf_write_passes(out, &model, harts, MAX_VCPUS);
    if (fclose(out) != 0)
        perror("timing plugin: cannot write the figures");
}

QEMU_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    if (strcmp(info->target_name, "riscv64") != 0) {
        fprintf(stderr, "timing plugin: models riscv64 only, not %s\n", info->target_name);
        return -1;
    }
    if (argc != 2 || strncmp(argv[0], "out=", 4) != 0 || strncmp(argv[1], "model=", 6) != 0) {
        fputs("timing plugin: needs exactly two arguments, out=PATH,model=PATH\n", stderr);
        return -1;
    }
    if (!lrf_read_model(argv[1] + 6, &model))
        return -1;
    out = fopen(argv[0] + 4, "w");
    if (!out) {
        perror("timing plugin: cannot create the output file");
        return -1;
    }
    qemu_plugin_register_vcpu_init_cb(id, on_vcpu_init);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
