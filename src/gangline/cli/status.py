"""`gangline status`: the truth, with or without an orchestrator, in the time of a prompt.

The state file is the common case and needs no slow import. Where attempts are open and no
orchestrator lives to record how they stand, their evidence is read and its verdict said as well.
"""

from gangline.app.views import fast_state, status_view
from gangline.cli.table import prepare_output
from gangline.core.text import harmless_json
from gangline.hosts.attempt_folder import parse_json
from gangline.hosts.processes import wall_time
from gangline.store.area import AreaPaths
from gangline.store.locks import lock_is_held
from gangline.workspaces.repository import locate, workspace_folder

TYPE_CHECKING = False  # importing `typing` costs 3 ms
if TYPE_CHECKING:
    from typing import Any

    from gangline.core.batch import Batch


def show_status(area: str, *, as_json: bool) -> int:
    """Print the status of one area."""
    prepare_output()
    print(status_output(area, as_json=as_json))
    return 0


def status_output(area: str, *, as_json: bool) -> str:
    """The text of `gangline status AREA`."""
    view = view_of(area)
    if as_json:
        return _json_text(view)
    from gangline.cli.show import status_text  # noqa: PLC0415 - not for --json

    return status_text(view, now=wall_time())


def _json_text(view: "dict[str, Any]") -> str:
    """JSON with an issue a line: it can be read, and is made in a quarter of the time of `indent`.

    The issues are the last key.
    """
    import json  # noqa: PLC0415 - 5 ms, with the `re` it brings

    issues = [json.dumps(issue, ensure_ascii=False) for issue in view["issues"]]
    head = json.dumps({**view, "issues": []}, ensure_ascii=False, indent=2)
    assert head.endswith("[]\n}")
    lines = ",\n    ".join(issues)
    return harmless_json(f"{head[:-4]}[\n    {lines}\n  ]\n}}" if issues else head)


def view_of(area: str) -> "dict[str, Any]":
    """The view of an area (app/views.py).

    Raises:
        UsageError: there is no such batch.
        StateError: the state cannot be read.
    """
    paths = AreaPaths(workspace_folder(locate(".")), area)
    state = fast_state(paths) if _plain(area) else None
    if state is None:
        from gangline.app.truth import folded_state  # noqa: PLC0415 - msgspec takes 20 ms

        state = folded_state(area)
    alive = lock_is_held(paths.orchestrator_lock)
    view = status_view(state, paths, alive=alive)
    if not alive and view["counts"]["dispatched"]:
        from gangline.app.truth import add_evidence  # noqa: PLC0415 - same

        add_evidence(view, area)
    return view


def view_of_batch(batch: "Batch") -> "dict[str, Any]":
    """The view of a batch that this process has in memory and orchestrates no more."""
    from gangline.core.codec import StateEncoder  # noqa: PLC0415 - msgspec takes 20 ms

    batch.changed.update(batch.issues)
    paths = AreaPaths(workspace_folder(locate(".")), batch.area)
    return status_view(parse_json(StateEncoder(batch).encode()), paths, alive=False)


def _plain(area: str) -> bool:
    """Whether the name is surely no path; the slow way checks it properly and explains."""
    return area.replace("-", "").replace("_", "").isalnum()
