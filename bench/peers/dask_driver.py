"""dask.distributed: one future a job, on a cluster in one process (its fastest form here)."""

from peers.driver import CommandDriver, program, python
from workloads import Batch


class DaskDriver(CommandDriver):
    name = "dask"
    module = "distributed"

    def prepare(self, batch: Batch, width: int) -> None:
        batch.write()

    def command(self, batch: Batch, width: int) -> list[str]:
        return [python(), program("dask_batch.py"), str(width)]
