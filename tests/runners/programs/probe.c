/* A program that follows the contract of runners/job.py and does one named thing on the way:
 *
 *     probe [--stats PATH] [--passes N] CASE.bin X.bin Y.bin
 *
 * CASE holds the name of a case, X and Y 4 float32: y = 2 x + 1. The cases of "mixes" execute exactly
 * known instructions between the region markers; tests/runners/test_counts.py holds the numbers.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "region.h"

#define N 4
#define BUFFER_BYTES 8192

static char buffer[BUFFER_BYTES] __attribute__((aligned(64)));
static float y[N];
static size_t y_count = N;
static int write_stats = 1, write_output = 1;
static const char *stats_text =
    "{\"stack_bytes\": 1000, \"transient_bytes\": 200, \"io_bytes\": 30, \"image_bytes\": 4, \"vlenb\": %lu}\n";

/* a0 and s1 point to the buffer. Nothing is compressed unless the text asks for it. */
#define ASM(text)                                                                                    \
    do {                                                                                             \
        register char *base __asm__("a0") = buffer;                                                  \
        register char *base_rvc __asm__("s1") = buffer;                                              \
        __asm__ volatile(".option push\n.option norvc\n.option norelax\n" text ".option pop\n"                        \
                         : "+r"(base), "+r"(base_rvc)                                                \
                         :                                                                           \
                         : "memory", "ra", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "a1", "a2", "a3", \
                           "a4", "a5", "ft0", "ft1", "ft2", "ft3", "fa0", "fa1", "fa2", "v0", "v1",   \
                           "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", \
                           "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23",      \
                           "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");                   \
    } while (0)
#define REGION(text) ASM(LRF_REGION_BEGIN_TEXT text LRF_REGION_END_TEXT)

static void scalar(void)
{
    REGION("addi t0, x0, 5\n"
           "lui t1, 1\n"
           "auipc t2, 0\n"
           "add t3, t0, t1\n"
           "mul t4, t0, t1\n"
           "divw t5, t4, t0\n"
           "slli t6, t0, 3\n"
           "sraiw t6, t0, 1\n"
           "csrr a1, vlenb\n"
           "fence rw, rw\n");
}

/* Close to the markers, and none of them. */
static void near_markers(void)
{
    REGION("sltiu t0, x0, 0x5a1\n"
           "sltiu x0, t0, 0x5a2\n"
           "slti x0, x0, 0x5a1\n"
           "sltiu x0, x0, 0x5a0\n"
           "sltiu x0, x0, 0x5a9\n");
}

static void scalar_memory(void)
{
    REGION("lb t0, 0(a0)\nlbu t0, 1(a0)\nlh t0, 2(a0)\nlhu t0, 4(a0)\nlw t0, 8(a0)\nlwu t0, 12(a0)\nld t0, 16(a0)\n"
           "sb t0, 0(a0)\nsh t0, 2(a0)\nsw t0, 4(a0)\nsd t0, 8(a0)\n"
           "flw ft0, 0(a0)\nfld ft1, 8(a0)\nfsw ft0, 0(a0)\nfsd ft1, 8(a0)\n"
           "amoadd.w t1, t0, (a0)\namoswap.d t1, t0, (a0)\nlr.d t2, (a0)\nsc.d t2, t1, (a0)\n");
}

static void scalar_float(void)
{
    REGION("fmv.w.x ft0, x0\nfcvt.s.l ft1, x0\nfadd.s ft2, ft0, ft1\nfmul.d fa0, ft0, ft1\n"
           "fmadd.s fa1, ft0, ft1, ft2\nfmsub.d fa1, ft0, ft1, ft2\nfnmadd.s fa1, ft0, ft1, ft2\n"
           "fnmsub.s fa1, ft0, ft1, ft2\nfsqrt.s fa2, ft0\nfeq.s t0, ft0, ft1\nfmv.x.w t0, ft0\nfclass.d t0, ft0\n"
           "fsgnj.s ft3, ft0, ft1\n");
}

/* Scalar: 1 + 10 + 1. Branches: 10 in the loop, 6 conditional ones, j, jal, jalr (ret), jalr to itself. */
static void branches(void)
{
    REGION("addi t0, x0, 10\n"
           "1: addi t0, t0, -1\n"
           "bne t0, x0, 1b\n"
           "beq t0, t0, 2f\n2: bne t0, t0, 3f\n3: blt t0, t0, 4f\n4: bge t0, t0, 5f\n5: bltu t0, t0, 6f\n6: bgeu t0, t0, 7f\n"
           "7: jal x0, 8f\n"
           "9: jalr x0, 0(ra)\n"
           "8: jal ra, 9b\n"
           "auipc t1, 0\n"
           "jalr ra, 8(t1)\n");
}

