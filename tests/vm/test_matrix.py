# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels, as a host may have them: what can be loaded there, and does it see what happens?

In each guest ``vigiles doctor`` says what it finds, and in another of the same kind the tests marked ``guest`` are
run. All is emulated and so ten to fifty times as slow: two guests at a time, few tests, fewer in CI, and all compiled
beforehand, by the host: the engine for a processor that has nothing but what all have, while doctor, which does not
need it, is at work.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import guest
import headers
import kernels
import pytest
from conftest import IN_CI
from run import NVIDIA_MODULE

from tracer.kernel.hooks import LEFT_OUT

ROOT = Path(__file__).resolve().parents[2]
AT_A_TIME = 2
PATIENCE_S = 900
#: What Numba compiles for, here and there: what it finds out about a processor is part of its cache's key.
PROCESSOR = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
VIGILES = [sys.executable, "-c", "from tracer.cli import main; main()"]
PYTEST = [
    *(sys.executable, "-m", "pytest", "-m", "guest", "-q", "--color=no", "-p", "no:cacheprovider"),
    *("-o", f"timeout={PATIENCE_S}", "--durations=5", "--durations-min=1"),
]
MARK = "mark.guest"
REFUSING, EVERY_KIND, CGROUP_V1 = "test_refuse.py", "test_every_kind.py", "test_cgroup_v1.py"
#: What a guest is for in which bcc compiles the kernel's types; in CI only the first.
BY_BCC = ("test_plain_probes.py", "test_guard.py")
#: What a guest without BPF LSM shows in CI: all programs, the ways to see GPU ioctls that BPF LSM comes before, and who
#: is who among the clients of a driver, which the kernel that all else runs on has no modules for.
WITHOUT_LSM = (EVERY_KIND, "test_gpu_rungs.py", "test_nvidia.py")


@dataclass(frozen=True, slots=True)
class Boot:
    """One guest of the matrix."""

    series: str
    setting: guest.Setting
    loader: str = "auto"

    def __str__(self) -> str:
        if self.loader != "auto":
            return f"{self.series}-{self.loader}"
        lsm = "bpf-lsm" if self.setting.bpf_lsm else "no-bpf-lsm"
        return f"{self.series}-{lsm}-{self.setting.cgroup}"


# each value once with each kernel
MATRIX = (
    Boot("6.1", guest.Setting(bpf_lsm=True, cgroup="unified")),
    Boot("6.12", guest.Setting(bpf_lsm=True, cgroup="hybrid")),
    Boot("6.1", guest.Setting(bpf_lsm=False, cgroup="hybrid")),
    Boot("6.12", guest.Setting(bpf_lsm=False, cgroup="unified")),
)
BCC = Boot("6.1", guest.Setting(), loader="bcc")
V1 = Boot("6.1", guest.Setting(cgroup="v1"))
BOOTS = (BCC, *MATRIX, V1)  # what takes longest first

pytestmark = pytest.mark.timeout((len(BOOTS) + 1) * PATIENCE_S)
in_matrix = pytest.mark.parametrize("boot", MATRIX, ids=str)
by_bcc = pytest.mark.parametrize("boot", [BCC], ids=str)
under_v1 = pytest.mark.parametrize("boot", [V1], ids=str)


@dataclass(frozen=True, slots=True)
class Visit:
    """What came of both of a guest's commands."""

    doctor: Future[guest.Result]
    tests: Future[guest.Result]


def _compile_sources(files: Iterable[str]) -> None:
    """Guests would do so themselves, each anew: what they write is not kept. Those of tests are pytest's to compile."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for command in (
        ["compileall", "-q", "tracer"],
        ["pytest", "--collect-only", "-qq", "-m", "guest", *files],
    ):
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, check=True)


def _warm() -> None:
    """Compile the engine for the guests: they find it where root's is kept."""
    subprocess.run([*VIGILES, "warm"], cwd=ROOT, env=os.environ | PROCESSOR, check=True)


def _marked(boot: Boot) -> list[str]:
    """The files with tests for this guest: to have all of them read costs half a minute.

    What a guest with BPF LSM alone can show is shown there, the rest in the other one; one of each kind in both. What
    the two others are for is shown there alone. In CI the rest is left to the kernel that all else runs on there.
    """
    files = [*ROOT.glob("tests/kernel/test_*.py"), *ROOT.glob("tests/scenarios/test_*.py")]
    marked = {file.name: str(file.relative_to(ROOT)) for file in files if MARK in file.read_text()}
    theirs = [marked[name] for name in BY_BCC]
    corpus, v1, refusing = (marked.pop(name) for name in (BY_BCC[0], CGROUP_V1, REFUSING))
    if boot == BCC:
        return [corpus] if IN_CI else theirs
    if boot == V1:
        return [v1]
    if boot.setting.bpf_lsm:
        return [refusing, marked[EVERY_KIND]]
    return [marked[name] for name in WITHOUT_LSM] if IN_CI else sorted(marked.values())


