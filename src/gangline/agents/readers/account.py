"""The lines of the running account: what a person wants to read in a pane at three in the morning.

One thing is one line, but for what the agent says. Text is shortened here and not made harmless:
the runner's PaneFilter does that for all that goes to a pane.
"""

_LINE_CHARACTERS = 160
_SAID_LINES = 12
_SAID_CHARACTERS = 1500
_OTHER_CHARACTERS = 2000
_SHELL_CHARACTERS = 10_000


def one_line(text: str, limit: int = _LINE_CHARACTERS) -> str:
    """The text with every run of white space and line ends made one space, cut at `limit`."""
    text = " ".join(text[: limit * 4].split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def cut(text: str, limit: int) -> str:
    """The beginning of the text, at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def without_colours(text: str) -> str:
    """The text without the sequences that colour it."""
    first, *rest = text.split("\x1b[")
    return first + "".join(part.lstrip("0123456789;:")[1:] for part in rest)


def said(text: str, indent: str = "") -> str:
    """What the agent says, whole up to some lines."""
    lines = [line.rstrip() for line in cut(text.strip(), _SAID_CHARACTERS).splitlines()]
    if not lines:
        return ""
    more = len(lines) - _SAID_LINES
    if more > 1:
        lines[_SAID_LINES:] = [f"… {more} more lines"]
    return f"{indent}\u203a " + f"\n{indent}  ".join(lines) + "\n"


def called(tool: str, indent: str = "") -> str:
    """A tool call, in words."""
    return f"{indent}⏺ {one_line(tool)}\n"


def edited(path: str, indent: str = "") -> str:
    """A file that the agent writes to."""
    return f"{indent}✎ {one_line(path)}\n"


def answered(text: str, *, failed: bool = False, code: int | None = None, indent: str = "") -> str:
    """The first line of what a tool call gave, and how many more there are.

    Args:
        text: All of it.
        failed: Whether the call is known to have failed.
        code: The exit code, if it was a command.
        indent: What stands before it.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and lines[0].startswith("Exit code ") and lines[0][10:].strip().isdecimal():
        code = int(lines[0][10:].strip()[:5])  # Claude Code says it in the text
        del lines[0]
    what = f"exit {code}" if code else "failed" if failed else ""
    first = one_line(lines[0]) if lines else ""
    more = f" (+{len(lines) - 1} lines)" if len(lines) > 2 else ""
    shown = ": ".join(part for part in (what, first) if part)
    return f"{indent}  ⎿ {shown}{more}\n" if shown else ""


def noted(sign: str, text: str) -> str:
    """Something about the run itself."""
    return f"{sign} {one_line(text, 300)}\n"


def other(text: str) -> str:
    """A line that is no event, as it is; one that is too long to read is cut."""
    left = len(text) - _OTHER_CHARACTERS
    return f"{text}\n" if left <= 0 else f"{text[:_OTHER_CHARACTERS]} … {left:,} more characters\n"


def tokens(number: int) -> str:
    """A number of tokens in few characters: 950, 12.3k, 1.2M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def money(usd: float) -> str:
    """An amount in dollars; one that is less than a cent keeps two figures."""
    return f"${usd:.2f}" if usd >= 0.01 or usd == 0 else f"${usd:.2g}"


def shortened_path(path: str, cwd: str | None) -> str:
    """The path from the agent's own folder, if it is below it."""
    return path[len(cwd) + 1 :] if cwd and path.startswith(cwd.rstrip("/") + "/") else path


def shell_words(command: str) -> str:
    """The command that a person would recognize: without the `bash -lc '…'` around it."""
    shell, found, _ = command[:100].partition("sh -")
    if not found or " " in shell or len(command) > _SHELL_CHARACTERS:
        return command
    import shlex  # noqa: PLC0415 - only one agent puts a shell around its commands

    try:
        parts = shlex.split(command)
    except ValueError:
        return command
    return parts[2] if len(parts) == 3 and parts[1] in {"-c", "-lc"} else command
