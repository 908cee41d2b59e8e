"""What every source hands back, so that nothing after it knows which source it was."""

import msgspec

from gangline.core.model import IssueSpec


class Loaded(msgspec.Struct, frozen=True):
    """The issues of one source.

    Attributes:
        issues: In the source's order: by file name, by place in the plan, by issue number.
        warnings: One line each, for `gangline plan`; may hold untrusted text.
        description: What was read, for a person: `Markdown folder issues`, `GitHub owner/repo`.
    """

    issues: tuple[IssueSpec, ...]
    warnings: tuple[str, ...]
    description: str
