"""Checksums: the last key of a state file and of each journal line is a CRC-32 of all before it.

Apart from the codec because `gangline status` needs nothing else of it, and must start fast.
"""

from zlib import crc32

_KEY = b',\n"digest":"'
_TAIL = len(_KEY) + 8 + len(b'"}\n')
_CRC_KEY = b',"crc":"'
_CRC_TAIL = len(_CRC_KEY) + 8 + len(b'"}')


class BadLineError(ValueError):
    """A journal line that is not what was written; the message says what is wrong with it."""


def with_crc(line: bytes) -> bytes:
    """A journal line, newline included, for a JSON object that lacks only its end."""
    return b'%s%s%08x"}\n' % (line, _CRC_KEY, crc32(line))


def is_line(line: bytes, seq: int) -> bool:
    """Whether this is, byte for byte, a whole line that was written with this number.

    What it is not, `check_line` and `line_seq` say: this is asked of every line of a journal.
    """
    end = b'%s%08x"}' % (_CRC_KEY, crc32(line[:-_CRC_TAIL]))
    return line.startswith(b'{"seq":%d,' % seq) and line.endswith(end)


def check_line(line: bytes) -> None:
    """Verify the CRC of a line without its newline.

    Raises:
        BadLineError: it is torn, damaged or not a journal line.
    """
    head, tail = line[:-_CRC_TAIL], line[-_CRC_TAIL:]
    if not (line.startswith(b'{"seq":') and tail.startswith(_CRC_KEY) and tail.endswith(b'"}')):
        raise BadLineError("it is not a whole journal line")
    if tail[len(_CRC_KEY) : -2] != b"%08x" % crc32(head):
        raise BadLineError("its checksum does not match")


def line_seq(line: bytes) -> int:
    """The sequence number of a checked line."""
    return int(line[len(b'{"seq":') : line.index(b",")])


def with_digest(body: bytes) -> bytes:
    """The whole file for a JSON object that lacks only its last key and closing brace."""
    return b'%s%s%08x"}\n' % (body, _KEY, crc32(body))


def digest_matches(data: bytes) -> bool:
    """Whether the file is byte for byte what `with_digest` made."""
    return data == with_digest(data[:-_TAIL])