def _run(boot: Boot, kernel: kernels.Kernel, command: list[str], stop: Event) -> guest.Result:
    # a driver that can't be built is a failure: without it what it shows would go unshown
    module = {NVIDIA_MODULE: str(headers.nvidia_module(kernel))}
    environment = {**PROCESSOR, "VIGILES_REQUIRE_ROOT": "1", "CI": str(IN_CI), **module}
    setting = replace(boot.setting, headers=headers.installed(kernel) if boot == BCC else None)
    patience = PATIENCE_S if boot != BCC else 2 * PATIENCE_S
    more = {"folder": ROOT, "environment": environment, "timeout_s": patience, "stop": stop}
    return guest.run(kernel, command, setting, **more)


def _doctor(boot: Boot, kernel: kernels.Kernel, stop: Event) -> guest.Result:
    return _run(boot, kernel, [*VIGILES, "doctor", "--loader", boot.loader], stop)


def _tests(boot: Boot, kernel: kernels.Kernel, stop: Event, compiled: Future[None]) -> guest.Result:
    compiled.result()
    return _run(boot, kernel, [*PYTEST, "--loader", boot.loader, *_marked(boot)], stop)


@pytest.fixture(scope="module")
def visits(request: pytest.FixtureRequest) -> Iterator[dict[Boot, Visit]]:
    """The guests that are asked for, two at a time."""
    wanted = {item.callspec.params["boot"] for item in request.session.items if item.path == request.path}
    stop = Event()
    try:
        guest.require()
        found = {series: kernels.find(series) for series in {boot.series for boot in wanted}}
    except kernels.UnavailableError as error:
        pytest.skip(str(error))
    _compile_sources({file for boot in wanted for file in _marked(boot)})
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        compiled = pool.submit(_warm)
        boots = [(boot, found[boot.series], stop) for boot in BOOTS if boot in wanted]
        doctors = [pool.submit(_doctor, *boot) for boot in boots]
        tests = [pool.submit(_tests, *boot, compiled) for boot in boots]
        try:
            yield {boot: Visit(*both) for (boot, _, _), *both in zip(boots, doctors, tests, strict=True)}
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


@pytest.fixture
def visit(boot: Boot, visits: dict[Boot, Visit]) -> Visit:
    return visits[boot]


def report_of(boot: Boot, visit: Visit, status: int) -> str:
    """What doctor said there, before it ended with this status."""
    result = visit.doctor.result()
    report = result.output.decode(errors="replace")
    print(f"\n== {boot}: up after {result.boot_s:.0f} s, doctor ended after {result.wall_s:.0f} s\n{report}")
    assert result.status == status
    return report


@in_matrix
def test_doctor(boot: Boot, visit: Visit):
    """Nothing is missing, and what is said of the kernel is so."""
    report = report_of(boot, visit, 0)
    assert "A watch can begin here." in report
    assert "✗" not in report
    # or the tests of what is refused would be skipped, and nobody would know
    assert ("lsm/task_kill" in report) == boot.setting.bpf_lsm
    assert f"✓ gpu ioctls     {'BPF LSM' if boot.setting.bpf_lsm else 'fentry'} — " in report
    assert f"  ✓ kernel         {boot.series}." in report
    place = "/sys/fs/cgroup/unified" if boot.setting.cgroup == "hybrid" else "/sys/fs/cgroup"
    assert f"v2 at {place}," in report


@by_bcc
def test_doctor_by_bcc(boot: Boot, visit: Visit):
    """It says how, and what is not seen; nothing else is missing."""
    report = report_of(boot, visit, 0)
    assert "✗" not in report
    assert "✓ loader         bcc: asked for; bcc 0." in report
    assert report.count("— not seen: ") == len(LEFT_OUT)


@under_v1
def test_doctor_under_cgroup_v1(boot: Boot, visit: Visit):
    """It says what is missing, what to do, and what there is."""
    report = report_of(boot, visit, 1)
    assert "✗ cgroup         cgroup v2 is not mounted; version 1 is" in report
    assert "A watch can't begin here." in report
    assert "✓ exec           execs" in report


@pytest.mark.parametrize("boot", BOOTS, ids=str)
def test_events_and_guard(boot: Boot, visit: Visit):
    """The tests that are marked ``guest`` pass there."""
    result = visit.tests.result()
    said = result.output.decode(errors="replace")
    print(f"\n== {boot}: up after {result.boot_s:.0f} s, ended after {result.wall_s:.0f} s\n{said}")
    assert result.status == 0, said
