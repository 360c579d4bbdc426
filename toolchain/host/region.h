/* The instructions that mark the measured region of a program.
 *
 * They are HINTs of the RISC-V base ISA: `sltiu x0, x0, imm` writes to x0 and so does nothing on any
 * core. This part of the HINT space is for custom use (unprivileged ISA, "HINT instructions"), no
 * compiler emits it, and no compressed form of sltiu exists: the encoding is always these 4 bytes.
 *
 * One file for both sides: the program puts the markers around what is measured, the QEMU plugins
 * (toolchain/plugin/) look for the encodings. The markers themselves are outside the region.
 */
#ifndef LRF_REGION_H
#define LRF_REGION_H

#define LRF_REGION_BEGIN_IMM 0x5a1
#define LRF_REGION_END_IMM 0x5a2

/* imm[31:20] rs1=x0 funct3=011 rd=x0 opcode=0010011, as the plugin reads it: 0x5a103013 and 0x5a203013. */
#define LRF_SLTIU_X0(imm) (((imm) << 20) | 0x3013u)
#define LRF_REGION_BEGIN_CODE LRF_SLTIU_X0(LRF_REGION_BEGIN_IMM)
#define LRF_REGION_END_CODE LRF_SLTIU_X0(LRF_REGION_END_IMM)

/* As text, for use inside a larger asm statement. */
#define LRF_TEXT_OF(value) #value
#define LRF_SLTIU_X0_TEXT(imm) "sltiu x0, x0, " LRF_TEXT_OF(imm) "\n"
#define LRF_REGION_BEGIN_TEXT LRF_SLTIU_X0_TEXT(LRF_REGION_BEGIN_IMM)
#define LRF_REGION_END_TEXT LRF_SLTIU_X0_TEXT(LRF_REGION_END_IMM)

/* As statements. The clobber keeps every load and store on its own side of the marker. Elsewhere than on RISC-V, where
 * tests build the host with sanitizers, a marker is the clobber alone. */
#ifdef __riscv
#define LRF_MARK(text) __asm__ volatile(text ::: "memory")
#else
#define LRF_MARK(text) __asm__ volatile("" ::: "memory")
#endif
#define LRF_REGION_BEGIN LRF_MARK(LRF_REGION_BEGIN_TEXT)
#define LRF_REGION_END LRF_MARK(LRF_REGION_END_TEXT)

/* Threads (pool.c). Within the region the main thread forks shares of a dispatch and joins them; a worker's share is
 * measured too. What lies from FORK to FORKED and from JOIN to JOINED is waking and waiting: it is not counted as
 * instructions, and as time it is the target's barrier cost after the slowest share. */
#define LRF_SHARE_BEGIN_IMM 0x5a3
#define LRF_SHARE_END_IMM 0x5a4
#define LRF_FORK_IMM 0x5a5
#define LRF_FORKED_IMM 0x5a6
#define LRF_JOIN_IMM 0x5a7
#define LRF_JOINED_IMM 0x5a8
#define LRF_SHARE_BEGIN_CODE LRF_SLTIU_X0(LRF_SHARE_BEGIN_IMM)
#define LRF_SHARE_END_CODE LRF_SLTIU_X0(LRF_SHARE_END_IMM)
#define LRF_FORK_CODE LRF_SLTIU_X0(LRF_FORK_IMM)
#define LRF_FORKED_CODE LRF_SLTIU_X0(LRF_FORKED_IMM)
#define LRF_JOIN_CODE LRF_SLTIU_X0(LRF_JOIN_IMM)
#define LRF_JOINED_CODE LRF_SLTIU_X0(LRF_JOINED_IMM)
#define LRF_SHARE_BEGIN LRF_MARK(LRF_SLTIU_X0_TEXT(LRF_SHARE_BEGIN_IMM))
#define LRF_SHARE_END LRF_MARK(LRF_SLTIU_X0_TEXT(LRF_SHARE_END_IMM))
#define LRF_FORK LRF_MARK(LRF_SLTIU_X0_TEXT(LRF_FORK_IMM))
#define LRF_FORKED LRF_MARK(LRF_SLTIU_X0_TEXT(LRF_FORKED_IMM))
#define LRF_JOIN LRF_MARK(LRF_SLTIU_X0_TEXT(LRF_JOIN_IMM))
#define LRF_JOINED LRF_MARK(LRF_SLTIU_X0_TEXT(LRF_JOINED_IMM))

#endif
