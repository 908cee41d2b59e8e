"""What the stub model does: told by a line in the prompt, decided from the conversation alone.

    STUB: SCENARIO [name=KEY] [file=NAME] [text=WORD] [code=N] [times=N] [reset=EPOCH] [at=STEP]
          [beside=yes]

The last such line of a conversation counts, so a resumed session is in the scenario of its first
prompt unless the new prompt says another. Scenarios:

    ok       writes `file`, commits it, says that it is done
    slow     runs a tool that waits for `release(KEY)`; then as ok
    held     its stream stands still until `release(KEY)`; then as ok
    error    answers `code` (401, 429, 500, 529; 0 hangs up without an answer), `times` times
             (default: for ever, or until `release(KEY)`); then as ok
    limit    the usage limit until `reset`, until `release(KEY)`; then as ok
    cut      drops the connection in the middle of a reply, `times` times (default 1); then as ok
    ask      asks a question with `gangline ask` and ends its turn; the next prompt is the answer
    fail     says `gangline fail`
    done     as ok, and says `gangline done`
    nothing  says that it is done and has done nothing

`at` is the number of the step before which an error, limit or cut comes (default 0: at once).
With `beside` each call of a tool has a second one beside it, in the same turn.

Which step is next is read from the results in the conversation: each command ends with a word that
only its output has. A step that was tried and failed since the last prompt makes the model give up;
one that was tried before it (the agent was killed in it) is done again.
"""

import re
import shlex
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stub_conversation import (
    SHELL_TOOLS,
    WRITE_TOOLS,
    Call,
    Refusal,
    Reply,
    Request,
    Tool,
    Turn,
    Usage,
)

_DIRECTIVE = re.compile(r"STUB: ([a-z]+)((?: [a-z]+=[^\s\"\\]+)*)")
_FOR_EVER = 1_000_000
_BESIDE = 99  # the number of no step
# Codex gives what a command has said so far, and an id under which to ask for the rest.
_STILL_RUNS = re.compile(r"running with session ID (\d+)")


@dataclass(frozen=True)
class Directive:
    """What the last STUB line of a conversation says."""

    scenario: str
    options: dict[str, str]

    @property
    def key(self) -> str:
        """The conversation's name in control calls."""
        return self.options.get("name", Path(self.file).stem)

    @property
    def file(self) -> str:
        """The file that is written and committed."""
        return self.options.get("file", "greeting.txt")

    def number(self, name: str, default: int) -> int:
        return int(self.options.get(name, default))


@dataclass(frozen=True)
class Step:
    """One thing the model does.

    `shell` runs a command, `write` uses the agent's own tool for files where it has one, `wait`
    ends the turn and is done when a new prompt has come.
    """

    kind: Literal["shell", "write", "wait"]
    said: str
    command: str = ""


def find_directive(turns: tuple[Turn, ...]) -> Directive | None:
    """The last STUB line that a person wrote in this conversation."""
    for turn in reversed(turns):
        if turn.kind == "user" and (found := _DIRECTIVE.findall(turn.text)):
            scenario, options = found[-1]
            return Directive(scenario, dict(pair.split("=", 1) for pair in options.split()))
    return None