/* Scalar 14 and the two of lla, memory 9, branches 2 in the loop + 5. */
static void compressed(void)
{
    REGION(".option rvc\n"
           "c.li t0, 2\n"
           "1: c.addi t0, -1\n"
           "c.mv a3, t0\nc.bnez a3, 1b\n"
           "c.nop\nc.lui a1, 1\nc.addi4spn a2, sp, 16\nc.slli a1, 2\nc.andi a2, 1\nc.sub a2, a3\nc.addiw a1, 1\n"
           "c.add a1, a2\n"
           "c.lw a1, 0(s1)\nc.ld a1, 8(s1)\nc.sw a1, 0(s1)\nc.sd a1, 8(s1)\nc.fld fa0, 0(s1)\nc.fsd fa0, 8(s1)\n"
           "c.ldsp a1, 0(sp)\nc.lwsp a1, 0(sp)\nc.fldsp fa1, 0(sp)\n"
           "c.li a3, 0\nc.beqz a3, 2f\n2: c.j 3f\n"
           "4: c.jr ra\n"
           "3: .option norvc\nlla t1, 4b\n.option rvc\n"
           "c.jalr t1\n"
           "c.beqz a3, 5f\n5:\n");
}

static void vector_config(void)
{
    REGION("vsetivli t0, 4, e32, m1, ta, ma\n"
           "vsetvli t0, x0, e32, m8, ta, ma\n"
           "vsetvli t0, t0, e16, mf2, tu, mu\n"
           "addi t1, x0, 0\n"
           "vsetvl t0, t0, t1\n");
}

#define VECTOR_ARITHMETIC(lmul)                                                                              \
    "vsetvli t0, x0, e32, " lmul ", ta, ma\n"                                                                \
    "vmv.v.i v8, 1\nvfmv.v.f v16, ft0\nvfmacc.vf v24, ft0, v8\nvfmacc.vv v24, v8, v16\nvfadd.vv v24, v8, v16\n" \
    "vadd.vx v24, v8, t0\nvmul.vv v24, v8, v16\nvfredusum.vs v24, v8, v16\nvslidedown.vi v24, v8, 1\n"         \
    "vrgather.vv v24, v8, v16\nvmseq.vi v0, v8, 1\nvadd.vv v24, v8, v16, v0.t\nvid.v v24\nvfmv.f.s ft1, v8\n"    \
    "vmv.x.s t1, v8\n"

static void vector_arithmetic_mf2(void) { REGION(VECTOR_ARITHMETIC("mf2")); }
static void vector_arithmetic_m1(void) { REGION(VECTOR_ARITHMETIC("m1")); }
static void vector_arithmetic_m2(void) { REGION(VECTOR_ARITHMETIC("m2")); }
static void vector_arithmetic_m4(void) { REGION(VECTOR_ARITHMETIC("m4")); }
static void vector_arithmetic_m8(void) { REGION(VECTOR_ARITHMETIC("m8")); }

/* v8 holds zero indices. Whole-register moves, widening and mask arithmetic are at the end. */
static void vector_memory(void)
{
    REGION("vsetvli t0, x0, e32, m1, ta, ma\n"
           "addi t1, x0, 16\n"
           "vmv.v.i v8, 0\n"
           "vle8.v v1, (a0)\nvle16.v v1, (a0)\nvle32.v v1, (a0)\nvle64.v v2, (a0)\nvse32.v v1, (a0)\nvse64.v v2, (a0)\n"
           "vle32ff.v v1, (a0)\n"
           "vlse32.v v1, (a0), t1\nvsse32.v v1, (a0), t1\n"
           "vluxei32.v v1, (a0), v8\nvloxei32.v v1, (a0), v8\nvsuxei32.v v1, (a0), v8\nvsoxei32.v v1, (a0), v8\n"
           "vlseg2e32.v v16, (a0)\nvlseg4e32.v v16, (a0)\nvlseg8e32.v v16, (a0)\nvsseg4e32.v v16, (a0)\n"
           "vlsseg3e32.v v16, (a0), t1\nvssseg3e32.v v16, (a0), t1\n"
           "vluxseg2ei32.v v16, (a0), v8\nvsuxseg2ei32.v v16, (a0), v8\n"
           "vl1re32.v v1, (a0)\nvl8re64.v v16, (a0)\nvs1r.v v1, (a0)\nvs8r.v v16, (a0)\n"
           "vlm.v v0, (a0)\nvsm.v v0, (a0)\n"
           "vmv1r.v v1, v2\nvwadd.vv v16, v8, v9\nvmand.mm v0, v1, v2\n");
}

