"""Typing a text into the terminal program of an agent, such that it is known to have arrived.

A text sent to a busy reader is swallowed (EVIDENCE.md section 1, trap 7), and Enter in a dialog
that happens to be open would choose what stands there. So the text is pasted in brackets, looked
for on the screen, and only when it is seen there is Enter given. What must stay true: nothing is
typed into a pane that is not the attempt's; nothing of the text ends the brackets or acts by
itself; the text stands on no command line, where anybody could read it.
"""

import os
import tempfile
import time

from gangline.core.text import harmless
from gangline.hosts.attempt_folder import PANE_OPTION
from gangline.hosts.tmux import Tmux, pane_target
from gangline.hosts.tmux_control import TmuxRefusedError
from gangline.hosts.tmux_server import ServerId

ARRIVAL_SECONDS_MAX = 5.0
_LOOK_SECONDS = 0.1
_TAIL = 24  # letters at the end of a text, by which it is known on the screen
# What Claude Code and Codex show in the place of a long paste.
_PLACEHOLDERS = ("pastedtext", "pastedcontent")


def paste(
    tmux: Tmux, *, pane: str, server: str, mark: str, is_borrowed: bool, text: str, folder: str
) -> str | None:
    """Paste a text into the pane and give Enter once it is seen there.

    Args:
        tmux: The server.
        pane: Such as `%3`.
        server: Which life of the server the pane is of (ServerId.text).
        mark: The attempt's.
        is_borrowed: The pane is a person's own, that the attempt was typed into.
        text: Lines; what would act on a terminal is made visible.
        folder: Private, on a disk: where the text waits for tmux to read it.

    Returns:
        None if it was given; else why not, in words. Then no Enter was given.

    Raises:
        TmuxError: nobody knows what tmux did.
        OSError: the text could not be written for tmux.
    """
    if not _is_attempts(tmux, pane, server, mark, is_borrowed=is_borrowed):
        return "its pane is not its own any more, or cannot be seen now"
    shown = harmless(text.strip("\n"), keep="\n\t")
    before = _screen(tmux, pane)
    _put(tmux, pane, shown, folder)
    if not _comes(tmux, pane, before, shown):
        return "the text was pasted, but it was not seen to arrive, so Enter was not given"
    _give_enter(tmux, pane)
    return None


def _is_attempts(tmux: Tmux, pane: str, server: str, mark: str, *, is_borrowed: bool) -> bool:
    if not is_borrowed:
        pid, _, started = server.partition(".")
        return bool(tmux.pane_is(pane, ServerId(int(pid), int(started)), mark))
    rows = tmux.pane_table(["#{pane_id}", "#{pid}.#{start_time}", f"#{{{PANE_OPTION}}}"])
    found = [holder for each, life, holder in rows if each == pane and life == server]
    return bool(found) and found[0].rpartition("@")[0] == mark


def _put(tmux: Tmux, pane: str, text: str, folder: str) -> None:
    buffer = f"gangline-{os.urandom(8).hex()}"
    with tempfile.NamedTemporaryFile(dir=folder, prefix="message-") as file:
        file.write(text.encode())
        file.flush()
        tmux.command("load-buffer", "-b", buffer, file.name)
    try:
        # -p: in brackets, where the program asked for them, so that a newline submits nothing.
        tmux.command("paste-buffer", "-d", "-p", "-b", buffer, "-t", pane_target(pane))
    except TmuxRefusedError:
        tmux.command("delete-buffer", "-b", buffer)
        raise


def _give_enter(tmux: Tmux, pane: str) -> None:
    """Enter, to the program itself also while a person scrolls in the pane, where keys are not."""
    buffer = f"gangline-{os.urandom(8).hex()}"
    tmux.command("set-buffer", "-b", buffer, "--", "\r")
    tmux.command("paste-buffer", "-d", "-r", "-b", buffer, "-t", pane_target(pane))


def _screen(tmux: Tmux, pane: str) -> str:
    return "\n".join(tmux.command("capture-pane", "-p", "-t", pane_target(pane)))


def _comes(tmux: Tmux, pane: str, before: str, text: str) -> bool:
    """Whether the text appears, and stays for two looks: half a paste is none."""
    deadline = time.monotonic() + ARRIVAL_SECONDS_MAX
    seen = 0
    while time.monotonic() < deadline:
        seen = seen + 1 if has_arrived(before, _screen(tmux, pane), text) else 0
        if seen == 2:
            return True
        time.sleep(_LOOK_SECONDS)
    return False


def has_arrived(before: str, after: str, text: str) -> bool:
    """Whether the end of a text is on the screen once more than before, or a mark for a paste is.

    Only letters and digits are compared, for programs wrap what is typed and draw boxes around it.
    """
    old, new = _letters(before), _letters(after)
    end = _letters(text)[-_TAIL:]
    if end:
        wanted = (end, *_PLACEHOLDERS)
        return any(new.count(each) > old.count(each) for each in wanted)
    bare = "".join(text.split())[-_TAIL:]
    return "".join(after.split()).count(bare) > "".join(before.split()).count(bare)


def _letters(text: str) -> str:
    return "".join([each for each in text.lower() if each.isalnum()])
