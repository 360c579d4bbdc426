/* What only a program running on the machine can tell: one JSON object on standard output.
 *
 * Compiled for the base every riscv64 Linux runs (rv64gc) and sent to a board before anything else: it shows that
 * riscv64 programs run there at all. `rvv` is whether vsetivli works, an instruction that RVV 0.7.1 (C906, C910) lacks
 * though such cores answer to vlenb. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>

static sigjmp_buf trapped;
static void on_illegal_instruction(int signal_number) {
  (void)signal_number;
  siglongjmp(trapped, 1);
}

static unsigned long vector_bytes(void) {
  unsigned long bytes = 0;
  if (sigsetjmp(trapped, 1) == 0) __asm__ volatile("csrr %0, 0xc22" : "=r"(bytes)); /* vlenb */
  return bytes;
}

static int has_rvv(void) {
  unsigned long elements = 0;
  if (sigsetjmp(trapped, 1) == 0)
    __asm__ volatile(".option push\n.option arch, +v\nvsetivli %0, 2, e32, m1, ta, ma\n.option pop" : "=r"(elements));
  return elements == 2;
}

static int may_read_cycles(void) {
  volatile unsigned long cycles = 0;
  if (sigsetjmp(trapped, 1) == 0) {
    __asm__ volatile("csrr %0, 0xc00" : "=r"(cycles));
    return 1;
  }
  return 0;
}

int main(void) {
  signal(SIGILL, on_illegal_instruction);
  printf("{\"vlenb\": %lu, \"rvv\": %s, \"rdcycle\": %s}\n", vector_bytes(), has_rvv() ? "true" : "false",
         may_read_cycles() ? "true" : "false");
  return 0;
}
