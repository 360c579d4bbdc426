"""What instructions, caches and memory cost: measured by small programs, on boards or under the timing model.

micro          writes one loop as assembly; mixed: loops of several kinds of instructions
probes         has the loops that measure the costs of a target one by one
board_program  writes a program of such loops for a board; board_cases times its loops there
measuring      makes a Calibration of what the probes took (`lrf-dse calibrate`); calibration writes it as a target file
published      has the published figures; silicon has those of whole loops on boards, which silicon_loops writes again
entries        compares the timing model with these figures (`lrf-dse timing`)
"""
