"""Cuts Markdown into blocks of text, and leaves out what is not the author's own voice.

Code, quotations and comments in an issue talk *about* dependencies; they must never become edges
(DESIGN.md section 8). This follows CommonMark's block structure as far as that question needs it:
fences, indented code, block quotes with lazy lines, HTML comments and pre blocks, lists, headings.
Any text is accepted, in time linear in its length; Markdown has no syntax errors.
"""

import bisect
import re
from collections.abc import Iterator

import msgspec

# Stands where inline code was: it is neither white space nor a word, so nothing reads across it.
CODE = "\ufffc"

_FENCE = re.compile(r"(`{3,})[^`]*\Z|(~{3,})")
_HEADING = re.compile(r"(#{1,6})(?:[ ]+(.*))?\Z", re.DOTALL)
_HEADING_END = re.compile(r"[ ]#+[ ]*\Z")
_SETEXT = re.compile(r"(=+|-+)[ ]*\Z")
_RULE = re.compile(r"(?:(?:\*[ ]*){3,}|(?:-[ ]*){3,}|(?:_[ ]*){3,})\Z")
_MARKER = re.compile(r"(?:[-+*]|[0-9]{1,9}[.)])(?=[ ]|\Z)")
_HTML_BLOCK = re.compile(
    r"<(pre|script|style|textarea|blockquote)(?=[\s>]|\Z)", re.IGNORECASE | re.ASCII
)
_INLINE = re.compile(r"\\.|`+|<!--|<code>", re.DOTALL | re.IGNORECASE | re.ASCII)
_TICKS = re.compile(r"`+")
_NOT_LINE_END = re.compile(r"[^\n]")
_ENDS = {"comment": re.compile("-->")} | {
    tag: re.compile(f"</{tag}>", re.IGNORECASE)
    for tag in ("pre", "script", "style", "textarea", "blockquote", "code")
}

# Deeper lists are read as text: each level of one line costs a copy of that line.
LIST_DEPTH_MAX = 20


class Block(msgspec.Struct, frozen=True):
    """A heading, a list item's first paragraph, or any other paragraph, with inline code masked.

    Attributes:
        kind: `heading`, `item` or `text`.
        text: Its lines joined by LF; inline code is CODE, comments are blanks of equal length.
        line: The line of the body on which it starts, from 1.
        level: Of a heading 1 to 6; of an item how many lists it is in; else 0.
        written: The text before anything was masked, to be shown.
    """

    kind: str
    text: str
    line: int
    level: int = 0
    written: str = ""


