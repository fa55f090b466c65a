# SPDX-License-Identifier: Apache-2.0
"""From one run under watch to the policy that allows what it did."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.cli.options import WatchOptions
from tracer.errors import VigilesError
from tracer.newfile import NewFile
from tracer.session.base import say
from tracer.session.run import identity_of, run_command
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.engine.engine import Engine
    from tracer.policy import Policy
    from tracer.sinks.learner import Learner

STDOUT = "-"
#: Tables whose lack of room leaves something out of a policy.
_TABLES = ("process-table-full", "image-table-full", "name-table-full", "strings-cut", "malformed")


def learn(
    argv: list[str], options: WatchOptions, user: str | None, *, output: str, force: bool, name: str | None
) -> int:
    """Run ``argv`` under watch and write the policy to ``output``; its exit status."""
    if output == STDOUT:
        status, learner = _run(argv, options, user)
        sys.stdout.write(_written(learner, status, name or _called(argv)))
        sys.stdout.flush()
        _tell(learner, status, options, "standard output")
        return status
    identity = identity_of(user)
    file = NewFile(Path(output), replace=force)
    try:
        status, learner = _run(argv, options, user)
        text = _written(learner, status, name or _called(argv))
        place = file.write(text.encode(), group=identity.gid if identity else None)
    finally:
        file.close()
    _read_back(place, text, options)
    if place != file.path:
        say(options, f"somebody has made {printable(output)} meanwhile: the policy is beside it")
    _tell(learner, status, options, str(place))
    return status


def _run(argv: list[str], options: WatchOptions, user: str | None) -> tuple[int, Learner]:
    found: list[Learner] = []

    def observe(engine: Engine) -> Learner:
        from tracer.sinks.learner import Learner

        found.append(Learner(engine))
        return found[0]

    # the file is made afterwards, in a folder that may be the user's: that takes privileges
    status = run_command(argv, options, user, observe, keep_privileges=True)
    return status, found[0]


def _called(argv: list[str]) -> str:
    return os.path.basename(argv[0])


def _written(learner: Learner, status: int, name: str) -> str:
    from tracer.policy.learn import write

    return write(learner.observed(), name, [*_faults(learner), *_gaps(learner, status)])


def _faults(learner: Learner) -> Iterator[str]:
    """What the run did that a good one would not have done."""
    if learner.grave:
        rules = ", ".join(f"{count} {rule}" for rule, count in learner.grave.most_common())
        yield f"NOT A GOOD RUN: there were alerts of high or above: {rules}. What they are about is allowed below."


def _gaps(learner: Learner, status: int) -> Iterator[str]:
    """Why the run, or the view of it, may not have been all of it."""
    summary = learner.summary
    assert summary is not None
    lost = [f"{n:,} {kind}" for kind, n in summary.lost.items() if n]
    lost += [f"{n:,} {reason}" for reason, n in summary.reasons.items() if n]
    if lost:
        yield f"INCOMPLETE: records were lost ({', '.join(lost)}), and what they told is not in here."
    full = [f"{n:,} {what}" for what in _TABLES if (n := summary.tables[what])]
    if full:
        yield f"INCOMPLETE: some of what was seen could not be kept ({', '.join(full)})."
    if learner.dropped:
        more = ", ".join(f"{n:,} {what}s" for what, n in learner.dropped.items())
        yield f"INCOMPLETE: there was no room for all that was seen ({more} left out)."
    for hook, complaint in summary.missing_hooks.items():
        yield f"INCOMPLETE: {hook} was not watched: {complaint}"
    if not learner.ended:
        yield "INCOMPLETE: the watch ended before all processes had ended."
    if status:
        yield f"The command ended with status {status}: it may not have come to all that it does."


def _read_back(place: Path, text: str, options: WatchOptions) -> Policy:
    """See that it can be used, and that it is what was written."""
    from tracer.policy import load_policy, load_rules_under

    policy = load_policy(place)
    load_rules_under(policy, options.rules)
    if policy.digest != hashlib.blake2b(text.encode(), digest_size=16).hexdigest():
        raise VigilesError(f"{place} is not what was written", hint="somebody else writes there")
    return policy


def _tell(learner: Learner, status: int, options: WatchOptions, place: str) -> None:
    faults, gaps = list(_faults(learner)), list(_gaps(learner, status))
    if options.as_json:
        told = {"policy": {"file": place, "good": not faults, "complete": not gaps, "remarks": faults + gaps}}
        print(json.dumps(told, separators=(",", ":")), file=sys.stderr, flush=True)
        return
    for remark in faults + gaps:  # whoever asked for silence would rely on the file all the same
        print(f"vigiles: {printable(remark)}", file=sys.stderr, flush=True)
    if place != STDOUT:
        seen = learner.observed()
        say(
            options,
            f"{printable(place)}: what {len(seen.executables)} programs did; "
            f"see: vigiles policy explain {printable(place)}",
        )
