# SPDX-License-Identifier: Apache-2.0
"""What all tests share.

Tests in ``tests/kernel``, ``tests/scenarios`` and ``tests/vm`` are marked ``root`` by their place. Without root they
are skipped; where ``CI`` or ``VIGILES_REQUIRE_ROOT`` is set to something else than ``0`` or ``false``,
such a skip is a failure, whatever its reason: a green run there means that the probes ran. The one
exception is a kernel that lacks what a test is about, to be said with :func:`kernel_lacks`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

HERE = Path(__file__).parent
ROOT_FOLDERS = (HERE / "kernel", HERE / "scenarios", HERE / "vm")
LACKING = "this kernel has no "
CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 12, 21, 38, 39

# no deadline: the first example may have to wait for Numba
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)


def switched_on(variable: str) -> bool:
    """Tell whether ``variable`` is set in the environment, and not to a word for no."""
    return os.environ.get(variable, "").lower() not in {"", "0", "false", "no"}


IN_CI = switched_on("CI")
MUST_RUN = IN_CI or switched_on("VIGILES_REQUIRE_ROOT")


def kernel_lacks(what: str) -> NoReturn:
    """Skip: the running kernel has no ``what``. Allowed everywhere."""
    pytest.skip(LACKING + what)


def why_not_root() -> str | None:
    """Return what keeps us from loading probes."""
    if os.geteuid() != 0:
        return "needs root"
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    if effective >> CAP_SYS_ADMIN & 1:
        return None
    if all(effective >> capability & 1 for capability in (CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN)):
        return None
    return "root here may not use BPF: needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--loader", default="auto", help="how probes get into the kernel: as of vigiles run")
    parser.addoption("--btf", type=Path, help="the types of this kernel: as of vigiles run")


def pytest_configure(config: pytest.Config) -> None:
    name, btf = config.getoption("--loader"), config.getoption("--btf")
    if name != "auto" or btf is not None:
        from tracer.kernel import loader

        loader.choose(name, btf)
    # a shell that runs us in the background has us ignore it, and all that we start
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    hypothesis.settings.load_profile("ci" if IN_CI else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in ROOT_FOLDERS):
            item.add_marker("root")
        if item.path.is_relative_to(HERE / "scenarios"):
            item.add_marker("scenario")
            if item.path.name != "test_corpus.py":
                item.add_marker("alone")
        if item.path.is_relative_to(HERE / "vm"):
            item.add_marker("vm")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and (reason := why_not_root()):
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if MUST_RUN and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("root"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(LACKING):
            report.outcome = "failed"
            report.longrepr = f"skipped where it must run: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped locally, and how to have none skipped."""
    if not MUST_RUN and os.geteuid() != 0 and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("The tests with real probes need root: sudo make test")


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output does not depend on the terminal of whoever runs the tests."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
