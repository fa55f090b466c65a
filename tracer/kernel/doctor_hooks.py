# SPDX-License-Identifier: Apache-2.0
"""Of every program: does this kernel take it, what does another do in its place, and what is not seen?"""

from __future__ import annotations

import os
import time
from statistics import median

from tracer.kernel import rungs, trial
from tracer.kernel.findings import Report
from tracer.kernel.hooks import GPU, HOOKS, LADDERS, LEFT_OUT, REFUSING, Rung

_GETPPID_ROUNDS = 7
_GETPPID_CALLS = 20_000
_ON_LADDERS = {
    program: (ladder, rung)
    for ladder, rungs_ in LADDERS.items()
    for rung in rungs_
    for program in rung.programs
}


def syscall_hook_cost_ns(calls: int = _GETPPID_CALLS) -> float:
    """What the last-resort GPU hook adds to any system call of any process here, in ns.

    Times getppid(2) with the hook attached and without, in turns; the median of the differences.
    """

    def loop() -> float:
        began = time.perf_counter_ns()
        for _ in range(calls):
            os.getppid()
        return (time.perf_counter_ns() - began) / calls

    with trial.opened() as probes:
        probes.select({"on_sys_enter"})
        probes.load()
        differences = []
        loop()
        for _ in range(_GETPPID_ROUNDS):
            without = loop()
            link = probes.attach("on_sys_enter")
            differences.append(loop() - without)
            link.close()
    return median(differences)


def _left_out(report: Report) -> None:
    """What the probes that are loaded here have no program for."""
    shows = {hook.program: hook.shows for hook in HOOKS}
    for program, why in rungs.unseen().items():
        text = f"{shows[program]} — not seen: {why}"
        if kinds := LEFT_OUT[program].on:
            text += f"; no rule on {' or '.join(kinds)} can hold"
        if rules := LEFT_OUT[program].in_part:
            text += f", {' and '.join(rules)} less often"
        report.add("hook", program.removeprefix("on_"), "info", text)


def _tried(programs: list[str]) -> dict[str, str | None]:
    """As ``trial.usable``; those of one rung together, and all that are on none, so that one refusal costs few trials."""
    groups: dict[Rung | None, list[str]] = {}
    for program in programs:
        _, rung = _ON_LADDERS.get(program, (None, None))
        groups.setdefault(rung, []).append(program)
    found: dict[str, str | None] = {}
    for group in groups.values():
        found |= trial.usable_at_once(group)
    return found


def look_at_hooks(report: Report, *, cgroups: bool) -> None:
    """Every program but those for GPU ioctls: is it taken here, and why not. ``cgroups``: there is version 2."""
    _left_out(report)
    hooks = [hook for hook in rungs.hooks() if hook.place != "gpu"]
    if not rungs.refuses():
        hooks = [hook for hook in hooks if hook.place != "lsm"]
        why = rungs.complaint_about(LADDERS[REFUSING][0])
        report.add("hook", "lsm", "info", f"refusing what tampers with the watch — no BPF LSM: {why}")
    found = _tried([hook.program for hook in hooks])
    for hook in hooks:
        name, section = hook.program.removeprefix("on_"), "needed" if hook.needed else "hook"
        ladder, rung = _ON_LADDERS.get(hook.program, (None, None))
        taken = rungs.taken(ladder) if ladder else None
        instead = taken and hook.program not in taken.programs
        others = ", ".join(program.removeprefix("on_") for program in taken.programs) if taken else ""
        if complaint := found[hook.program]:
            # what not every kernel has, or another does in its place, is no lack
            state, text = "info" if instead else "no", f"{hook.shows} — not here: {complaint}"
            text += f"; {others} does it" if instead and others else ""
        elif hook.place in ("cgroup", "local") and not cgroups:
            state, text = "no", f"{hook.shows} — not here: there is no cgroup v2 to attach it to"
        else:
            state, text = "ok", f"{hook.shows} — {trial.sections()[hook.program]}"
            if instead and rung:
                why = f"needed: there is {others}" if others else f"attached: {rungs.complaint_about(rung)}"
                text += f", not {why}"
        report.add(section, name, state, text)


def look_at_gpu_rungs(report: Report, *, gpu: bool) -> None:
    """How GPU ioctls are seen: the rung that is taken, and why those above it are not."""
    best = rungs.taken(GPU)
    for rung in LADDERS[GPU]:
        if rung.name == best.name:
            break
        report.add("hook", "gpu ioctls", "info", f"{rung.name} — not here: {rungs.complaint_about(rung)}")
    text = f"{best.name} — {', '.join(trial.sections()[name] for name in best.programs)}"
    if best.name == LADDERS[GPU][-1].name:
        text += f", costs every process here {syscall_hook_cost_ns():.0f} ns a system call"
    else:
        text += ", costs other calls nothing"
    report.add(
        "hook", "gpu ioctls", "ok", text + (", attached" if gpu else ", not attached: there is no GPU here")
    )