class Model:
    """The stub model. Its memory is only what a service's would be: counts and what was let go.

    Args:
        gates: A folder through which waiting tools are let go.
    """

    def __init__(self, gates: Path) -> None:
        self.gates = gates
        gates.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Condition()
        self._released: set[str] = set()
        self._refused: Counter[str] = Counter()
        self._calls = 0
        self.default = Directive("nothing", {})  # for conversations without a STUB line

    # -- control ---------------------------------------------------------------------------

    def release(self, key: str) -> None:
        """Let go what waits under this key: a tool, a stream, a usage limit."""
        with self._lock:
            self._released.add(key)
            (self.gates / key).touch()
            self._lock.notify_all()

    def release_all(self) -> None:
        """Let go everything that waits now or later."""
        self.release("*")
        for waiting in self.gates.glob("*.waiting"):
            waiting.with_suffix("").touch()

    def is_released(self, key: str) -> bool:
        with self._lock:
            return bool(self._released & {key, "*"})

    def wait(self, key: str) -> None:
        """Stand still until the key is released."""
        with self._lock:
            self._lock.wait_for(lambda: self._released & {key, "*"})

    def waiting_tool(self, key: str) -> int | None:
        """The process id of the shell that waits in this conversation's tool, once it does."""
        try:
            return int((self.gates / f"{key}.waiting").read_text())
        except (OSError, ValueError):
            return None

    # -- the next turn ---------------------------------------------------------------------

    def answer(self, request: Request) -> Reply | Refusal:
        """The next turn of a conversation."""
        directive = find_directive(request.turns) or self.default
        steps = self._steps(directive)
        step = _next_step(steps, request.turns)
        if (refusal := self._refusal(directive, step, request)) is not None:
            return refusal
        shell = request.tool(SHELL_TOOLS)
        if shell is None:
            return self._answer_without_tools(directive, request)
        if step is None:
            reply = Reply(f"Done: {directive.file} is committed.")
        elif (poll := self._poll(step, request)) is not None:
            reply = Reply("It is still running.", (poll,))
        elif _was_tried(step, request.turns):
            reply = Reply(f"I could not do it: step {step} did not succeed. I stop here.")
        elif steps[step].kind == "wait":
            reply = Reply(steps[step].said)
        else:
            calls = [self._call(step, steps[step], directive, request)]
            if "beside" in directive.options:
                calls.append(_shell_call(self._call_id(_BESIDE), shell, "ls", "I look around."))
            reply = Reply(steps[step].said, tuple(calls))
        return self._with_faults(reply, directive, step)

    def _refusal(self, directive: Directive, step: int | None, request: Request) -> Refusal | None:
        if step is None or step < directive.number("at", 0):
            return None
        key = directive.key
        if directive.scenario == "limit" and not self.is_released(key):
            return Refusal(429, limit_reset=directive.number("reset", 0))
        if directive.scenario == "error" and not self.is_released(key):
            times = directive.number("times", _FOR_EVER)
            if self._count(f"error {key}", times, request):
                return Refusal(directive.number("code", 500))
        return None

    def _count(self, what: str, times: int, request: Request | None = None) -> bool:
        """Whether it is still one of the first `times`; titles and the like do not count."""
        with self._lock:
            if self._refused[what] >= times:
                return False
            if request is None or request.is_work:
                self._refused[what] += 1
            return True

    def _with_faults(self, reply: Reply, directive: Directive, step: int | None) -> Reply:
        if step is None or step < directive.number("at", 0):
            return reply
        if directive.scenario == "held" and not self.is_released(directive.key):
            return Reply(reply.text, reply.calls, hold=directive.key)
        if directive.scenario == "cut" and self._count(
            f"cut {directive.key}", directive.number("times", 1)
        ):
            return Reply(reply.text, reply.calls, cut=True)
        return reply

    def _answer_without_tools(self, directive: Directive, request: Request) -> Reply:
        """A title, a summary or a commit message; Aider edits without tools."""
        if request.tools:
            return Reply("I have no tool for this. I stop here.")
        if not request.is_work:
            return Reply("Add a file", usage=Usage(100, 0, 3))
        if directive.scenario == "nothing":
            return Reply("Done: nothing had to be changed.")
        block = f"<<<<<<< SEARCH\n=======\n{_content(directive)}\n>>>>>>> REPLACE"
        reply = Reply(f"I write the file.\n\n{directive.file}\n```\n{block}\n```\n")
        return self._with_faults(reply, directive, 0)

    # -- steps -----------------------------------------------------------------------------

    def _steps(self, directive: Directive) -> list[Step]:
        file = shlex.quote(directive.file)
        work = [
            Step("write", f"I write {directive.file}."),
            Step(
                "shell",
                "Now I commit it.",
                f"git add -- {file} && git commit --quiet --message 'Add {directive.file}'",
            ),
        ]
        match directive.scenario:
            case "nothing":
                return []
            case "slow":
                return [Step("shell", "This takes a while.", self._waiting(directive.key)), *work]
            case "ask":
                question = Step(
                    "shell", "I have to ask.", "gangline ask 'Which colour shall it be?'"
                )
                return [question, Step("wait", "I asked which colour it shall be."), *work]
            case "fail":
                return [Step("shell", "It cannot be done.", "gangline fail 'The plan is wrong.'")]
            case "done":
                return [*work, Step("shell", "I say that it is done.", "gangline done")]
            case _:
                return work

    def _waiting(self, key: str) -> str:
        gate = shlex.quote(str(self.gates / key))
        return (
            f"echo $$ > {gate}.part && mv {gate}.part {gate}.waiting; "
            f"while [ -e {gate}.waiting ] && ! [ -e {gate} ]; do sleep 0.05; done"
        )

    def _call_id(self, number: int) -> str:
        with self._lock:
            self._calls += 1
            return f"stub_{number}_{self._calls}"

    def _poll(self, step: int, request: Request) -> Call | None:
        """Wait on for a command that the agent has put into the background."""
        last = request.turns[-1] if request.turns else None
        tool = request.tool(("write_stdin",))
        if last is None or last.kind != "result" or last.step != step or tool is None:
            return None
        found = _STILL_RUNS.search(last.text)
        if found is None:
            return None
        arguments = {"session_id": int(found[1]), "chars": "", "yield_time_ms": 300_000}
        return Call(self._call_id(step), tool, arguments)

    def _call(self, number: int, step: Step, directive: Directive, request: Request) -> Call:
        call_id = self._call_id(number)
        folder = request.working_folder
        tool = request.tool(WRITE_TOOLS)
        if step.kind == "write" and tool is not None and folder is not None:
            return _write_call(call_id, tool, f"{folder}/{directive.file}", directive)
        command = step.command or (
            f"printf '%s\\n' {shlex.quote(_content(directive))} > {shlex.quote(directive.file)}"
        )
        shell = request.tool(SHELL_TOOLS)
        assert shell is not None  # asked by answer()
        return _shell_call(call_id, shell, f"{command} && echo ste''p-{number}-is-done", step.said)


