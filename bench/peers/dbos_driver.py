"""DBOS on SQLite: the batch is one durable workflow, a job is one step of it."""

from peers.driver import CommandDriver, program, python
from workloads import Batch


class DbosDriver(CommandDriver):
    name = "dbos"
    module = "dbos"

    def prepare(self, batch: Batch, width: int) -> None:
        batch.write()

    def command(self, batch: Batch, width: int) -> list[str]:
        return [python(), program("dbos_batch.py"), str(width)]
