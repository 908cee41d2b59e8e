"""The entry of the program. `status` takes a short way in, because it is asked so often.

Errors go to stderr with their kind, cause and mend; the exit code follows the kind.
"""

import gc
import os
import sys

from gangline.cli.failing import end_on, refused_by_system
from gangline.errors import EXIT_INTERRUPTED, GanglineError


def main() -> None:
    """Run the command line and exit with its code."""
    # What a start loads is kept: looking for garbage in it costs a large batch 0.1 s.
    gc.disable()
    _mend_streams()
    sys.exit(run(sys.argv[1:]))


def _mend_streams() -> None:
    """Make stdin, stdout and stderr usable however the program was started."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if (
            getattr(sys, name) is None
        ):  # it was closed, and the next file opened would be in its place
            fd = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(fd, "w" if number else "r", encoding="utf-8"))


def run(argv: list[str]) -> int:
    """The exit code of a command line."""
    try:
        code = _short_way(argv) if argv[:1] != ["shell"] else _shell(argv[1:])
        if code is None:
            from gangline.cli.commands import dispatch  # noqa: PLC0415 - click takes 30 ms

            code = dispatch(argv)
        sys.stdout.flush()
        return code
    except GanglineError as error:
        return end_on(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read has gone (`gangline status | head`); nobody is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED
    except OSError as error:  # after its kinds above: a disk that is full, read-only or torn down
        return end_on(refused_by_system(error))


def _short_way(argv: list[str]) -> int | None:
    """`status AREA [--json]` without loading what only other commands need."""
    if argv[:1] != ["status"] or len(argv) not in (2, 3) or argv[1].startswith("-"):
        return None
    if argv[2:] not in ([], ["--json"]):
        return None
    from gangline.cli.status import show_status  # noqa: PLC0415 - only for this command

    return show_status(argv[1], as_json=len(argv) == 3)


def _shell(argv: list[str]) -> int:
    """A verb of the specification's shell; scripts call them in loops."""
    from gangline.cli.shell import run_shell  # noqa: PLC0415 - only for these

    return run_shell(argv)
