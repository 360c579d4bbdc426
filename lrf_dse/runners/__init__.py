"""Run a program for a target, check its numbers, then measure.

job           what to run and what to expect: a frozen value
runner        the one-method Protocol, and the choice between emulator and board
qemu          qemu-riscv64 with the counting or the timing plugin; emulator starts the process and waits for it
timing        writes a target's timing model as the plugin reads it, and reads the plugin's output
plugin        builds QEMU plugins from toolchain/plugin/ on first use
ssh           a board that OpenSSH reaches. Its parts that know nothing of ssh are board, board_facts, board_timing
              and repeats; those that talk to ssh are ssh_client, ssh_folder and ssh_scripts
machine       what a measurement's content key says of the target, the tools and the timing model
stock         IREE's own runtime on this machine, as a second witness of what a module computes
answers       reads back what a program wrote
verify        compares outputs with an independent reference
"""
