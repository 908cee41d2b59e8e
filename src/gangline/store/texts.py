"""batch.issues.json: the issues as their source gave them, titles and bodies included.

The journal keeps what decides; the texts, which may be large and never change, are beside it.
"""

from collections.abc import Sequence

import msgspec

from gangline.core.model import IssueSpec
from gangline.durable import replace_durably
from gangline.errors import StateError


def read_texts(path: str, area: str) -> dict[str, IssueSpec]:
    """The issues by key.

    Raises:
        StateError: the file is gone or broken.
    """
    try:
        with open(path, "rb") as file:
            found = msgspec.json.decode(file.read(), type=list[IssueSpec])
    except (OSError, msgspec.DecodeError) as error:
        raise StateError(
            "the issues' texts cannot be read",
            place=path,
            causes=[str(error)],
            hint=f"read them anew from the source: gangline run {area} --from SRC",
        ) from error
    return {issue.key: issue for issue in found}


def write_texts(path: str, issues: Sequence[IssueSpec]) -> None:
    """Replace the file, durably."""
    replace_durably(path, msgspec.json.encode(list(issues)))
