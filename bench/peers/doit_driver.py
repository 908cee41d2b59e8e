"""doit: one task a job, run by its default, processes (its threads are no faster here)."""

from peers.driver import CommandDriver, program, python
from workloads import Batch


class DoitDriver(CommandDriver):
    name = "doit"
    module = "doit"

    def prepare(self, batch: Batch, width: int) -> None:
        batch.write()

    def command(self, batch: Batch, width: int) -> list[str]:
        folder = str(batch.folder)
        options = ["--dir", folder, "--process", str(width)]
        quiet = ["--reporter", "zero", "--verbosity", "0"]
        return [python(), "-m", "doit", "--file", program("doit_tasks.py"), *options, *quiet]
