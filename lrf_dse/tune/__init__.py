"""The autotuner: it finds the fastest schedule of a kernel on a target by building, verifying and timing a few.

tuner       the search: the closed form ranks, measurements decide
neighbours  schedules one step away from another
measuring   builds a program of one schedule with random operands, and has a runner verify and time it
records     what was measured, kept in the user's cache by content
"""

from lrf_dse.tune.measuring import Measure, RecordedMeasure, RunnerMeasure, kernel_job, kernel_key
from lrf_dse.tune.records import FileRecords, KernelRecords, user_records
from lrf_dse.tune.tuner import Attempt, Tuned, tune

__all__ = [
    "Attempt",
    "FileRecords",
    "KernelRecords",
    "Measure",
    "RecordedMeasure",
    "RunnerMeasure",
    "Tuned",
    "kernel_job",
    "kernel_key",
    "tune",
    "user_records",
]
