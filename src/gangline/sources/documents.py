"""Reads a text file and decodes TOML, YAML or JSON without losing what was written, or where.

Ids are what a person wrote: YAML's own types would make 1.1 of `1.10`, false of `no` and 7 of
`007`, and two keys of one name would silently lose a dependency. So YAML scalars stay text,
duplicate keys are refused, and every YAML value remembers its line. YAML is built from parser
events and not by a loader: no tag is ever acted upon, and depth is bounded.
"""

import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from gangline.errors import InputError

DEPTH_MAX = 20
_YAML_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TOML_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)\Z")
_YAML_HINT = "put a text that holds ': ', ' #' or starts with a sign between quotes"


class Value(msgspec.Struct, frozen=True):
    """One decoded value: a dict or tuple of Values, or a scalar; with its line where it is known.

    From YAML every scalar is a str as written, or None for an empty, `~` or `null` plain one.
    """

    data: Any
    line: int | None = None


class Document(msgspec.Struct, frozen=True):
    """How messages name a place in a file: `plan.yaml:4: issues[0].id`, or `issues/3.md:4`.

    Attributes:
        name: The file, as a person would write it.
        paths: Whether the key path is shown; in front matter the line is enough.
    """

    name: str
    paths: bool = True

    def place(self, line: int | None, path: str = "") -> str:
        where = self.name if line is None else f"{self.name}:{line}"
        return f"{where}: {path}" if path and self.paths else where


def read_text(path: str, name: str, bytes_max: int) -> str:
    """The text of a regular file: UTF-8, without a byte order mark, lines ending in LF.

    Raises:
        InputError: It is missing, no regular file, larger than `bytes_max`, holds a NUL, or is
            not UTF-8 (with the offset of the first wrong byte).
    """
    try:
        # O_NONBLOCK: opening a FIFO would otherwise wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InputError("is not a regular file", place=name, hint="move it elsewhere")
            data = file.read(bytes_max + 1) if status.st_size <= bytes_max else b""
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError("cannot be read", place=name, causes=[reason]) from error
    size = max(status.st_size, len(data))
    if size > bytes_max:
        raise InputError(
            f"has {size:,} bytes; the limit is {bytes_max:,}",
            place=name,
            hint="put the long part into another file of the repository and name it in the body",
        )
    if b"\0" in data:
        raise InputError(
            f"holds a NUL byte at offset {data.index(0)}: it is not UTF-8 text",
            place=name,
            hint="save it as UTF-8",
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}",
            place=f"{name}:{line}",
            hint=f"save it as UTF-8: iconv -t UTF-8 {name}",
        ) from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def parse_toml(text: str, document: Document) -> Value:
    """Decode TOML; errors are InputError with line and column."""
    try:
        return _wrap(tomllib.loads(text), document, 0)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        position = _TOML_POSITION.search(message)
        line = position[1] if position and position[1] else str(text.count("\n") + 1)
        column = f":{position[2]}" if position and position[2] else ""
        raise InputError(
            "is not valid TOML",
            place=f"{document.name}:{line}{column}",
            causes=[_TOML_POSITION.sub("", message)],
            hint="correct that line",
        ) from error
    except RecursionError as error:
        raise _too_deep(document, None) from error