/* 100 steps: vector loop whose blocks begin inside the region and are cut by vsetvli. */
static void vector_loop(void)
{
    REGION("addi t0, x0, 100\n"
           "1: vsetvli t1, x0, e32, m4, ta, ma\n"
           "vle32.v v8, (a0)\n"
           "flw ft0, 0(a0)\n"
           "vfmacc.vf v16, ft0, v8\n"
           "vfmacc.vf v20, ft0, v8\n"
           "addi t0, t0, -1\n"
           "bnez t0, 1b\n");
}

/* 5 nops before, 3 inside and 7 after, in one block: only the 3 count. */
static void mid_block(void)
{
    ASM("nop\nnop\nnop\nnop\nnop\n" LRF_REGION_BEGIN_TEXT "nop\nnop\nnop\n" LRF_REGION_END_TEXT
        "nop\nnop\nnop\nnop\nnop\nnop\nnop\n");
}

static void empty(void) { REGION(""); }

/* A second begin inside changes nothing, and a second end outside does not either. */
static void repeated_markers(void)
{
    ASM(LRF_REGION_END_TEXT "nop\n" LRF_REGION_BEGIN_TEXT "nop\n" LRF_REGION_BEGIN_TEXT
        "nop\n" LRF_REGION_END_TEXT "nop\n" LRF_REGION_END_TEXT);
}

/* The same translated blocks run outside (3 calls), inside (5) and outside (4): 3 scalar and 1 branch a call. */
static void shared_blocks(void)
{
    ASM("j 9f\n"
        "7: addi t1, t1, 1\naddi t1, t1, 1\naddi t1, t1, 1\njr ra\n"
        "9: addi t0, x0, 3\n1: jal ra, 7b\naddi t0, t0, -1\nbnez t0, 1b\n"
        "addi t0, x0, 5\n" LRF_REGION_BEGIN_TEXT "1: jal ra, 7b\naddi t0, t0, -1\nbnez t0, 1b\n" LRF_REGION_END_TEXT
        "addi t0, x0, 4\n1: jal ra, 7b\naddi t0, t0, -1\nbnez t0, 1b\n");
}

/* 12 KB of code, its 4-byte instructions at odd halfwords: some cross a page. */
static void page_crossing(void)
{
    ASM(".option rvc\n.balign 4\n.option norvc\n" LRF_REGION_BEGIN_TEXT
        ".option rvc\nc.nop\n.option norvc\n"
        ".rept 3000\naddi x0, x0, 0\n.endr\n"
        ".option rvc\nc.nop\n.option norvc\n" LRF_REGION_END_TEXT);
}

/* vt.maskc of XVentanaCondOps: opcode custom-3, which QEMU can run and the decoder does not know. */
static void unknown(void) { REGION("nop\n.4byte 0x0062e2fb\n.4byte 0x0062e2fb\n"); }

/* Ordinary compiled code, libc included: its counts must not depend on how QEMU cuts blocks. */
static int by_value(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
static void compiled(void)
{
    static char text[64];
    static int values[100];
    for (int i = 0; i < 100; i++) values[i] = (i * 7919) % 101;
    LRF_REGION_BEGIN;
    qsort(values, 100, sizeof values[0], by_value);
    snprintf(text, sizeof text, "%.6f %d %s", 3.25, values[50], "text");
    LRF_REGION_END;
    if (strcmp(text, "3.250000 51 text") != 0 && strcmp(text, "3.250000 50 text") != 0) exit(9);
}

/* The other thread runs the same function outside of its own region, all the while. */
static volatile int stop, spinning;
static void *spin(void *unused)
{
    while (!stop) {
        ASM("vsetvli t1, x0, e32, m1, ta, ma\nvadd.vv v8, v8, v8\nnop\n");
        spinning = 1;
    }
    return unused;
}
static void other_thread(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, spin, NULL) != 0) exit(9);
    while (!spinning) sched_yield();
    REGION("li t0, 3000000\n1: addi t0, t0, -1\nbnez t0, 1b\n");
    stop = 1;
    pthread_join(thread, NULL);
}


