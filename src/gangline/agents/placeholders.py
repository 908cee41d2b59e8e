"""The `{name}` placeholders of what a person writes about agents in gangline.toml.

They are read in one way only, here, wherever they stand: in an agent's argv, in the prompt, in the
name of a branch. What stands behind them is text of issues, so it is never read again.
"""

import re
from collections.abc import Iterable, Mapping

from gangline.errors import ConfigError

_PLACEHOLDER = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}")  # ${NAME} is the shell's


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like `word`, if one is like enough to be what was meant."""
    import difflib  # noqa: PLC0415 - only on the way to an error; costs start-up

    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


def clean_text(text: str) -> str:
    """Text that an argument and a UTF-8 file can hold: without NUL and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace the placeholders of `text` in one pass, so that what a value holds stays as it is.

    Other braces, `{}` or JSON, and the shell's `${NAME}` are not placeholders.
    """
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


def placeholders_of(text: str) -> list[str]:
    """The names that stand in `text` as `{name}`, known or not, in order."""
    return _PLACEHOLDER.findall(text)


def check_placeholders(text: str, known: Iterable[str], place: str) -> None:
    """Refuse a `{name}` that nothing will replace.

    Args:
        text: What a person wrote.
        known: The names that will be replaced.
        place: The key path it stands at.

    Raises:
        ConfigError: at `place`, with the name that was probably meant.
    """
    names = list(known)
    for name in placeholders_of(text):
        if name not in names:
            meant = did_you_mean(name, names)
            known_text = " ".join(f"{{{other}}}" for other in names)
            raise ConfigError(
                f"{{{name}}} is not a placeholder",
                place=place,
                causes=[f"placeholders here: {known_text}"],
                hint=f"did you mean {{{meant}}}?"
                if meant
                else f"write {{ {name} }}, with spaces, if the text itself is meant",
            )
