"""orchestrator.log: what the orchestrator saw, recorded and did, one JSON object a line.

For people who ask why. It is no source of truth: a line that cannot be written is left out, and
nothing reads it back.
"""

import os
from collections.abc import Mapping, Sequence

import msgspec

from gangline.core.events import AnyEvent, IssueEvent
from gangline.core.evidence import Evidence
from gangline.core.reconcile import Effect, Look, Start

_encode = msgspec.json.Encoder().encode


class DecisionLog:
    """Appends to the log of one area."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None

    def decided(
        self,
        at: str,
        evidence: Mapping[str, Evidence],
        events: Sequence[AnyEvent],
        effects: Sequence[Effect],
    ) -> None:
        """One pass: each event with the evidence of its issue, then what is to be done."""
        lines: list[dict[str, object]] = []
        for event in events:
            line: dict[str, object] = {"at": at, "recorded": event}
            if isinstance(event, IssueEvent) and event.issue in evidence:
                line["saw"] = evidence[event.issue]
            lines.append(line)
        for effect in effects:
            if isinstance(effect, Start) or (isinstance(effect, Look) and not effect.confirm):
                continue  # said by the intent that it becomes, or only a matter of time
            doing = {"effect": type(effect).__name__.lower(), **effect._asdict()}
            lines.append({"at": at, "doing": doing})
        self._write(lines)

    def noted(self, at: str, text: str) -> None:
        """Something that is neither."""
        self._write([{"at": at, "note": text}])

    def _write(self, lines: Sequence[Mapping[str, object]]) -> None:
        if not lines:
            return
        try:
            if self._fd is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o600)
            os.write(self._fd, b"".join(_encode(line) + b"\n" for line in lines))
        except OSError:
            return  # the disk is full, or the folder went: the journal will say so

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
