"""Finds the dependencies that an issue's text declares, as GitHub users write them.

Pure: text in, references out, any text accepted. Three forms count (DESIGN.md section 8): a
sentence (`Depends on #3`, `Blocked by: #3, #4 and #5`), a list that follows such a phrase, and a
list under a heading named Dependencies. An edge that is overlooked starts work too early, so what
stands under that heading and cannot be read as an issue is handed back to be warned of.
"""

import re
from collections.abc import Iterable, Iterator

import msgspec

from gangline.sources.blocks import Block, blocks

_HEADINGS = frozenset(
    {"dependencies", "dependency", "depends on", "blocked by", "의존성", "의존 이슈", "종속성"}
)
_NONE = frozenset({"none", "n/a", "na", "nothing", "no", "없음", "-", "\u2013", "\u2014"})

_PHRASE = re.compile(r"(?<![^\W_])(?<![^\W_]-)(?:depends\s+on|blocked\s+by)(?!\w)", re.IGNORECASE)
_NEGATED = re.compile(r"(?:\bnot|n['\u2019]t|\bno\s+longer|\bnever)\s+\Z", re.IGNORECASE)
_GAP = re.compile(r"[\s:*_~\[(]*(?:(?:both|the|issues?)[\s:*_\[(]+){0,3}", re.IGNORECASE)
_LINK = re.compile(r"[\])*_~]*(?:\([^()\s]*\)[*_~]*)?")
_SEPARATOR = re.compile(
    r"\s*(?:[,;/&+]\s*(?:and\s+)?|and\s+(?:on\s+|by\s+)?|및\s+|와\s+|과\s+)?[*_~\[]*", re.IGNORECASE
)
_REPOSITORY = r"[A-Za-z0-9][A-Za-z0-9-]{0,99}/[A-Za-z0-9._-]{1,100}"
_NUMBER = r"[0-9]{1,100}(?!_?[A-Za-z0-9])"
_WORD = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?"
# Any host: GitHub Enterprise has its own, and no other site has issues at such an address.
_URL = re.compile(
    rf"https?://[A-Za-z0-9.:-]{{1,200}}/({_REPOSITORY})/(?:issues|pull)/({_NUMBER})(?:[#?][^\s)\]]*)?",
    re.IGNORECASE,
)
_NUMBERED = re.compile(rf"({_REPOSITORY})?#({_NUMBER})")
_NAMED = re.compile(rf"({_REPOSITORY})?#({_WORD})")
_BARE = re.compile(r"()([0-9]{1,100})(?=[\s,;:&)\]*_~]|\.?\s*\Z)")
_CHECKBOX = re.compile(r"\[[ xX]\]\s+")
_ORNAMENT = re.compile(r"[\s*_~\[(]*")
_WORDS = re.compile(rf"()({_WORD})")
_NOT_NUMBERS = re.compile(r"[^0-9#,;&\s]")
_WORD_ITEM = re.compile(rf"()({_WORD})(?=[\s,;:.)\]*_~]|\Z)")
_WORDS_ONLY = re.compile(rf"{_WORD}(?:\s*(?:,\s*(?:and\s+)?|\s+and\s+|&\s*){_WORD})+[.\s]*\Z")


class Reference(msgspec.Struct, frozen=True):
    """An issue named as a dependency.

    Attributes:
        id: As written, without `#`.
        line: The line of the body, from 1.
        repository: `owner/repo` if one was written, else None: the issue's own.
    """

    id: str
    line: int
    repository: str | None = None

    def shown(self) -> str:
        """As one would write it: `#3`, `owner/repo#3`."""
        return f"{self.repository or ''}#{self.id}"


class Declared(msgspec.Struct, frozen=True):
    """What a body says.

    Attributes:
        references: Each once, in order of their first mention.
        unread: Line and text (at most 100 characters) of items under a Dependencies heading that
            name no issue.
    """

    references: tuple[Reference, ...]
    unread: tuple[tuple[int, str], ...]


def read_body(body: str, *, words: bool) -> Declared:
    """The dependencies that a Markdown text declares.

    Args:
        body: Markdown.
        words: Whether ids may be words (`#parser`, and `- parser` under a Dependencies heading),
            as in a folder of Markdown issues; on GitHub they are numbers.
    """
    found: dict[tuple[str, str], Reference] = {}
    unread: list[tuple[int, str]] = []
    reader = _Reader(_NAMED if words else _NUMBERED, words=words)
    for reference in reader.read(body, unread):
        found.setdefault(((reference.repository or "").casefold(), reference.id), reference)
    return Declared(tuple(found.values()), tuple(unread))


def first_title(body: str) -> str | None:
    """The text of the first heading of level 1, if there is one."""
    for block in blocks(body):
        if block.kind == "heading" and block.level == 1 and block.written.strip():
            return block.written
    return None


