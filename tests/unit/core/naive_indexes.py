"""The batch's indexes worked out the slow way, straight from the issues: what they must equal."""

from core_builders import snapshot

from gangline.core.batch import Batch
from gangline.core.codec import decode_state
from gangline.core.graph import heights
from gangline.core.model import TERMINAL, Status


def check_indexes(batch: Batch) -> None:
    """Compare every index of the batch with its definition."""
    issues = batch.issues
    waiting = {
        key: sum(issues[other].status not in TERMINAL for other in issue.depends_on)
        for key, issue in issues.items()
    }
    assert batch.open_dependencies == waiting
    for status in Status:
        members = {key for key, issue in issues.items() if issue.status is status}
        assert set(batch.by_status[status]) == members
        assert batch.counts()[status.value] == len(members)
    assert set(batch.unblockable) == {
        key for key, i in issues.items() if i.status is Status.BLOCKED and not waiting[key]
    }
    assert set(batch.misplaced) == {
        key for key, i in issues.items() if i.status is Status.PENDING and waiting[key]
    }
    assert batch.open_count == sum(i.status not in TERMINAL for i in issues.values())
    assert batch.is_over == all(i.status in TERMINAL for i in issues.values())
    ready = {
        key
        for key, issue in issues.items()
        if issue.status is Status.PENDING and not waiting[key] and not issue.held
    }
    found = batch.ready(len(issues) + 1)
    assert set(found) == ready
    assert len(found) == len(ready)
    for count in range(len(found)):
        assert batch.ready(count) == found[:count]


def check_ready_order(batch: Batch) -> None:
    """What the most open work waits for is first, of equals the first of the source."""
    still_open = {key for key, issue in batch.issues.items() if issue.status not in TERMINAL}
    height = heights(
        {key: [d for d in batch.issues[key].depends_on if d in still_open] for key in still_open}
    )
    order = {key: place for place, key in enumerate(batch.issues)}
    found = batch.ready(len(batch.issues))
    assert found == sorted(found, key=lambda key: (-height[key], order[key]))


def check_round_trip(batch: Batch) -> None:
    """The state file holds everything: decoded, it is the same batch, byte for byte."""
    written = snapshot(batch)
    decoded = decode_state(written)
    assert snapshot(decoded) == written
    check_indexes(decoded)
    check_ready_order(decoded)
