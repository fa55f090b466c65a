# SPDX-License-Identifier: Apache-2.0
"""Run one scenario under real probes."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from tracer.alerts import Alert
from tracer.engine.engine import Engine
from tracer.errors import VigilesError
from tracer.footholds.places import HOME
from tracer.footholds.records import FootholdRecords
from tracer.footholds.watcher import Footholds
from tracer.gpu.devices import stand_in
from tracer.kernel import cgroup
from tracer.kernel.probes import ProbeOptions, Probes
from tracer.launch import Command, user_named
from tracer.record.files import PartFiles
from tracer.record.open import begin
from tracer.record.player import Player
from tracer.record.reader import in_order
from tracer.record.writer import WriteOptions
from tracer.rules import RuleSet
from tracer.scenario.services import Services, expand, tail
from tracer.scenario.spec import INSIDE, Scenario
from tracer.scenario.verdict import BROKEN, SKIPPED, Flag, Result, judge
from tracer.scenario.world import World
from tracer.teller import Guard
from tracer.text import decode
from tracer.watch import Watch

#: What an agent does with a tool call.
_AGENT = "import subprocess, sys; sys.exit(subprocess.run(['bash', '-euc', sys.argv[1]]).returncode)"
_PREFIX = "vigiles-scenario-"
#: How long an attack that has been stopped may go on trying.
_AFTERMATH_S = 1.0
_OURS = re.compile(rf"{_PREFIX}(?P<pid>\d+)-(?P<start>\d+)-\w+")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class _Alerts:
    """A sink that keeps them."""

    def __init__(self) -> None:
        self.target, self.failed = "scenario", 0
        self.flags: list[Flag] = []

    def tell(self, alert: Alert) -> None:
        program = alert.program
        self.flags.append(
            Flag(
                alert.rule.id,
                alert.severity,
                alert.latency_us,
                program.pid if program else None,
                decode(program.exe) if program else None,
                alert.evidence,
                alert.response.action,
                alert.response.error,
                (alert.response.effect_ns - alert.hook_ns) / 1000 if alert.response.effect_ns else None,
                0 < alert.response.effect_ns < alert.engine_ns,
            )
        )

    def close(self) -> None:
        pass


def environment(scenario: Scenario) -> dict[str, str]:
    """What does not depend on the run; nothing of the caller's environment but where programs are."""
    corpus = scenario.corpus
    path = [str(corpus / "services"), *os.environ.get("PATH", "").split(":"), *_SYSTEM_PATH.split(":")]
    return {
        "PATH": ":".join(dict.fromkeys(filter(None, path))),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PYTHON": sys.executable,
        "CORPUS": str(corpus),
        "NODE_PATH": os.environ.get("NODE_PATH") or str(corpus / "node_modules"),
    }


def lacking(scenario: Scenario) -> list[str]:
    """What of ``needs`` is not on this machine."""
    variables = environment(scenario)

    def is_there(need: str) -> bool:
        kind, _, name = need.rpartition(":")
        if kind == "python":
            return importlib.util.find_spec(name.partition(".")[0]) is not None
        if kind == "node":
            test = ["node", "-e", "require.resolve(process.argv[1])", name]
            node = shutil.which("node", path=variables["PATH"])
            if node is None:
                return False
            return not subprocess.run(test, env=variables, capture_output=True, check=False).returncode
        if kind == "file":
            return os.path.exists(expand(name, variables))
        return shutil.which(name, path=variables["PATH"]) is not None

    return [need for need in scenario.needs if not is_there(need)]


def run(scenario: Scenario, rules: RuleSet, *, keep: bool = False, enforce: bool = False) -> Result:
    """Act it out and judge it. ``keep``: its files are not removed; the result says where they are.

    ``enforce``: what rules call for is done. An attack then need not come to its end.
    """
    if missing := lacking(scenario):
        return Result(scenario, SKIPPED, f"not installed: {', '.join(missing)}")
    cgroup.remove_stale()
    _remove_stale()
    folder = _make_folder(keep)
    result = Result(scenario, BROKEN, folder=str(folder) if keep else None, enforced=enforce)
    try:
        with ExitStack() as stack:
            _act(stack, folder, rules, result)
    except VigilesError as error:
        result.reason = error.message
        result.output = error.hint or ""
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return result


def _act(stack: ExitStack, folder: Path, rules: RuleSet, result: Result) -> None:
    scenario = result.scenario
    world = stack.enter_context(World(folder, scenario.hosts, scenario.names))
    variables = environment(scenario) | world.variables() | {"SCRATCH": str(folder), "HOME": _home()}
    services = stack.enter_context(Services(world, folder, variables | {"PYTHONPATH": _import_path()}))
    for service in scenario.services:
        services.start(service)
    log = folder / "output.log"
    identity = user_named(scenario.user) if scenario.user else None
    if identity is not None:
        os.chown(folder, identity.uid, identity.gid)

    def enter() -> None:
        """In the child: the host's network and files, our folder, its own output and environment."""
        world.enter(INSIDE)
        os.chdir(folder)
        for number, path, flags in ((0, "/dev/null", os.O_RDONLY), (1, str(log), os.O_WRONLY | os.O_CREAT)):
            fd = os.open(path, flags, 0o644)
            os.dup2(fd, number)
            if fd > 2:
                os.close(fd)
        os.dup2(1, 2)
        os.environ.clear()
        os.environ.update(variables, USER="root", LOGNAME="root", SHELL="/bin/sh")

    with world.children_on(INSIDE):
        command = Command(_argv(scenario, folder), identity, enter)
    stack.callback(command.close)
    alerts = _Alerts()
    _watch(stack, folder, command, world.home(INSIDE), rules, alerts, result)
    result.flags = alerts.flags
    thwarted = result.enforced and scenario.kind == "malicious"
    if result.reason:
        pass
    elif result.status != scenario.status and not thwarted:
        result.reason = f"the script ended with status {result.status}"
    elif result.lost:
        result.reason = f"{result.lost} records were lost"
    elif result.replayed_otherwise:
        result.reason = f"its recording does not give the same alerts: {result.replayed_otherwise}"
    else:
        judge(result)
    result.output = tail(log)


