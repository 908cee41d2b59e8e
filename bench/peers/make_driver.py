"""GNU make: one target a job, made by running it and creating an empty file."""

import os
import time
from collections.abc import Sequence

from peers.driver import CommandDriver
from workloads import Batch


class MakeDriver(CommandDriver):
    name = "make"
    resumable = True
    programs = ("make",)

    def prepare(self, batch: Batch, width: int) -> None:
        (batch.folder / "done").mkdir()
        targets = " ".join(f"done/{name}" for name in batch.after)
        edges = "".join(
            f"done/{name}: {' '.join(f'done/{other}' for other in others)}\n"
            for name, others in batch.after.items()
        )
        rule = f"done/%:\n\t@{batch.job} $* && : >$@\n"
        (batch.folder / "Makefile").write_text(f"all: {targets}\n{edges}{rule}")

    def command(self, batch: Batch, width: int) -> list[str]:
        return ["make", f"-j{width}", "all"]

    def mark_done(self, batch: Batch, names: Sequence[str]) -> None:
        touch_all(batch, names)


def touch_all(batch: Batch, names: Sequence[str]) -> None:
    """Make done/NAME for each, all of one age, so that none is older than what it waits for."""
    (batch.folder / "done").mkdir(exist_ok=True)
    age = time.time() - 60
    for name in names:
        path = batch.folder / "done" / name
        path.touch()
        os.utime(path, (age, age))
