"""What instructions, caches and memory cost: measured by small programs, on boards or under the timing model.

micro          one region of a microbenchmark as assembly; mixed: regions of several kinds of instructions
probes         the microbenchmarks of a target's costs; operations of silicon_loops are whole loops of boards
board_cases    times small programs on a board; board_program is their text
measuring      `lrf-dse calibrate`: from probes to a Calibration, which calibration writes as a target file
published      what boards and others say; silicon: whole loops that set nothing; entries: `lrf-dse timing`
"""