def _watch(
    stack: ExitStack,
    folder: Path,
    command: Command,
    home: Path,
    rules: RuleSet,
    alerts: _Alerts,
    result: Result,
) -> None:
    """Let the command go and watch until it has ended and its tree is empty, or time is up."""
    scenario = result.scenario
    if scenario.gpu_users is not None:
        rules = rules.under(replace(rules.terms, gpu_users=scenario.gpu_users))
    tree = cgroup.TreeCgroup.create()
    stack.callback(tree.remove, 2.0)
    stack.callback(_kill, tree)
    if scenario.thresholds:
        rules = rules.measured_by(scenario.thresholds)
    devices = tuple(stand_in(text) for text in scenario.gpu_devices)
    probes = Probes(ProbeOptions(devices=devices, own_cgroup=tree.path, rules=rules))
    stack.callback(probes.close)
    tree.add(command.pid)
    probes.attach_kernel()
    probes.attach_cgroup(tree.path)
    probes.track(command.pidfd)
    engine = Engine(rules)
    engine.warm()
    files = PartFiles(folder / "recording")
    stack.callback(files.close)
    recorder = begin(files, WriteOptions(), engine, tree.path.name, probes, enforces=lambda: result.enforced)
    stack.callback(recorder.close)
    guard = Guard(enforce=result.enforced, cgroup=tree.path)
    # its home is among our files, as whoever watches sees it; the system's own folders are the host's
    footholds = Footholds([(home, HOME)])
    stack.callback(footholds.close)
    watch = Watch(
        probes,
        engine,
        [alerts, recorder],
        tree=tree.path.name,
        recorder=recorder,
        guard=guard,
        duties=[FootholdRecords(footholds, engine)],
    )
    stack.callback(watch.close)
    watch.repair()
    began = time.monotonic()
    watch.wait_for(command.pidfd)
    command.release()
    stopped_at = None
    while command.poll() is None:
        watch.step()
        if stopped_at is None and any(flag.action != "none" for flag in alerts.flags):
            stopped_at = time.monotonic()
        if stopped_at is not None and time.monotonic() > stopped_at + _AFTERMATH_S:
            break
        if time.monotonic() > began + scenario.timeout:
            result.reason = f"it did not end within {scenario.timeout:g} s"
            break
    watch.stop_waiting_for(command.pidfd)
    ended = time.monotonic()
    while time.monotonic() < ended + scenario.settle and not watch.tree_is_empty():
        watch.step()
    _kill(tree)
    watch.repair()
    result.status = command.wait()
    summary = watch.finish()
    result.lost = summary.lost_total
    result.duration_s = time.monotonic() - began
    result.replayed_otherwise = replayed_otherwise(files.path, rules)


def replayed_otherwise(recording: Path, rules: RuleSet) -> str:
    """What is the first alert that a replay does not give as it was told; empty: it gives them all."""
    (parts,) = in_order([recording])
    player = Player(parts, rules)
    told = deque(player.played.alerts_then)
    for alert in player.alerts():
        now, then = alert.to_json(), told.popleft() if told else None
        if now != then:
            differs = [key for key in now if then is None or now[key] != then[key]]
            return f"{alert.rule.id} of pid {now['pid']} ({', '.join(differs)})"
    return f"{told[0]['rule']} of pid {told[0]['pid']} is missing" if told else ""


def _kill(tree: cgroup.TreeCgroup) -> None:
    with suppress(OSError):
        (tree.path / "cgroup.kill").write_text("1")


def _argv(scenario: Scenario, folder: Path) -> list[str]:
    if scenario.launcher == "agent":
        return [sys.executable, "-I", "-c", _AGENT, scenario.script]
    script = folder / "script"
    script.write_text(scenario.script)
    return ["sh", "-eu", str(script)]


def _make_folder(keep: bool) -> Path:
    """A folder of our own; its name says whose it is, unless it is to stay."""
    whose = "kept-" if keep else f"{os.getpid()}-{cgroup.process_start_ticks(os.getpid())}-"
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{whose}"))


def _remove_stale() -> None:
    """Remove the folders of runs that were killed: all that can be left of them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        found = _OURS.fullmatch(folder.name)
        if found is None or cgroup.process_start_ticks(int(found["pid"])) == int(found["start"]):
            continue
        if folder.lstat().st_uid == os.geteuid():
            shutil.rmtree(folder, ignore_errors=True)


def _home() -> str:
    return os.path.expanduser("~root")


def _import_path() -> str:
    """Where helpers find this very package."""
    return str(Path(__file__).resolve().parents[2])