class _Reader:
    """Goes through the blocks; knows whether they stand under a heading or phrase that counts."""

    def __init__(self, reference: re.Pattern[str], *, words: bool) -> None:
        self.reference = reference
        self.words = words

    def read(self, body: str, unread: list[tuple[int, str]]) -> Iterator[Reference]:
        section = False  # under a Dependencies heading
        list_above: int | None = None  # after "Depends on:", the list level that said so
        for block in blocks(body):
            item = block.kind == "item"
            listed = item and list_above is not None and block.level > list_above
            found = list(_located(block, self._sentences(block)))
            if block.kind == "heading":
                section = _is_section(block.text)
            elif section and not found:
                found = self._entry(block)
                if not found and item and block.level == 1 and not _is_none(block):
                    unread.append((block.line, " ".join(block.written.split())[:100]))
            elif listed and not found:
                start = _entry_start(block.text)
                found = list(_located(block, self._run(block.text, start, bare=False)))
            if not listed:
                list_above = block.level if _announces(block) else None
            yield from found

    def _sentences(self, block: Block) -> Iterator[re.Match[str]]:
        for phrase in _PHRASE.finditer(block.text):
            before = block.text[max(0, phrase.start() - 20) : phrase.start()]
            if _NEGATED.search(before):
                continue
            gap = _GAP.match(block.text, phrase.end())
            yield from self._run(block.text, gap.end() if gap else phrase.end(), bare=False)

    def _entry(self, block: Block) -> list[Reference]:
        """What one item or paragraph under a Dependencies heading names."""
        text = block.text
        start = _entry_start(text)
        item = block.kind == "item"
        numbers = not _NOT_NUMBERS.search(text, start)
        found = list(_located(block, self._run(text, start, bare=item or numbers, loose=numbers)))
        if found or not item or _is_none(block):
            return found
        if self.words and block.level == 1:
            found = _as_written(block, start)
        return found or [
            *_located(block, self.reference.finditer(text, start)),
            *_located(block, _URL.finditer(text, start)),
        ]

    def _run(
        self, text: str, position: int, *, bare: bool, loose: bool = False
    ) -> Iterator[re.Match[str]]:
        """References one after the other: `#3, #4 and #5`; bare ones only where they may be."""
        while match := (
            _URL.match(text, position)
            or self.reference.match(text, position)
            or (_BARE.match(text, position) if bare else None)
        ):
            yield match
            link = _LINK.match(text, match.end())
            position = link.end() if link else match.end()
            separator = _SEPARATOR.match(text, position)
            # Without a separator nothing follows: `#3#4` is no list.
            if separator is None or separator.end() == position:
                return
            position = separator.end()
            # `3 4` is two issues only where nothing else stands; `3 4-core machines` is one.
            bare = bare and (loose or bool(separator[0].strip()))


def _located(block: Block, matches: Iterable[re.Match[str]]) -> Iterator[Reference]:
    """The references that matches in a block's text mean, with their lines."""
    line, position = block.line, 0
    for match in matches:
        # Counted from the last one on: a body may hold a hundred thousand.
        line += block.text.count("\n", position, match.start(2))
        position = match.start(2)
        yield Reference(match[2], line, match[1] or None)


def _is_section(heading: str) -> bool:
    return re.sub(r"^[\W_]+|[\W_]+$", "", " ".join(heading.split())).casefold() in _HEADINGS


def _announces(block: Block) -> bool:
    """Whether the block ends in "Depends on:", so that the list after it is meant."""
    if block.kind == "heading":
        return False
    tail = block.text[-60:]
    phrases = list(_PHRASE.finditer(tail))
    return bool(phrases) and not tail[phrases[-1].end() :].strip(" :*_\n")


def _entry_start(text: str) -> int:
    """Where an entry begins, after indentation, checkbox, ornaments and a leading phrase."""
    position = len(text) - len(text.lstrip())
    for pattern in (_CHECKBOX, _ORNAMENT, _PHRASE, _GAP):
        match = pattern.match(text, position)
        position = match.end() if match else position
    return position


def _is_none(block: Block) -> bool:
    """Whether an item says that there is nothing: `none`, `N/A`, `없음`, or is empty."""
    words = block.text[_entry_start(block.text) :].split()
    return not words or words[0].strip("*_~.,;:()[]").casefold() in _NONE | {""}


def _as_written(block: Block, start: int) -> list[Reference]:
    """The first word of an item as an id; all of them where the item is nothing but a list."""
    text = block.text
    several = _WORDS_ONLY.match(text, start)
    if several:
        words = _located(block, _WORDS.finditer(text, start))
        return [word for word in words if word.id.casefold() != "and"]
    first = _WORD_ITEM.match(text, start)
    return list(_located(block, [first] if first else []))