def parse_json(text: str, document: Document) -> Value:
    """Decode JSON strictly: no duplicate keys, no NaN; errors are InputError with line, column."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) < len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            owner = f" in the object with id {result['id']!r}" if "id" in result else ""
            raise InputError(
                f"the key {twice!r} stands twice{owner}",
                place=document.name,
                hint="remove one of them",
            )
        return result

    def constant(name: str) -> Any:
        raise InputError(f"{name} is not JSON", place=document.name, hint="write a number or text")

    try:
        decoded = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
        return _wrap(decoded, document, 0)
    except json.JSONDecodeError as error:
        raise InputError(
            "is not valid JSON",
            place=f"{document.name}:{error.lineno}:{error.colno}",
            causes=[error.msg],
            hint="correct that line",
        ) from error
    except RecursionError as error:
        raise _too_deep(document, None) from error
    except ValueError as error:  # a number of more digits than Python converts
        raise InputError("is not usable", place=document.name, causes=[str(error)]) from error


def parse_yaml(text: str, document: Document, lines_before: int = 0) -> Value:
    """Decode one YAML document, scalars as written.

    Args:
        text: The YAML.
        document: Names the places in errors.
        lines_before: Lines of the file above `text`; added to every line number.

    Raises:
        InputError: Wrong syntax, a duplicate key, an unknown alias, two documents, or a control
            character; with the line and column in the file.
    """
    bad = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1 + lines_before
        raise InputError(
            f"holds the control character U+{ord(bad[0]):04X}",
            place=document.place(line),
            hint="remove it",
        )
    # The C parser is ten times as fast; a PyYAML built without libyaml has only the other.
    parser: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return _Builder(document, lines_before).build(yaml.parse(text, Loader=parser))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        place = document.name
        if mark is not None:
            place = f"{document.name}:{mark.line + 1 + lines_before}:{mark.column + 1}"
        raise InputError(
            "is not valid YAML", place=place, causes=[problem], hint=_YAML_HINT
        ) from error


def _wrap(data: Any, document: Document, depth: int) -> Value:
    if depth > DEPTH_MAX:
        raise _too_deep(document, None)
    if isinstance(data, dict):
        return Value({key: _wrap(item, document, depth + 1) for key, item in data.items()})
    if isinstance(data, list):
        return Value(tuple(_wrap(item, document, depth + 1) for item in data))
    return Value(data)


def _too_deep(document: Document, line: int | None) -> InputError:
    return InputError(
        f"is nested more than {DEPTH_MAX} levels deep",
        place=document.place(line),
        hint="an issue needs lists and texts only",
    )


class _Frame:
    """A list or mapping that is still open while its events come in."""

    def __init__(self, line: int, anchor: str | None, *, mapping: bool) -> None:
        self.line = line
        self.anchor = anchor
        self.mapping: dict[str, Value] | None = {} if mapping else None
        self.items: list[Value] = []
        self.key: str | None = None

    def close(self) -> Value:
        data = tuple(self.items) if self.mapping is None else self.mapping
        return Value(data, self.line)


class _Builder:
    """Builds Values from YAML events without recursion, so that no depth can crash it."""

    def __init__(self, document: Document, lines_before: int) -> None:
        self.document = document
        self.lines_before = lines_before
        self.frames: list[_Frame] = []
        self.anchors: dict[str, Value] = {}
        self.root: Value | None = None

    def build(self, events: Iterator[Any]) -> Value:
        for event in events:
            line = event.start_mark.line + 1 + self.lines_before
            if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
                raise self._error("holds a second YAML document", line, "keep one, remove `---`")
            if isinstance(event, yaml.ScalarEvent):
                null = not event.style and event.implicit[0] and event.value in _YAML_NULLS
                self._add(Value(None if null else event.value, line), event.anchor)
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in self.anchors:
                    raise self._error(
                        f"the alias *{event.anchor} is not defined above", line, "write it out"
                    )
                self._add(self.anchors[event.anchor], None)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                if len(self.frames) >= DEPTH_MAX:
                    raise _too_deep(self.document, line)
                mapping = isinstance(event, yaml.MappingStartEvent)
                self.frames.append(_Frame(line, event.anchor, mapping=mapping))
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                frame = self.frames.pop()
                self._add(frame.close(), frame.anchor)
        return self.root if self.root is not None else Value(None, 1 + self.lines_before)

    def _add(self, value: Value, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = value
        if not self.frames:
            self.root = value
            return
        frame = self.frames[-1]
        if frame.mapping is None:
            frame.items.append(value)
        elif frame.key is None:
            if not isinstance(value.data, str):
                raise self._error("a key must be a plain word", value.line, "name the key")
            if value.data in frame.mapping:
                first = frame.mapping[value.data].line
                raise self._error(
                    f"the key {value.data!r} stands twice (first in line {first})",
                    value.line,
                    "remove one of them",
                )
            frame.key = value.data
        else:
            frame.mapping[frame.key] = value
            frame.key = None

    def _error(self, message: str, line: int | None, hint: str) -> InputError:
        return InputError(message, place=self.document.place(line), hint=hint)
