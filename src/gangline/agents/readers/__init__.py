"""What coding agents print, understood: one small reader a format.

A reader turns the output of an agent program into a running account for the pane and into what it
means (`Progress`). It is used inside the runner, beside a living agent, so what must stay true: it
never raises, it keeps a few fields and at most one line of output, and it imports next to nothing.
It does no I/O and decides nothing: whether an attempt succeeded is decided elsewhere, by the exit
code, by git and by this.
"""

from gangline.agents.readers.reading import Progress, Reader

TYPE_CHECKING = False  # importing `typing` costs the runner more than a reader does
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NAMES", "Progress", "Reader", "reader"]

_MODULES = {
    "claude-stream-json": "claude",
    "codex-json": "codex",
    "opencode-json": "opencode",
    "qwen-stream-json": "qwen",
    "gemini-json": "gemini",
    "copilot-json": "copilot",
    "aider-text": "aider",
    "plain": "plain",
}
NAMES = tuple(_MODULES)


def reader(
    name: str, *, cwd: str | None = None, clock: "Callable[[], float] | None" = None
) -> Reader:
    """A new reader of that format; only its own module is imported.

    Args:
        name: One of NAMES.
        cwd: The folder the agent works in; paths below it are shown from there.
        clock: The time in epoch seconds, for reset times; None for the system's.

    Raises:
        KeyError: there is no such format.
    """
    module = __import__(f"{__name__}.{_MODULES[name]}", fromlist=["READER"])
    made: Reader = module.READER(cwd=cwd, clock=clock)
    return made
