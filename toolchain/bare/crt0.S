# Start in machine mode at 0x80000000: traps, floating-point and vector unit, stack, zeroed variables, main.

#define MSTATUS_FS_INITIAL (1 << 13)
#define MSTATUS_VS_INITIAL (1 << 9) /* reads back as 0 on a hart without a vector unit */

.section .text.start, "ax"
.globl _start
_start:
  csrr t0, mhartid
  bnez t0, park          # the program is made for one hart; a simulator starts all of them here
  la t0, trap
  csrw mtvec, t0
  li t0, MSTATUS_FS_INITIAL | MSTATUS_VS_INITIAL
  csrs mstatus, t0
  fscsr zero
  la sp, lrf_stack_top
  la a0, lrf_bss_start
  li a1, 0
  la a2, lrf_bss_end
  sub a2, a2, a0
  call memset
  call lrf_main
park:
  wfi
  j park

.balign 4                # mtvec keeps a mode in the two low bits
trap:
  la sp, lrf_stack_top   # whatever was running does not return
  csrr a0, mcause
  csrr a1, mepc
  csrr a2, mtval
  call lrf_trap
