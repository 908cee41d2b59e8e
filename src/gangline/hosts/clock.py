"""The machine's own clocks."""

import time

from gangline.core.decision import Now
from gangline.hosts import processes


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self._boot_id = processes.boot_id()

    def now(self) -> Now:
        """The boot and its clock."""
        return Now(
            boot_id=self._boot_id,
            boot_seconds=processes.boot_seconds(),
            epoch_seconds=time.time(),
        )

    def wall(self) -> str:
        """UTC, ISO 8601 with milliseconds and Z."""
        return processes.wall_time()
