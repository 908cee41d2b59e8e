"""The names in an attempt's folder: what orchestrator and runner agreed upon.

Who writes what, and in which order, is in DESIGN.md section 4. The runner imports this before its
agent runs, and `status` at each call: nothing slow is imported here.
"""

import os

TYPE_CHECKING = False  # importing `typing` costs more than all the rest
if TYPE_CHECKING:
    from typing import Any

LOCK, CLAIM, STARTING, EXIT = "lock", "claim", "starting", "exit.json"
SPEC, PROMPT, ENVIRONMENT, OUTPUT = "spec.json", "prompt.md", "environment", "output.log"
PROGRESS = "progress.json"  # what the agent's output tells (core/evidence.py: Progress)
MARK_VARIABLE = "GANGLINE_MARK"
PANE_OPTION = "@gangline_attempt"  # of a person's own pane: MARK@BOOTSECONDS of who took it


class Attempt:
    """An attempt's folder, held open, so that it stays the same even if its path is moved."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def read(self, name: str) -> bytes:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        with open(fd, "rb") as file:
            return file.read()

    def write_durably(self, name: str, data: bytes) -> None:
        """Write a new file; its contents are durable, its name not yet (see `sync`)."""
        self.write(name, data, durably=True)

    def write(self, name: str, data: bytes, *, durably: bool = False) -> None:
        """Write a new file, or over an old one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self.fd)
        try:
            while data:
                data = data[os.write(fd, data) :]
            if durably:
                os.fsync(fd)
        finally:
            os.close(fd)

    def touch(self, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o600, dir_fd=self.fd))

    def sync(self) -> None:
        os.fsync(self.fd)

    def exists(self, name: str) -> bool:
        return os.access(name, os.F_OK, dir_fd=self.fd, follow_symlinks=False)


def parse_json(data: bytes) -> "Any":
    """JSON through the C scanner that `json` itself uses, without the cost of importing `json`."""
    text = data.decode()
    try:
        from _json import make_scanner  # noqa: PLC0415 - see the docstring
    except ImportError:
        import json  # noqa: PLC0415 - the slow way, on another Python

        return json.loads(text)

    class Context:
        strict = True
        memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's own name
        object_hook = object_pairs_hook = None
        parse_float, parse_int, parse_constant = float, int, float

    return make_scanner(Context())(text, 0)[0]  # type: ignore[arg-type]
