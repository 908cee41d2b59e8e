"""progress.json of an interactive agent, as its hooks change it: one after the other, each whole.

Hooks of one agent may run at the same time, so each takes a lock, reads what the others told,
changes it, and replaces the file. A session's id is durable before the hook returns, for without it
the agent's conversation could not be gone on with after a crash. Then the runner is poked.

A headless agent's progress.json is its runner's own; nothing here is used beside it.
"""

import fcntl
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PROGRESS = "progress.json"
POKE = "poke"  # a named pipe of the runner's: a byte in it means that something was told
# It is there while a question of the agent's own (`gangline ask`) is open: its turn may end, and it
# goes on when it is answered, so the attempt must not be ended.
QUESTION = "question"
HOOKS = "hooks.json"  # which hooks the agent was given, for its runner
DIALOGS = "dialogs.json"  # the dialogs that no hook tells of: words on the screen, what they ask
_LOCK = "progress.lock"


def open_question(folder: str) -> None:
    """The agent of the attempt in this folder has asked a person something."""
    os.close(
        os.open(os.path.join(folder, QUESTION), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    )


def close_question(folder: str) -> None:
    """What it asked has been answered; nothing if it had not asked."""
    try:
        os.unlink(os.path.join(folder, QUESTION))
    except FileNotFoundError:
        pass


def has_question(folder: str) -> bool:
    """Whether a question of its is open."""
    return os.path.exists(os.path.join(folder, QUESTION))


def change(folder: str, changed: "Callable[[dict[str, Any]], None]", *, wait: bool = True) -> None:
    """Change what is told of the attempt in this folder.

    Args:
        folder: The attempt's; it is there.
        changed: Changes what is known in place, as progress.json has it; what is None goes.
        wait: For a hook that is at it.

    Raises:
        OSError: it could not be written, or another hook is at it.
    """
    lock = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        before = _read(folder)
        known = dict(before)
        changed(known)
        known = {name: value for name, value in known.items() if value is not None}
        if known == before:
            return
        _replace(folder, known, durably=known.get("session") != before.get("session"))
    finally:
        os.close(lock)
    _poke(folder)


def _read(folder: str) -> "dict[str, Any]":
    try:
        with open(os.path.join(folder, PROGRESS), "rb") as file:
            known = json.load(file)
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _replace(folder: str, known: "dict[str, Any]", *, durably: bool) -> None:
    path = os.path.join(folder, PROGRESS)
    data = json.dumps(known, ensure_ascii=False).encode("utf-8", "replace")
    with open(path + ".part", "wb") as file:
        file.write(data)
        file.flush()
        if durably:
            os.fsync(file.fileno())
    os.rename(path + ".part", path)
    if durably:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _poke(folder: str) -> None:
    """Tell the runner to look; it looks every now and then in any case."""
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(os.path.join(folder, POKE), flags)
    except OSError:
        return
    try:
        os.write(fd, b".")
    except OSError:
        pass  # it is full of pokes
    finally:
        os.close(fd)