/* -- programs that go wrong -- */
static void wrong_result(void) { scalar(); y[2] += 0.5f; }
static void off_by_little(void) { scalar(); y[2] *= 1.00001f; }
static void not_a_number(void) { scalar(); y[1] = __builtin_nanf(""); }
static void short_output(void) { scalar(); y_count = N - 1; }
static void no_output(void) { scalar(); write_output = 0; }
static void no_stats(void) { scalar(); write_stats = 0; }
static void bad_stats(void) { scalar(); stats_text = "{\"stack_bytes\": \"many\", \"vlenb\": %lu}\n"; }
static void cut_stats(void) { scalar(); stats_text = "{\"stack_bytes\": 1000, \"vlenb\": %lu"; }
static void no_region(void) { }
static void two_regions(void) { scalar(); scalar(); }
static void open_region(void) { LRF_REGION_BEGIN; }
static void crash(void) { scalar(); *(volatile int *)8 = 1; }
static void aborts(void) { abort(); }
static void illegal(void) { __asm__ volatile("unimp"); }
static void hang(void) { for (;;) __asm__ volatile(""); }
static void silent_exit(void) { exit(5); }

/* The vector length, by register number so that no vector ISA is needed to name it. */
static unsigned long vlenb(void)
{
    unsigned long bytes;
    __asm__ volatile("csrr %0, 0xc22" : "=r"(bytes));
    return bytes;
}
static void needs_vlen_256(void)
{
    if (vlenb() < 32) {
        fprintf(stderr, "needs vector registers of 256 bits, this machine has %lu\n", vlenb() * 8);
        exit(3);
    }
    scalar();
}

#define CASE(name) {#name, name}
static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    CASE(scalar), CASE(near_markers), CASE(scalar_memory), CASE(scalar_float), CASE(branches), CASE(compressed),
    CASE(vector_config), CASE(vector_arithmetic_mf2), CASE(vector_arithmetic_m1), CASE(vector_arithmetic_m2),
    CASE(vector_arithmetic_m4), CASE(vector_arithmetic_m8), CASE(vector_memory), CASE(vector_loop), CASE(mid_block),
    CASE(empty), CASE(repeated_markers), CASE(shared_blocks), CASE(page_crossing), CASE(unknown), CASE(compiled),
    CASE(other_thread), CASE(wrong_result), CASE(off_by_little), CASE(not_a_number), CASE(short_output),
    CASE(no_output), CASE(no_stats), CASE(bad_stats), CASE(cut_stats), CASE(no_region), CASE(two_regions),
    CASE(open_region), CASE(crash), CASE(aborts), CASE(illegal), CASE(hang), CASE(silent_exit), CASE(needs_vlen_256),
};

static size_t read_file(const char *path, void *data, size_t bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file) exit(4);
    size_t got = fread(data, 1, bytes, file);
    fclose(file);
    return got;
}

static FILE *create(const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file) exit(4);
    return file;
}

int main(int argc, char **argv)
{
    char name[64] = {0};
    float x[N];
    const char *stats = NULL;
    int passes = 1;
    if (argc > 2 && strcmp(argv[1], "--stats") == 0) stats = argv[2], argv += 2, argc -= 2;
    if (argc > 2 && strcmp(argv[1], "--passes") == 0) passes = atoi(argv[2]), argv += 2, argc -= 2;
    if (argc != 4) return 64;
    read_file(argv[1], name, sizeof name - 1);
    if (read_file(argv[2], x, sizeof x) != sizeof x) return 64;
    size_t found = 0;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++)
        if (strcmp(cases[c].name, name) == 0)
            for (found++; passes > 0; passes--) {
                for (int i = 0; i < N; i++) y[i] = 2.0f * x[i] + 1.0f;
                cases[c].run();
            }
    if (found != 1) return 65;
    if (write_output) {
        FILE *file = create(argv[3]);
        fwrite(y, sizeof y[0], y_count, file);
        fclose(file);
    }
    if (stats && write_stats) {
        FILE *file = create(stats);
        fprintf(file, stats_text, vlenb());
        fclose(file);
    }
    return 0;
}
