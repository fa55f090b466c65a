# SPDX-License-Identifier: Apache-2.0
"""Helpers of a scenario: programs on its hosts, outside of the watched tree."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tracer.errors import VigilesError
from tracer.scenario.spec import Service
from tracer.scenario.world import World

PATIENCE_S = 15.0
POLL_S = 0.01
LOG_LINES = 12


class Services:
    """Started one after the other, each when the one before is ready; all killed at the end."""

    def __init__(self, world: World, folder: Path, environment: Mapping[str, str]) -> None:
        self._world = world
        self._folder = folder
        self._environment = dict(environment)
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, service: Service) -> None:
        """Start one and wait until it is ready."""
        log = self._folder / f"service-{len(self._running) + 1}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                # entering a mount namespace leads to its root
                self._world.command(service.host, "sh", "-c", f"cd {self._folder}\n{service.run}"),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        self._running.append(process)
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_ready(service, log):
            # one that went to the background may yet become ready
            if process.poll() and not self._is_ready(service, log):
                raise _failure(service, f"ended with status {process.returncode}", log)
            if time.monotonic() > deadline:
                raise _failure(service, f"is not ready after {PATIENCE_S:.0f} s ({service.ready})", log)
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Kill what still runs. What has left its process group ends with its host."""
        for process in reversed(self._running):
            if process.poll() is None:
                _kill(process.pid)
            process.wait()
        self._running.clear()

    def _is_ready(self, service: Service, log: Path) -> bool:
        if service.ready is None:
            return True
        what, _, sign = service.ready.partition(":")
        if what == "line":
            return sign.encode() in log.read_bytes()
        if what == "file":
            return (self._folder / expand(sign, self._environment)).exists()
        return self._world.listens(service.host, what, int(sign))


def _kill(entering: int) -> None:
    """End what ``nsenter`` has started on a host, and with it nsenter.

    In this order: what is left without nsenter is this host's to reap, and a host cannot end before that.
    """
    try:
        started = [int(pid) for pid in Path(f"/proc/{entering}/task/{entering}/children").read_text().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        started = []
    with suppress(ProcessLookupError):
        for pid in started:
            os.kill(pid, signal.SIGKILL)
        if not started:
            os.killpg(entering, signal.SIGKILL)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $NAME by its value; longest names first, so that $OUTSIDE6 is not $OUTSIDE and a 6."""
    for name in sorted(variables, key=len, reverse=True):
        text = text.replace(f"${name}", variables[name])
    return text


def tail(log: Path) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
    except OSError:
        return ""


def _failure(service: Service, what: str, log: Path) -> VigilesError:
    said = tail(log)
    return VigilesError(
        f"the service '{service.run}' on {service.host} {what}", hint=said or "it said nothing"
    )