def _content(directive: Directive) -> str:
    return directive.options.get("text", "Hello.")


def _next_step(steps: list[Step], turns: tuple[Turn, ...]) -> int | None:
    """The first step that is not done; None after the last."""
    prompts = [place for place, turn in enumerate(turns) if turn.is_prompt]
    for number, step in enumerate(steps):
        if step.kind == "wait":
            asked = [place for place, turn in enumerate(turns) if turn.step == number - 1]
            if asked and prompts and prompts[-1] > asked[-1]:
                continue
            return number
        results = [turn for turn in turns if turn.kind == "result" and turn.step == number]
        if not any(_is_done(number, step, result) for result in results):
            return number
    return None


def _is_done(number: int, step: Step, result: Turn) -> bool:
    # The agents' own tools for files say in many words that they wrote; a failure is marked.
    written = step.kind == "write" and not result.failed and "-is-done" not in result.text
    return written or f"step-{number}-is-done" in result.text


def _was_tried(step: int, turns: tuple[Turn, ...]) -> bool:
    """Whether the step has a result that came after the last prompt."""
    for turn in reversed(turns):
        if turn.kind == "result" and turn.step == step:
            return True
        if turn.is_prompt:
            return False
    return False


def _write_call(call_id: str, tool: Tool, path: str, directive: Directive) -> Call:
    content = f"{_content(directive)}\n"
    if tool.name == "apply_patch":
        added = f"*** Add File: {directive.file}\n+{_content(directive)}"
        patch = f"*** Begin Patch\n{added}\n*** End Patch\n"
        return Call(call_id, tool, {"input": patch}, patch)
    name = "filePath" if "filePath" in tool.parameters else "file_path"
    return Call(call_id, tool, {name: path, "content": content})


def _shell_call(call_id: str, tool: Tool, command: str, said: str) -> Call:
    if tool.name == "exec_command":
        # Codex gives a running command's output so far; this long it waits for the end.
        return Call(call_id, tool, {"cmd": command, "yield_time_ms": 600_000})
    if tool.name == "shell":
        return Call(call_id, tool, {"command": ["bash", "-c", command], "timeout_ms": 600_000})
    arguments: dict[str, object] = {"command": command}
    if "description" in tool.parameters:
        arguments["description"] = said
    if "is_background" in tool.parameters:
        arguments["is_background"] = False
    for name in ("timeout", "timeout_ms"):
        if name in tool.parameters:
            arguments[name] = 600_000
    return Call(call_id, tool, arguments)
