# SPDX-License-Identifier: Apache-2.0
"""From one run under watch to the policy that allows what it did."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.cli.options import WatchOptions
from tracer.errors import VigilesError
from tracer.newfile import NewFile
from tracer.policy.written import counted
from tracer.session.outlets import say
from tracer.session.run import identity_of, run_command
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.engine.engine import Engine
    from tracer.sinks.learner import Learner

STDOUT = "-"
#: Tables whose lack of room leaves something out of a policy.
_TABLES = (
    "process-table-full",
    "processes-forgotten",
    "image-table-full",
    "name-table-full",
    "names-forgotten",
    "strings-cut",
    "malformed",
)


def learn(
    argv: list[str],
    options: WatchOptions,
    user: str | None,
    *,
    output: str,
    force: bool,
    name: str | None,
    by_file: bool = False,
) -> int:
    """Run ``argv`` under watch and write the policy to ``output``; its exit status."""
    if output == STDOUT:
        status, learner = _run(argv, options, user)
        sys.stdout.write(_written(learner, status, name or _called(argv), by_file=by_file))
        sys.stdout.flush()
        _tell(learner, status, options, STDOUT)
        return status
    identity = identity_of(user)
    # before the run, whose watch gives up what it takes to make a file in another user's folder
    with NewFile(Path(output), group=identity.gid if identity else None, replace=force) as file:
        status, learner = _run(argv, options, user)
        file.write(_written(learner, status, name or _called(argv), by_file=by_file).encode())
        _look_at(file, options)
    _tell(learner, status, options, output)
    return status


def _run(argv: list[str], options: WatchOptions, user: str | None) -> tuple[int, Learner]:
    found: list[Learner] = []

    def observe(engine: Engine) -> Learner:
        from tracer.sinks.learner import Learner

        found.append(Learner(engine))
        return found[0]

    status = run_command(argv, options, user, observe)
    return status, found[0]


def _called(argv: list[str]) -> str:
    return os.path.basename(argv[0])


def _written(learner: Learner, status: int, name: str, *, by_file: bool) -> str:
    from tracer.policy.learn import write

    return write(learner.observed(), name, [*_faults(learner), *_gaps(learner, status)], by_file=by_file)


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


def _look_at(file: NewFile, options: WatchOptions) -> None:
    """See that what is there now can be used, and that it is there under its name."""
    from tracer.policy import load_rules_under
    from tracer.policy.parse import parse

    found = parse(file.read().decode(), str(file.path))
    if found.errors:
        raise found.errors[0]
    load_rules_under(found.policy, options.rules)
    if not file.is_in_place():
        raise VigilesError(
            f"{printable(str(file.path))} is not the file that was written",
            hint="it has been moved, or removed",
        )


def _tell(learner: Learner, status: int, options: WatchOptions, place: str) -> None:
    faults, gaps = list(_faults(learner)), list(_gaps(learner, status))
    if options.as_json:
        told = {"policy": {"file": place, "good": not faults, "complete": not gaps, "remarks": faults + gaps}}
        print(json.dumps(told, separators=(",", ":")), file=sys.stderr, flush=True)
        return
    for remark in faults + gaps:  # whoever asked for silence would rely on the file all the same
        print(f"vigiles: {printable(remark)}", file=sys.stderr, flush=True)
    if place != STDOUT:
        programs = counted(len(learner.observed().executables), "program")
        place = printable(place)
        say(options, f"{place}: what {programs} did; see: vigiles policy explain {place}")