def blocks(body: str) -> Iterator[Block]:
    """The blocks of a Markdown text, in order, without code, quotes and HTML comments."""
    scanner = _Scanner()
    for number, line in enumerate(body.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        scanner.read(number, line)
    scanner.flush()
    for block in scanner.found:
        yield Block(block.kind, _mask(block.text), block.line, block.level, block.text)


class _Scanner:
    """Reads line after line; `found` holds the blocks that are complete."""

    def __init__(self) -> None:
        self.found: list[Block] = []
        self.offsets: list[int] = []  # where the text of each open list item starts
        self.open: list[str] = []  # the lines of the paragraph that is being read
        self.open_line = 0
        self.open_kind = "text"
        self.fence: str | None = None
        self.html_end: re.Pattern[str] | None = None
        self.quoted = False  # a quote's last paragraph may go on without its `>`

    def flush(self) -> None:
        """End the paragraph that is being read, if there is one."""
        if self.open:
            level = len(self.offsets) if self.open_kind == "item" else 0
            self.found.append(Block(self.open_kind, "\n".join(self.open), self.open_line, level))
        self.open = []

    def read(self, number: int, raw: str) -> None:
        line = raw.expandtabs(4)
        if self.html_end is not None:
            line = self._after_html(line).lstrip()
        if not line.strip():
            self._blank()
            return
        if self.fence is not None and self._in_fence(line):
            return
        fresh = False
        while True:
            text = line.lstrip(" ")
            indent = len(line) - len(text)
            if not self.open or _starts_block(text):
                self._leave_lists(indent)
            if indent - (self.offsets[-1] if self.offsets else 0) >= 4:
                if self.open:
                    self.open.append(line)
                return  # else it is indented code
            marker = _MARKER.match(text)
            if marker is None or _RULE.match(text) or len(self.offsets) >= LIST_DEPTH_MAX:
                break
            self.flush()
            self.quoted = False
            line, fresh = self._enter_list(line, indent, marker.end()), True
            if not line.strip():
                return
        self._leaf(number, line, text, "item" if fresh else "text")

    def _blank(self) -> None:
        if self.html_end is None and self.fence is None:
            self.flush()
            self.quoted = False

    def _after_html(self, line: str) -> str:
        """What is left of a line once the HTML block that is open has ended; else nothing."""
        assert self.html_end is not None
        end = self.html_end.search(line)
        if end is None:
            return ""
        self.html_end = None
        return line[end.end() :]

    def _in_fence(self, line: str) -> bool:
        """Whether the line belongs to the open fence; closes it where it ends."""
        assert self.fence is not None
        if self.offsets and len(line) - len(line.lstrip(" ")) < self.offsets[-1]:
            self.fence = None  # the list item that held it has ended
            return False
        text = line.strip()
        if len(text) >= len(self.fence) and not text.strip(self.fence[0]):
            self.fence = None
        return True

    def _leave_lists(self, indent: int) -> None:
        if self.offsets and indent < self.offsets[-1]:
            self.flush()
            while self.offsets and indent < self.offsets[-1]:
                self.offsets.pop()

    def _enter_list(self, line: str, indent: int, width: int) -> str:
        """Open a list item; returns the line with its marker blanked out."""
        after = indent + width
        rest = line[after:]
        spaces = len(rest) - len(rest.lstrip(" "))
        self.offsets.append(after + (spaces if 1 <= spaces <= 4 and rest.strip() else 1))
        return " " * after + rest

    def _leaf(self, number: int, line: str, text: str, kind: str) -> None:
        """Take a line that starts or continues a block that holds no other blocks."""
        if self.open and _SETEXT.match(text):
            title = "\n".join(self.open)
            self.found.append(Block("heading", title, self.open_line, 1 if text[0] == "=" else 2))
            self.open = []
            return
        if not _starts_block(text) or _MARKER.match(text):
            if self.open:
                self.open.append(line)
            elif not self.quoted:
                self.open, self.open_line, self.open_kind = [line], number, kind
            return
        self.flush()
        self.quoted = False
        if text[0] == ">":
            inner = text[1:].strip()
            self.quoted = bool(inner) and not _starts_block(inner)
        elif heading := _HEADING.match(text):
            title = _HEADING_END.sub("", " " + (heading[2] or "")).strip()
            self.found.append(Block("heading", title, number, len(heading[1])))
        elif fence := _FENCE.match(text):
            self.fence = fence[1] or fence[2]
        elif not _RULE.match(text):
            self._html(number, text)

    def _html(self, number: int, text: str) -> None:
        tag = _HTML_BLOCK.match(text)
        self.html_end = _ENDS[tag[1].lower() if tag else "comment"]
        rest = self._after_html(text[tag.end() if tag else len("<!--") :])
        if rest.strip():
            self.found.append(Block("text", rest, number))


def _starts_block(text: str) -> bool:
    """Whether a line, without its indentation, cannot continue a paragraph."""
    return bool(
        text[0] == ">"
        or _HEADING.match(text)
        or _FENCE.match(text)
        or _RULE.match(text)
        or _MARKER.match(text)
        or text.startswith("<!--")
        or _HTML_BLOCK.match(text)
    )


def _mask(text: str) -> str:
    """The text with inline code replaced by CODE and inline comments blanked, line ends kept."""
    runs: dict[int, list[int]] = {}
    for run in _TICKS.finditer(text):
        runs.setdefault(len(run[0]), []).append(run.start())
    pieces: list[str] = []
    unclosed: set[str] = set()  # searched once in vain, never again: time stays linear
    position = 0
    while found := _INLINE.search(text, position):
        opening = found[0].lower()
        pieces.append(text[position : found.start()])
        position = found.end()
        end = -1
        if opening[0] == "`":
            starts = runs.get(len(opening), [])
            later = bisect.bisect_left(starts, position)
            end = starts[later] + len(opening) if later < len(starts) else -1
        elif opening[0] == "<" and opening not in unclosed:
            closing = _ENDS["comment" if opening == "<!--" else "code"].search(text, position)
            if closing:
                end = closing.end()
            else:
                unclosed.add(opening)
        if end < 0:
            pieces.append(found[0])
        else:
            mask = " " if opening == "<!--" else CODE
            pieces.append(_NOT_LINE_END.sub(mask, text[found.start() : end]))
            position = end
    pieces.append(text[position:])
    return "".join(pieces)
