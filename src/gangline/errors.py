"""What can go wrong, as a person meets it: kind, place, cause, and the command that mends it.

Every error a user can cause or has to act on is one of these; the CLI prints it and exits with its
code (DESIGN.md section 8). Anything else that escapes is a defect of Gangline.
"""

TYPE_CHECKING = False  # importing `collections.abc` costs `status` 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_OK = 0
EXIT_UNFINISHED = 1  # the batch ended with issues failed, skipped or cancelled
EXIT_USAGE = 2
EXIT_BUSY = 3
EXIT_STATE = 4
EXIT_INTERRUPTED = 130


class GanglineError(Exception):
    """An error with a kind, a message, where it is, what causes it, and how to mend it.

    Args:
        message: One sentence: what happened. May hold untrusted text; whoever prints it escapes it.
        place: File and line, key path, or issue where it is, if it has one.
        causes: The lines of the "caused by" chain, outermost first.
        hint: What to do about it, if possible a command to copy.
    """

    kind = "internal"
    exit_code = EXIT_USAGE

    def __init__(
        self,
        message: str,
        *,
        place: str | None = None,
        causes: "Sequence[str]" = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.causes = tuple(causes)
        self.hint = hint


class UsageError(GanglineError):
    """The command line asks for something that does not exist or does not apply now."""

    kind = "usage"


class ConfigError(GanglineError):
    """gangline.toml is wrong; `place` is the path of the key."""

    kind = "config"


class InputError(GanglineError):
    """The issues, the plan or the repository cannot be used as they are."""

    kind = "input"


class MachineError(GanglineError):
    """A program is missing, too old, not logged in or does not answer."""

    kind = "machine"


class AreaBusyError(GanglineError):
    """Another orchestrator holds this area."""

    kind = "busy"
    exit_code = EXIT_BUSY


class StateError(GanglineError):
    """The recorded state needs a person: it is damaged, foreign, or newer than this program."""

    kind = "state"
    exit_code = EXIT_STATE
