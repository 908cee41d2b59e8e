"""How an error reaches a person: kind, place, cause and mend, on stderr."""

import os
import sys

from gangline.core.text import harmless
from gangline.errors import GanglineError, StateError


def print_error(error: GanglineError) -> None:
    """Kind, place, cause, mend; untrusted text made harmless."""
    lines = [f"gangline: {error.kind} error: {error.message}"]
    if error.place:
        lines.append(f"  at: {error.place}")
    lines += [f"  cause: {cause}" for cause in error.causes]
    if error.hint:
        lines.append(f"  hint: {error.hint}")
    for line in lines:
        print(harmless(line), file=sys.stderr)


def end_on(error: GanglineError) -> int:
    """Say it where that is still possible; the exit code.

    It may be the output itself that is full: what is left for it is then dropped, or the flush at
    the end of the program would fail again and hide the exit code.
    """
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            if number == 2:
                print_error(error)
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return error.exit_code


def refused_by_system(error: OSError) -> StateError:
    """A file that could not be used where nothing better is known than to stop."""
    return StateError(
        f"the system refused a file: {error.strerror or error}",
        place=os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None,
        causes=["what was recorded is kept; running agents go on"],
        hint="make room, mend the folder or the disk, then run the same command again",
    )
