"""The last key of a state file: a CRC-32 of all before it.

Apart from the codec because `gangline status` needs nothing else of it, and must start fast.
"""

from zlib import crc32

_KEY = b',\n"digest":"'
_TAIL = len(_KEY) + 8 + len(b'"}\n')


def with_digest(body: bytes) -> bytes:
    """The whole file for a JSON object that lacks only its last key and closing brace."""
    return b'%s%s%08x"}\n' % (body, _KEY, crc32(body))


def digest_matches(data: bytes) -> bool:
    """Whether the file is byte for byte what `with_digest` made."""
    return data == with_digest(data[:-_TAIL])
