"""The fields of one issue, read alike from front matter and from a plan file.

One home for their names, types and error messages: a front matter and a plan that say the same
must mean the same. Texts are checked here for what no later step could carry (a NUL in an argv
element, half a surrogate pair in a file).
"""

import difflib
import re
from collections.abc import Iterable

import msgspec

from gangline.core.model import Dependency, IssueId
from gangline.errors import InputError
from gangline.sources.documents import Document, Value

# Longer numbers stay text: JSON readers elsewhere would round them.
_CANONICAL_INTEGER = re.compile(r"0|[1-9][0-9]{0,14}")
_SEVERAL_IDS = re.compile(r"[\s,;]")

# What other tools call these fields; a misnamed dependency is the costliest slip of all.
_OTHER_NAMES = {
    "after": "depends_on",
    "blocked_by": "depends_on",
    "dependencies": "depends_on",
    "deps": "depends_on",
    "needs": "depends_on",
    "requires": "depends_on",
    "command": "run",
    "cmd": "run",
    "argv": "run",
    "name": "title",
    "description": "body",
    "text": "body",
    "number": "id",
    "tags": "labels",
}


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """What an issue says of itself; None where it says nothing."""

    id: IssueId | None = None
    title: str | None = None
    body: str | None = None
    depends_on: tuple[Dependency, ...] = ()
    agent: str | None = None
    labels: tuple[str, ...] = ()
    run: tuple[str, ...] | None = None


def issue_id(text: str) -> IssueId:
    """The id that a text means: an int only where that int is written just so (`7`, not `007`)."""
    return int(text) if _CANONICAL_INTEGER.fullmatch(text) else text


def one_line(text: str) -> str:
    """The text with every run of white space made one space: titles are one line."""
    return " ".join(text.split())


def suggestion(key: str, known: Iterable[str]) -> str | None:
    """The known key that was probably meant, if there is one."""
    known = list(known)
    folded = key.casefold().replace("-", "_")
    other = _OTHER_NAMES.get(folded)
    if other in known:
        return other
    close = difflib.get_close_matches(folded, known, n=1, cutoff=0.7)
    return close[0] if close else None


def mapping(value: Value, document: Document, path: str = "", what: str = "") -> dict[str, Value]:
    """The keys and values of a mapping.

    Raises:
        InputError: The value is something else.
    """
    if isinstance(value.data, dict):
        return value.data
    raise InputError(
        f"{what or path} must be keys with values, not {_kind(value)}",
        place=document.place(value.line, path),
        hint="write key and value: `id: 3` in YAML, `id = 3` in TOML",
    )


def read_fields(keys: dict[str, Value], document: Document, path: str = "") -> Fields:
    """The fields of an issue; keys that are not fields are the caller's business.

    Raises:
        InputError: A value of the wrong type, with its place.
    """

    def at(key: str) -> _Field:
        return _Field(keys.get(key, Value(None)), document, f"{path}.{key}" if path else key)

    identity = at("id")
    title = at("title").text()
    return Fields(
        id=identity.identity() if "id" in keys else None,
        title=one_line(title) or None if title is not None else None,
        body=at("body").text(),
        depends_on=at("depends_on").dependencies(),
        agent=at("agent").word(),
        labels=at("labels").labels(),
        run=at("run").argv(),
    )


class _Field(msgspec.Struct, frozen=True):
    """One value with its place, read as the type it has to have."""

    value: Value
    document: Document
    path: str

    def text(self) -> str | None:
        data = self.value.data
        if data is None:
            return None
        if not isinstance(data, str):
            raise self.wrong("a text", 'put it between quotes: "…"')
        if "\0" in data:
            raise self.error(f"{self.path} holds a NUL character", "remove it")
        if not _encodable(data):
            raise self.error(f"{self.path} holds half a surrogate pair", "write the character")
        return data

    def word(self) -> str | None:
        text = self.text()
        if text is not None and not text.strip():
            raise self.error(f"{self.path} is empty", "leave the key out")
        return text

    def identity(self) -> IssueId:
        data = self.value.data
        if isinstance(data, int) and not isinstance(data, bool):
            return issue_id(str(data))
        text = self.word() if isinstance(data, str) else None
        if text is None:
            raise self.wrong("a whole number or a text", 'between quotes it stays text: "1.10"')
        # Only YAML has lines here, and only YAML cannot tell 3 from "3".
        return text if self.value.line is None else issue_id(text)

    def dependencies(self) -> tuple[Dependency, ...]:
        found: dict[str, Dependency] = {}
        for item in self.items("an issue id, or a list of them: [3, 4]"):
            if item.value.data is None:
                raise item.error(
                    f"{item.path} is empty",
                    "in YAML everything after # is a comment: write 3 and not #3",
                )
            text = str(item.identity()).removeprefix("#")
            if _SEVERAL_IDS.search(text):
                raise item.error(
                    f"{item.path} holds {text[:100]!r}, which is no issue id",
                    "write several ids as a list: [3, 4]",
                )
            place = item.document.place(item.value.line, item.path)
            found.setdefault(text, Dependency(text, place))
        return tuple(found.values())

    def labels(self) -> tuple[str, ...]:
        words = (item.word() for item in self.items("a list of texts"))
        return tuple(dict.fromkeys(word for word in words if word is not None))

    def argv(self) -> tuple[str, ...] | None:
        data = self.value.data
        if data is None:
            return None
        if not isinstance(data, tuple):
            raise self.wrong(
                "a list: the program and its arguments",
                'for a shell line write ["sh", "-c", "…"]',
            )
        words: list[str] = []
        for item in self.items(""):
            text = item.text()
            if text is None:
                raise item.wrong("a text", 'put it between quotes: ""')
            words.append(text)
        if not words or not words[0]:
            raise self.error(f"{self.path} names no program", 'write ["make", "test"]')
        return tuple(words)

    def items(self, expected: str) -> list["_Field"]:
        """The elements of a list; a scalar stands for a list of one, nothing for an empty one."""
        data = self.value.data
        if data is None:
            return []
        if isinstance(data, tuple):
            return [
                _Field(item, self.document, f"{self.path}[{index}]")
                for index, item in enumerate(data)
            ]
        if isinstance(data, dict):
            raise self.wrong(expected, "write a list: [3, 4]")
        return [self]

    def wrong(self, expected: str, hint: str) -> InputError:
        return self.error(f"{self.path} must be {expected}, not {_kind(self.value)}", hint)

    def error(self, message: str, hint: str) -> InputError:
        return InputError(message, place=self.document.place(self.value.line, self.path), hint=hint)


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Value) -> str:
    """What a value is, in words; never its content, which may be endless."""
    names = {
        dict: "keys with values",
        tuple: "a list",
        str: "a text",
        bool: "true or false",
        int: "a whole number",
        float: "a number with a fraction",
        type(None): "nothing",
    }
    return names.get(type(value.data), "a date or time")
