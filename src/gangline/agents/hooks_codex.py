"""What `notify` of Codex tells, as progress.json has it: that a turn of the attempt has ended.

As Codex 0.169.0 was seen to do it (tests/contract/recorded_hooks). It notifies of threads of
its own too: one that finds a title for the task ends its turn first, and one of a sub-agent may.
Ours is the thread that is gone on with, or else one with a rollout that a person began in the
attempt's folder; the thread for the title has none, and a sub-agent's names its parent.

Of a failure, a limit, a question or a new prompt Codex tells nothing in this way. So that a person
who goes on is not cut off, the runner is told by what it can see that a turn has begun after this
one. (Codex has hooks like Claude Code's too, but runs none that a person has not reviewed, unless
told to trust every hook of the repository: docs/adr/0015.)
"""

import json
import os
import re

from gangline.agents.hooks_file import has_question
from gangline.agents.hooks_usage import usage_of_rollout
from gangline.agents.readers.account import cut
from gangline.agents.readers.fields import mapping, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LAST_WORDS_CHARACTERS = 2000
_BEGUN = '"type":"task_started"'
_ROLLOUT = re.compile(r"/rollout-[^/]*-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jsonl\Z")
_THREAD = re.compile(r"[A-Za-z0-9-]{1,100}\Z")


def note(known: "dict[str, Any]", event: "dict[str, Any]", folder: str, session: str) -> None:
    """Change what is known by one notification.

    Args:
        known: As progress.json has it; changed in place.
        event: As Codex gave it.
        folder: The attempt's.
        session: The thread that it goes on with; "" if it began one.
    """
    thread = words(event.get("thread-id"))
    if event.get("type") != "agent-turn-complete" or not _THREAD.match(thread):
        return
    ours = known.get("session") or session
    rollout = _rollout(thread)
    if thread != ours if ours else not _is_begun_here(rollout, words(event.get("cwd"))):
        return
    known["session"] = thread
    known["turns"] = int(known.get("turns") or 0) + 1
    said = words(event.get("last-assistant-message")).strip()
    if said:
        known["lastWords"] = cut(said, _LAST_WORDS_CHARACTERS)
    known |= usage_of_rollout(rollout, folder)
    known["turnEnded"] = None if has_question(folder) else True
    known["again"] = {"path": rollout, "from": _size(rollout), "text": _BEGUN}


def _rollout(thread: str) -> str:
    """The file in which Codex keeps this thread; "" if it keeps none."""
    import glob  # noqa: PLC0415 - the runner imports this module and does not come here

    home = os.environ.get("CODEX_HOME") or os.path.expanduser("~/.codex")
    pattern = os.path.join(
        glob.escape(home), "sessions", "*", "*", "*", f"rollout-*-{thread}.jsonl"
    )
    return next(iter(glob.glob(pattern)), "")


def thread_of(path: str) -> str | None:
    """The thread whose rollout this file is, if a person began it; None for any other file."""
    found = _ROLLOUT.search(path)
    return found[1] if found and _is_a_persons(_meta(path)) else None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _is_begun_here(rollout: str, cwd: str) -> bool:
    """Whether a person began this thread in this folder, and no other thread did."""
    meta = _meta(rollout)
    begun_in = words(meta.get("cwd"))
    return _is_a_persons(meta) and os.path.realpath(begun_in) == os.path.realpath(cwd)


def _is_a_persons(meta: "dict[str, Any]") -> bool:
    """Whether a thread is nobody's sub-agent; not for one of which nothing is known."""
    is_own = isinstance(meta.get("source"), str)
    return is_own and meta.get("thread_source", "user") in ("user", None)


def _meta(rollout: str) -> "dict[str, Any]":
    """What the first line of a rollout says of its thread; {} if it cannot be read."""
    try:
        with open(rollout, "rb") as file:
            return mapping(mapping(json.loads(file.readline())).get("payload"))
    except (OSError, ValueError, RecursionError):
        return {}
