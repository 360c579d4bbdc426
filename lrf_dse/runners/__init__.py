"""Run a program for a target, check its numbers, then measure.

job           what to run and what to expect: a frozen value
runner        the one-method Protocol and the registry RUNNERS
qemu          qemu-riscv64 with the counting or the timing plugin; emulator is the process itself
timing        a target's timing model as the plugin reads it, and what the plugin writes
plugin        builds QEMU plugins from toolchain/plugin/ on first use
ssh           a board that OpenSSH reaches; board, board_facts, board_timing and repeats are its parts without ssh,
              ssh_client, ssh_folder and ssh_scripts the ones with it
replay        answers from records
rvsim         another simulator, for a second opinion: rvsim_model is the core it is told to be, rvsim_console what the
              program says there, rvsim_process the process that it runs in
answers       reads back what a program wrote
verify        compares outputs with an independent reference
"""
