"""Every error that a user can cause or meet, and nothing else.

The command line prints ``str(error)`` as one line and exits with ``exit_code``. A message says what
is wrong, where (file, key or layer) and what to do. A bug is never wrapped in one of these.

    LrfDseError
    ├── UsageError          arguments that contradict each other
    ├── ModelError          a model file that cannot be read, or holds nothing to do
    ├── DataError           calibration or validation data that does not fit the model
    ├── TargetError         an unknown target, or a target file with a bad key or value
    ├── ToolError           an external program that is missing, was killed, or did not answer
    │   └── ToolTimeout     one that took longer than it may
    │       └── ToolHangs   one that does nothing any more
    ├── StoreError          records that cannot be read or written
    ├── BuildError          a compiler refused; a stage turns it into a Failure record
    │   └── ScheduleError   HAL IR that the schedule host does not know (names the operation)
    ├── RunError            a program that crashed, hung or gave no result
    ├── ClusterError        a scheduler that does not answer, or no worker that may compute
    └── BudgetError         no plan satisfies the budgets

A candidate that fails is data (`lrf_dse.schema.Failure`); these exceptions end the command.
"""

from __future__ import annotations


class LrfDseError(Exception):
    """Base of all expected errors; `exit_code` is what the command line returns."""

    exit_code = 2


class UsageError(LrfDseError):
    """Arguments that contradict each other or cannot be honoured."""


class ModelError(LrfDseError):
    """A model file that cannot be read, is not supported, or has no FC layer to work on."""


class DataError(LrfDseError):
    """Calibration or validation data that is malformed or does not fit the model."""


class TargetError(LrfDseError):
    """An unknown target, or a target file with an unknown key or a bad value."""


class ToolError(LrfDseError):
    """An external program is missing, too old, or did not answer."""


class ToolTimeout(ToolError):
    """An external program took longer than it may."""


class ToolHangs(ToolTimeout):
    """An external program does nothing any more."""


class StoreError(LrfDseError):
    """The records of a run cannot be read or written."""


class BuildError(LrfDseError):
    """A compiler or linker refused its input."""


class ScheduleError(BuildError):
    """HAL IR holds an operation or a form that the schedule host does not know; `location` is the IR's own words."""

    def __init__(self, message: str, *, location: str = "") -> None:
        super().__init__(message)
        self.location = location


class RunError(LrfDseError):
    """A program under test crashed, hung, or gave no usable result."""


class ClusterError(LrfDseError):
    """A cluster's scheduler does not answer, or none of its workers may compute."""


class BudgetError(LrfDseError):
    """No plan satisfies the budgets that were asked for."""
