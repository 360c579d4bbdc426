"""The command line: it reads arguments, prints tables or JSON, and turns exceptions into exit codes.

Nothing else in the package prints or exits.

One module per command, each importing its heavy rooms when it runs: `lrf-dse --help` answers in 0.3 s.
Exit codes: 0 when the work is done, 2 when something is wrong that the user can mend (one line on standard error says
what); the module `ending` has the exit codes of signals.
"""

from __future__ import annotations

import io
import sys
from typing import Any, NoReturn, cast

import typer

from lrf_dse.cli import calibrate, deploy, doctor, explore, export, layers, profile, report, space, targets, timing
from lrf_dse.cli.ending import INTERRUPTED, Stopped, signals_caught, stop, stop_for, stop_interrupted
from lrf_dse.errors import LrfDseError

# The class behind BadParameter in its order of base classes.
_USAGE_ERROR = cast(type[Exception], typer.BadParameter.__mro__[1])
"""UsageError, which typer has from click and does not export."""

app = typer.Typer(
    name="lrf-dse",
    help="Factorise the fully connected layers of a trained network so that it runs fast and small on a RISC-V chip.",
    no_args_is_help=True,
    add_completion=False,
    # A bug shows Python's own traceback, not typer's boxes.
    pretty_exceptions_enable=False,
)
# A command is called as its module is. This is also the order of the help: the steps of a user's work, then looking
# into things.
for module in (layers, space, explore, report, export, deploy, profile, calibrate, targets, timing, doctor):
    app.command(module.__name__.rpartition(".")[2])(module.command)


def main() -> None:
    """Entry point of the `lrf-dse` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names that the terminal cannot show, or that are not UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        # Not standalone: typer would draw a box around a usage error, and swallow the interrupt.
        with signals_caught():
            code = typer.main.get_command(app).main(prog_name="lrf-dse", standalone_mode=False)
    except LrfDseError as error:
        stop(str(error), error.exit_code)
    except _USAGE_ERROR as error:
        _stop_usage(error)
    except OSError as error:
        # A full disk or a folder that cannot be written may strike anywhere; the records are safe by then.
        where = f"{error.filename}: " if error.filename else ""
        stop(f"{where}{error.strerror or error}; what was measured is kept", 2)
    except MemoryError:
        stop("there is too little memory; what was measured is kept: free some, and the same command goes on", 2)
    except Stopped as stopped:
        stop_for(stopped)
    except KeyboardInterrupt:
        code = INTERRUPTED
    # typer catches an interrupt inside a command and returns this code.
    if code == INTERRUPTED:
        stop_interrupted()


def _stop_usage(error: Any) -> NoReturn:
    message = error.format_message().rstrip(".")
    if not message:  # no arguments at all: the help has been printed
        raise SystemExit(2)
    command = error.ctx.command_path if error.ctx else "lrf-dse"
    stop(f"{message}; see `{command} --help`", 2)
