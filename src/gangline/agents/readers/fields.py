"""Reading decoded JSON that may hold anything: a wrong type is as good as an absent field.

Agents change their output between versions, and a reader must not fail over it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NUMBER_MAX = 10**15


def mapping(value: "Any") -> "dict[str, Any]":
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: "Any") -> "list[Any]":
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def words(value: "Any") -> str:
    """The value if it is a string, else an empty one; what UTF-8 cannot hold is replaced."""
    if not isinstance(value, str):
        return ""
    return value.encode("utf-8", "replace").decode()


def first_words(*values: "Any") -> str:
    """The first of the values that is a string with anything in it, else an empty one."""
    for value in values:
        found = words(value).strip()
        if found:
            return found
    return ""


def count(value: "Any") -> int:
    """The value if it is a number that can count something, else 0."""
    return int(amount(value))


def amount(value: "Any") -> float:
    """The value if it is a finite number from 0 on, else 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return value if 0 <= value <= _NUMBER_MAX else 0  # NaN compares false


def is_amount(value: "Any") -> bool:
    """Whether the value is a finite number from 0 on."""
    return (
        not isinstance(value, bool)
        and isinstance(value, int | float)
        and (0 <= value <= _NUMBER_MAX)
    )


def text_of(value: "Any") -> str:
    """The text of a content field: a string, or a list of blocks of which some hold text."""
    if isinstance(value, str):
        return words(value)
    return "\n".join(
        words(mapping(block).get("text")) for block in listing(value) if mapping(block).get("text")
    )
