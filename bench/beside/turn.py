# SPDX-License-Identifier: Apache-2.0
"""One piece of work under one tracer: started, waited for, ended, and nothing of it left."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bench.beside.tools import BrokenToolError, Tool
from tracer import clock

if TYPE_CHECKING:
    from bench.beside.field import Field

#: How long a tracer may take to be there, and to print what came last, in seconds.
READY_S, AFTER_S = 30.0, 1.5
_CANARY = ["/bin/true", "seq=999999"]
_MOUNT = 'mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; exec "$@"'


@dataclass
class Outcome:
    """What came of one turn."""

    #: what ``work`` printed, and its time from go to end in seconds
    said: str = ""
    wall_s: float = 0.0
    #: pieces of the tracer's lines, with CLOCK_BOOTTIME in ns
    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    #: its own last words
    words: str = ""
    #: of the tracer alone, while the work went on
    cpu_s: float = 0.0
    resident_mib: float = 0.0


class Turn:
    def __init__(self, arena: Field, tool: Tool | None, command: list[str], work: list[str]) -> None:
        self._field, self._tool, self._command, self._work = arena, tool, command, work
        self._outcome = Outcome()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()
        self._set_up = False

    def act(self, meanwhile: Callable[[], None] | None) -> Outcome:
        tool = self._tool
        if tool is None:
            worker = self._start(self._work, None)
        elif tool.wraps:
            worker = tracer = self._start(self._prefixed(self._work), tool)
        else:
            self._run_all(tool.before)
            self._set_up = True
            tracer = self._start(self._prefixed([]), tool)
            self._wait_until_it_sees(tracer)
            worker = self._start(self._work, None)
        assert worker.stdin
        assert worker.stdout
        self._await_ready(worker)
        if meanwhile is not None:
            meanwhile()
        before = _cpu_s(tracer.pid) if tool else 0.0
        began = time.perf_counter()
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
        said = []
        for line in worker.stdout:
            if line.startswith(b"done"):
                break
            said.append(line)
        self._outcome.wall_s = time.perf_counter() - began
        self._outcome.said = b"".join(said).decode()
        if tool:
            with suppress(OSError):
                self._outcome.resident_mib = _resident_mib(tracer.pid)
            after = _cpu_s(tracer.pid)
            worker.stdin.close()
            if not tool.wraps:
                worker.wait()
                time.sleep(AFTER_S)
                self._outcome.cpu_s = _cpu_s(tracer.pid) - before
                tracer.send_signal(signal.SIGTERM if tool.before else signal.SIGINT)
            else:
                self._outcome.cpu_s = after - before
            with suppress(subprocess.TimeoutExpired):
                tracer.wait(20)
        else:
            worker.stdin.close()
            worker.wait()
        self._ended.set()
        for thread in self._threads:
            thread.join(10)
        if tool and tool.after:
            self._outcome.words += self._run_all(tool.after)
            self._set_up = False
        return self._outcome

    def _prefixed(self, work: list[str]) -> list[str]:
        assert self._tool
        argv = self._field.expand(self._command, work)
        return ["unshare", "-m", "sh", "-c", _MOUNT, "sh", *argv] if self._tool.tracefs else argv

    def _run_all(self, commands: list[list[str]]) -> str:
        said = ""
        for argv in commands:
            run = subprocess.run(argv, capture_output=True, text=True, check=False)
            said += run.stdout
            if run.returncode:
                raise BrokenToolError(
                    f"{shlex.join(argv)}: {(run.stderr or run.stdout).strip().splitlines()[-1:]}"
                )
        return said

    def _start(self, argv: list[str], tool: Tool | None) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        if tool:
            environment |= tool.environment
            for name, text in tool.files.items():
                target = self._field.folder / name
                target.write_text(text.replace("{folder}", str(self._field.folder)))
                target.chmod(0o600)
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        self._processes.append(process)
        assert process.stdout
        assert process.stderr
        lines = tool.lines if tool else ""
        self._listen(process.stderr, words=lines != "stderr" or self._keeping)
        if tool and not tool.wraps:
            self._listen(process.stdout, words=lines != "stdout" or self._keeping)
            if lines.startswith("{folder}") and not self._keeping:
                self._follow(Path(lines.replace("{folder}", str(self._field.folder))))
        return process

    @property
    def _keeping(self) -> bool:
        return self._tool is not None and self._command is self._tool.keep

    def _listen(self, stream: IO[bytes], *, words: bool) -> None:
        def listen() -> None:
            while data := os.read(stream.fileno(), 1 << 16):
                if words:
                    self._outcome.words = (self._outcome.words + data.decode(errors="replace"))[-20_000:]
                else:
                    self._outcome.chunks.append((clock.boottime_ns(), data))

        self._begin(listen)

    def _follow(self, file: Path) -> None:
        """What is appended to a file, looked for every half a millisecond."""

        def follow() -> None:
            at = 0
            while not self._ended.wait(0.0005):
                with suppress(FileNotFoundError), file.open("rb") as text:
                    text.seek(at)
                    if data := text.read():
                        self._outcome.chunks.append((clock.boottime_ns(), data))
                        at += len(data)

        self._begin(follow)

    def _begin(self, what: Callable[[], None]) -> None:
        thread = threading.Thread(target=what, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _await_ready(self, worker: subprocess.Popen[bytes]) -> None:
        assert worker.stdout
        line = worker.stdout.readline()
        if line != b"ready\n":
            self._ended.wait(0.2)
            raise BrokenToolError(f"status {worker.wait()}: {self._last_words()}")

    def _wait_until_it_sees(self, tracer: subprocess.Popen[bytes]) -> None:
        """Exec something until the tracer says so; of one that is told of connects alone, until it says anything."""
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            if tracer.poll() is not None:
                self._ended.wait(0.2)
                raise BrokenToolError(f"status {tracer.returncode}: {self._last_words()}")
            subprocess.run(_CANARY, check=True)
            time.sleep(0.2)
            if self._outcome.chunks or any(
                file.exists() and file.stat().st_size
                for file in (self._field.output, self._field.folder / "audit.log")
            ):
                return
        raise BrokenToolError(f"it said nothing in {READY_S:g} s. {self._last_words()}")

    def _last_words(self) -> str:
        said = self._outcome.words + b"".join(data for _, data in self._outcome.chunks).decode(
            errors="replace"
        )
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def close(self) -> None:
        """Leave nothing behind, whatever has happened."""
        self._ended.set()
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()
        if self._tool and self._set_up:
            with suppress(BrokenToolError):
                self._run_all(self._tool.after)


def _cpu_s(pid: int) -> float:
    """What all threads of a process have used; not its children's."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
