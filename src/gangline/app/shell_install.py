"""`gangline shell install`: the specification's shell in a user's own repository.

A person's file is never written over. Each of our scripts carries a mark with the digest of its
other lines: where the digest is right, nobody has changed what some version of Gangline wrote, and
it may be replaced by today's. Both files are looked at before either is written.
"""

import os
import re
import shlex
import shutil
from contextlib import suppress
from enum import StrEnum

from gangline.durable import sync_folder, write_all
from gangline.errors import EXIT_OK, InputError, MachineError, UsageError
from gangline.workspaces.repository import locate

FOLDER = "scripts"
SCRIPTS = {"orchestrate-helpers.sh": 0o666, "parse-dependencies.sh": 0o777}  # modes before umask
SCRIPT_BYTES_MAX = 1_000_000
_MARK = re.compile(rb"^# gangline shell install sha256=([0-9a-f]{64})\n", re.MULTILINE)


class Found(StrEnum):
    """What stands where a script is to be."""

    NOTHING = "wrote"
    THE_SAME = "unchanged"
    OLDER = "replaced"


def install(args: list[str]) -> int:
    """Write both scripts into `scripts/` at the top of the repository, or print them.

    Args:
        args: Nothing, or `--print`.

    Raises:
        UsageError: another argument.
        InputError: what is there was not written by this command, or was changed since.
        MachineError: the scripts cannot be written, or are missing from this installation.
    """
    if args not in ([], ["--print"]):
        raise UsageError(
            f"install does not take {args[0][:100]!r}",
            place="gangline shell install",
            hint="usage: gangline shell install [--print]",
        )
    scripts = {name: shipped(name) for name in SCRIPTS}
    if args:
        for name, content in scripts.items():
            print(f"==> {FOLDER}/{name} <==\n{content.decode()}")
        return EXIT_OK
    top = locate(".").top
    folder = os.path.join(top, FOLDER)
    _check_folder(folder, top)
    found = {name: _look(os.path.join(folder, name), new) for name, new in scripts.items()}
    for name, what in found.items():
        path = os.path.join(folder, name)
        if what is not Found.THE_SAME:
            _write(path, scripts[name], SCRIPTS[name], replace=what is Found.OLDER)
        print(f"{what.value} {path}")
    print(f"next: source {FOLDER}/orchestrate-helpers.sh")
    if not os.environ.get("GANGLINE") and shutil.which("gangline") is None:
        print("note: gangline is not on PATH; put it there, or set GANGLINE to its path")
    return EXIT_OK


def shipped(name: str) -> bytes:
    """A script as this version has it: in the package of a wheel, beside `src` in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    checkout = os.path.dirname(os.path.dirname(package))
    for above in (package, checkout):
        with suppress(FileNotFoundError), open(os.path.join(above, FOLDER, name), "rb") as file:
            return file.read()
    raise MachineError(
        f"{FOLDER}/{name} is missing from this installation of Gangline",
        place=package,
        hint="install Gangline again",
    )


def is_untouched(content: bytes) -> bool:
    """Whether some version of Gangline wrote this and nobody changed it since."""
    mark = _MARK.search(content)
    return mark is not None and mark[1].decode() == digest(content)


def digest(content: bytes) -> str:
    """The SHA-256 of a script without its mark, in hexadecimal."""
    from hashlib import sha256  # noqa: PLC0415 - not for --print

    return sha256(_MARK.sub(b"", content, count=1)).hexdigest()


def _check_folder(folder: str, top: str) -> None:
    """Refuse a `scripts` that is no folder, or leads out of the repository."""
    if not os.path.lexists(folder):
        return
    if not os.path.isdir(folder):
        problem = "is not a folder"
    elif not os.path.realpath(folder).startswith(os.path.join(os.path.realpath(top), "")):
        problem = "leads out of the repository"
    else:
        return
    raise InputError(f"{FOLDER} {problem}", place=folder, hint=_move_away(folder))


def _look(path: str, new: bytes) -> Found:
    """What is there.

    Raises:
        InputError: something that must not be written over.
    """
    if not os.path.lexists(path):
        return Found.NOTHING
    there = b""
    if os.path.isfile(path) and not os.path.islink(path):
        try:
            with open(path, "rb") as file:
                there = file.read(SCRIPT_BYTES_MAX)
        except OSError as error:
            raise InputError(f"it cannot be read: {error.strerror}", place=path) from error
        if there == new:
            return Found.THE_SAME
        if is_untouched(there):
            return Found.OLDER
    ours = _MARK.search(there) is not None
    raise InputError(
        "this file was changed after `gangline shell install` wrote it"
        if ours
        else "there is something that `gangline shell install` did not write",
        place=path,
        causes=["nothing was written"],
        hint=f"{_move_away(path)} and install again",
    )


def _move_away(path: str) -> str:
    quoted = shlex.quote(path)
    return f"move it away: mv {quoted} {shlex.quote(path + '.aside')}"


def _write(path: str, content: bytes, mode: int, *, replace: bool) -> None:
    """Put the whole file there at one instant; a file that came in between is kept.

    Raises:
        InputError: something has come there in between.
        MachineError: the system refused.
    """
    part = f"{path}.{os.getpid()}.part"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            write_all(fd, content)
            os.fsync(fd)
            if replace:
                os.replace(part, path)
            else:
                os.link(part, path)
            sync_folder(os.path.dirname(path))
        finally:
            os.close(fd)
            with suppress(FileNotFoundError):
                os.unlink(part)
    except FileExistsError as error:
        raise InputError("a file has just come there", place=path, hint="look at it") from error
    except OSError as error:
        raise MachineError(f"it cannot be written: {error.strerror}", place=path) from error
