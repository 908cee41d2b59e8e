"""Untrusted text made fit to be shown: titles, agent output, anything not written by us.

A terminal obeys what it reads. Here control characters and escapes become visible marks, so that
what an issue or an agent says can be read and cannot act. Stdlib only and importing nothing that is
slow: the runner uses it as well.
"""

_ESCAPE = 0x1B
_HELD_BACK_MAX = 32
_SGR_PARAMETERS = frozenset(b"0123456789;:")
_KEPT = frozenset(b"\t\n\r\b")
_HARMLESS = frozenset(range(0x20, 0x7F)) | frozenset(range(0x80, 0x100)) | _KEPT

# Characters that act without being seen: C0, DEL, C1, line separators, bidirectional overrides.
_ACTING = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    **dict.fromkeys((0x061C, 0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF), 0xFFFD),
    **dict.fromkeys(range(0x202A, 0x202F), 0xFFFD),
    **dict.fromkeys(range(0x2066, 0x206A), 0xFFFD),
    **dict.fromkeys(range(0xD800, 0xE000), 0xFFFD),
}


def harmless(text: str, *, keep: str = "") -> str:
    r"""The text with every acting character replaced by a visible one (ESC becomes U+241B).

    Args:
        text: Anything.
        keep: Acting characters to leave as they are, such as "\n".
    """
    if text.isprintable() and text.isascii():
        return text
    table = {code: mark for code, mark in _ACTING.items() if chr(code) not in keep}
    return text.translate(table)


def harmless_json(text: str) -> str:
    r"""JSON with every acting character that JSON lets stand written as an escape (`\u202e`).

    Whoever parses it reads the same.
    """
    if text.isascii() and "\x7f" not in text:
        return text
    return text.translate({code: f"\\u{code:04x}" for code in _ACTING if chr(code) != "\n"})


def one_line(text: str, width: int | None = None) -> str:
    """The text on one line, harmless, white space folded, cut with an ellipsis to `width`."""
    if width is not None:
        text = text[: width * 4 + 64]  # cut first: a title may be huge
    line = harmless(" ".join(text.split()))
    return line if width is None or len(line) <= width else line[: width - 1] + "…"


class PaneFilter:
    """Lets an agent's bytes through to its pane: text, line control and colours, nothing else.

    Cursor movement, titles, clipboard writes and queries become visible. Bytes of an escape cut in
    two by a read are held back until the rest comes.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What may be shown of `data`, and of what was held back before it."""
        data = self._held + data
        self._held = b""
        if not _has_acting(data):
            return data
        shown = bytearray()
        at = 0
        while at < len(data):
            byte = data[at]
            if byte == _ESCAPE:
                length = _colour_length(data, at)
                if length < 0 and len(data) - at < _HELD_BACK_MAX:
                    self._held = data[at:]
                    break
                shown += data[at : at + length] if length > 0 else b"^["
                at += max(length, 1)
                continue
            if byte < 0x20 and byte not in _KEPT:
                shown += b"^" + bytes((byte + 0x40,))
            elif byte == 0x7F:
                shown += b"^?"
            elif byte == 0xC2 and at + 1 == len(data):
                self._held = data[at:]  # a C1 control may be cut in two as well
            elif byte == 0xC2 and 0x80 <= data[at + 1] < 0xA0:
                shown += b"?"
                at += 1
            else:
                shown.append(byte)
            at += 1
        return bytes(shown)


def _has_acting(data: bytes) -> bool:
    return b"\xc2" in data or not _HARMLESS.issuperset(data)


def _colour_length(data: bytes, at: int) -> int:
    """Length of the colour escape (CSI … m) at `at`; 0 if it is another; -1 if it is cut off."""
    if at + 1 >= len(data):
        return -1
    if data[at + 1] != ord("["):
        return 0
    end = at + 2
    while end < len(data) and data[end] in _SGR_PARAMETERS:
        end += 1
    if end >= len(data):
        return -1
    return end + 1 - at if data[end] == ord("m") else 0
