"""The table of planted bugs: each a mistake that other orchestrators really made, or nearly we.

`caught_by` names the part of the proofs that has to find it: the model checker, the simulation (its
power losses too) or the hostile world on real tmux. The gauntlet of system calls would find most of
them as well, and takes an hour.
"""

from gauntlet.planted import Planted

MODEL = "tests/prove/test_model_checking.py -k every_reachable"
SIMULATION = "bench/soak.py --seed 1000000000 --until-broken 600"
HOSTILE = "tests/hostile"
PROOFS = (
    ("tests/prove/test_model_checking.py", "model"),
    ("bench/soak.py", "simulation"),
    ("tests/hostile", "hostile world"),
)

# The fold would stop at an issue that left `dispatched` by an edit; those who planted a mistake in
# the edit would have mended that first.
_FOLD_GOES_ON = (
    "core/batch.py",
    "            dispatched[key] = dispatched.pop(key)\n",
    "            if key in dispatched:\n                dispatched[key] = dispatched.pop(key)\n",
)

MUTATIONS = (
    Planted(
        "dispatched before it was recorded",
        "app/orchestrate.py",
        "                    launches += [launch] if launch else []\n",
        "                    launch and self._launcher.launch(launch)\n",
        (SIMULATION,),
    ),
    Planted(
        "the journal's fsync left out",
        "store/journal.py",
        "            write_all(fd, data)\n            os.fsync(fd)\n",
        "            write_all(fd, data)\n",
        (SIMULATION,),
    ),
    Planted(
        "the fsync of the attempts' folder left out",
        "hosts/attempts.py",
        "        sync_folder(path)\n        self._sync_root()\n\n    def _sync_root",
        "        sync_folder(path)\n\n    def _sync_root",
        (SIMULATION,),
    ),
    Planted(
        "only the journal's own folder synced, not those made above it",
        "store/journal.py",
        "_FOLDERS_DEEP = ",
        "_FOLDERS_DEEP = 1 or ",
        (SIMULATION,),
    ),
    Planted(
        "a pane id trusted without its server",
        "hosts/local.py",
        "if server and self._tmux.pane_is(pane, server, subject.mark):",
        "if server:",
        (SIMULATION, f"{HOSTILE} -k later_server"),
    ),
    Planted(
        "a pid trusted without its start time",
        "hosts/processes.py",
        "        if start_ticks(pid) != started:\n            return False\n        import _signal",
        "        import _signal",
        (f"{HOSTILE} -k being_ended",),
    ),
    Planted(
        "a probe that failed read as a death",
        "hosts/attempts.py",
        "    except OSError:\n        return Answer.UNKNOWN\n    try:\n        fcntl.flock",
        "    except OSError:\n        return Answer.NO\n    try:\n        fcntl.flock",
        (SIMULATION,),
    ),
    Planted(
        "a lock that cannot be probed decided over as if it were free",
        "core/evidence.py",
        "        case _:\n            return Verdict.UNKNOWN\n",
        "        case _:\n            return Verdict.DIED\n",
        (MODEL, SIMULATION),
    ),
    Planted(
        "a retry charged after the launch",
        "core/batch.py",
        "                if event.outcome in (Outcome.DIED, Outcome.FAILED):\n"
        "                    issue.spent += 1\n",
        "",
        (MODEL, SIMULATION),
        (
            (
                "core/batch.py",
                "                attempt.server = event.server\n",
                (
                    "                attempt.server = event.server\n"
                    "                issue.spent += 1 if attempt.number else 0\n"
                ),
            ),
        ),
    ),
    Planted(
        "an exit.json that cannot be read taken for none",
        "hosts/attempts.py",
        "        return Answer.UNKNOWN, None\n",
        "        return Answer.NO, None\n",
        (SIMULATION,),
    ),
    Planted(
        "what a dead attempt left is not looked for",
        "hosts/local.py",
        "            left = Answer.UNKNOWN\n            if living is not None:\n",
        "            left = Answer.NO\n            if living is None:\n",
        (SIMULATION,),
    ),
    Planted(
        "no retry ever charged",
        "core/batch.py",
        "                    issue.spent += 1\n",
        "                    issue.spent += 0\n",
        (MODEL, SIMULATION),
    ),
    Planted(
        "a second orchestrator let in",
        "store/locks.py",
        "            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)\n",
        (SIMULATION,),
    ),
    Planted(
        "the lock inherited by the agent",
        "hosts/runner.py",
        "        else:\n            return fd\n\n\ndef link_claim",
        "        else:\n            os.set_inheritable(fd, True)\n            return fd\n\n\n"
        "def link_claim",
        (f"{HOSTILE} -k locks_open",),
    ),
    Planted(
        "a claim that is not exclusive",
        "hosts/runner.py",
        "        os.link(own, CLAIM, src_dir_fd=attempt.fd, dst_dir_fd=attempt.fd, "
        "follow_symlinks=False)\n",
        "        os.rename(own, CLAIM, src_dir_fd=attempt.fd, dst_dir_fd=attempt.fd)\n"
        "        os.link(CLAIM, own, src_dir_fd=attempt.fd, dst_dir_fd=attempt.fd)\n",
        (SIMULATION,),
    ),
    Planted(
        "a survivor not reaped",
        "core/reconcile.py",
        "or seen.survivors is Answer.NO:\n        ruling = rule_on_death",
        "or seen.survivors is not Answer.UNKNOWN:\n        ruling = rule_on_death",
        (MODEL, SIMULATION),
    ),
    Planted(
        "a torn tail appended to",
        "store/journal.py",
        "            os.ftruncate(fd, self._end)\n            if found.heal:",
        "            if found.heal:",
        (SIMULATION,),
    ),
    Planted(
        "a stale signal believed",
        "app/launching.py",
        "        self._put_away_signal(key, previous)\n        moment.record(",
        "        moment.record(",
        (SIMULATION,),
    ),
    Planted(
        "evidence read from its end",
        "hosts/attempts.py",
        "        folder = self.path(subject.attempt_id)\n        claim, runner",
        "        folder = self.path(subject.attempt_id)\n"
        '        early = _read_exit(f"{folder}/{EXIT}")\n'
        '        began = _exists(f"{folder}/{STARTING}")\n        claim, runner',
        (MODEL,),
        (
            (
                "hosts/attempts.py",
                '        starting = _exists(f"{folder}/{STARTING}")\n',
                "        starting = began\n",
            ),
            (
                "hosts/attempts.py",
                '        has_exit, record = _read_exit(f"{folder}/{EXIT}")\n',
                "        has_exit, record = early\n",
            ),
        ),
    ),
    Planted(
        "a status set while the attempt lives",
        "core/edit.py",
        "        if before is Status.DISPATCHED:\n            wishes[key] = _WISHES[status]\n",
        "        if before is Status.DISPATCHED:\n            statuses[key] = status\n",
        (SIMULATION,),
        (_FOLD_GOES_ON,),
    ),
    Planted(
        "a lagging state file read as an edit",
        "store/edits.py",
        "    return fold_at(journal, seq)\n",
        "    return newest\n",
        (SIMULATION,),
        (
            ("store/edits.py", "    if digest_matches(data):\n", "    if False:\n"),
            ("store/batches.py", "        if not state or", "        if True or not state or"),
        ),
    ),
    Planted(
        "a state edited at an old number taken as it is",
        "core/edit.py",
        "        _check_conflicts(newest, edit, base)\n",
        "        pass\n",
        (SIMULATION,),
        (_FOLD_GOES_ON,),
    ),
    Planted(
        "an attempt's number used again after the journal was lost",
        "app/launching.py",
        ', self._numbers.get(f"{batch.batch_id}-{key}", -1)\n',
        ", -1\n",
        (SIMULATION,),
    ),
    Planted(
        "an attempt's number used again",
        "app/launching.py",
        "        number = 1 + max(\n",
        "        number = 0 * max(\n",
        (SIMULATION,),
    ),
    Planted(
        "a launch given up by the next cycle",
        "core/reconcile.py",
        "    remaining = launch_timeout_seconds(issue) - case.seconds_since_intent()\n",
        "    remaining = 0.0\n",
        (SIMULATION,),
    ),
    Planted(
        "swallowed launches repeated for ever",
        "core/policy.py",
        "VOIDS_MAX = 3\n",
        "VOIDS_MAX = 10**9\n",
        (SIMULATION,),
    ),
    Planted(
        "the exit code of a hung-up agent read as a failure",
        "core/evidence.py",
        "_EXIT_CODES_OF_A_DEATH = frozenset({129, 143})",
        "_EXIT_CODES_OF_A_DEATH = frozenset()",
        (SIMULATION,),
    ),
    Planted(
        "what stop --kill ended is charged",
        "core/policy.py",
        "        return Ruling(Outcome.KILLED, Status.PENDING,",
        "        return Ruling(Outcome.FAILED, Status.PENDING,",
        (SIMULATION,),
    ),
    Planted(
        "the void recorded before it is linked",
        "core/reconcile.py",
        "        decision.effects.append(Void(issue.key, attempt.number))\n",
        "        decision.events.append(Voided(issue=issue.key, attempt=attempt.number, "
        "reason='', to=Status.PENDING))\n",
        (MODEL, SIMULATION),
    ),
    Planted(
        "the locks within the folder that people delete",
        "store/area.py",
        '        self.locks = os.path.join(self.root, ".locks")\n',
        '        self.locks = os.path.join(self.folder, ".locks")\n',
        (f"{HOSTILE} -k area_removed",),
    ),
    Planted(
        "an acknowledged cancel that loses to a success",
        "core/policy.py",
        "    if issue.wish is not None:\n        return Ruling(outcome, *_grant(issue, issue.wish))"
        "\n    if issue.messages and ",
        "    if issue.wish is not None and not achieved:\n"
        "        return Ruling(outcome, *_grant(issue, issue.wish))\n    if issue.messages and ",
        (SIMULATION,),
    ),
    Planted(
        "dependents started before every dependency is over",
        "core/batch.py",
        "        waiting = self.open_dependencies[key] > 0\n",
        "        waiting = self.open_dependencies[key] > 1\n",
        (MODEL, SIMULATION),
    ),
    Planted(
        "a limited attempt is charged a retry",
        "core/batch.py",
        "                if event.outcome in (Outcome.DIED, Outcome.FAILED):\n",
        "                if event.outcome in (Outcome.DIED, Outcome.FAILED, Outcome.LIMITED):\n",
        (MODEL, SIMULATION),
    ),
    Planted(
        "a parked attempt dispatched again before its limit ends",
        "core/standing.py",
        "    if left > 0 and not case.batch.is_killing:\n",
        "    if left > 3600 and not case.batch.is_killing:\n",
        (MODEL, SIMULATION),
    ),
    Planted(
        "what shares a limited account dispatched beside it",
        "core/dispatching.py",
        "if each.condition is Condition.LIMITED]",
        "if each.condition is Condition.LIMITED and not each.waits]",
        (MODEL, SIMULATION),
    ),
    Planted(
        "the batch's budget forgotten by a restart",
        "core/batch.py",
        "        self.usage = sum((a.usage for a in attempts if a.usage is not None), Usage())\n",
        "        self.usage = Usage()\n",
        (SIMULATION,),
    ),
    Planted(
        "a message given twice",
        "core/batch.py",
        "        issue.messages = issue.messages[event.messages :]\n",
        "",
        (MODEL, SIMULATION),
    ),
    Planted(
        "a message lost with a launch that never ran",
        "core/issue_fold.py",
        "    if attempt.outcome in _NEVER_TOLD:\n",
        "    if attempt.outcome in _NEVER_TOLD[1:]:\n",
        (MODEL, SIMULATION),
    ),
    Planted(
        "an agent's words that cannot be read taken for none",
        "hosts/activity.py",
        "            return Answer.UNKNOWN, None\n",
        "            return Answer.NO, None\n",
        (SIMULATION,),
    ),
)
