"""Run a program for a target, check its numbers, then measure.

job           what to run and what to expect: a frozen value
runner        the one-method Protocol, and which runner measures
qemu          qemu-riscv64 with the counting or the timing plugin; emulator is the process itself
timing        a target's timing model as the plugin reads it, and what the plugin writes
plugin        builds QEMU plugins from toolchain/plugin/ on first use
ssh           a board that OpenSSH reaches; board, board_facts, board_timing and repeats are its parts without ssh,
              ssh_client, ssh_folder and ssh_scripts the ones with it
answers       reads back what a program wrote
verify        compares outputs with an independent reference
"""
