# SPDX-License-Identifier: Apache-2.0
"""The contenders, and how one is started, waited for and ended."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from bench.beside.lines import arrivals, count, first_seen
from tracer import clock

HERE = Path(__file__).parent
NOTHING = "nothing"
#: How long a tracer may take to be there, and to print what came last, in seconds.
READY_S, AFTER_S = 30.0, 1.5
#: Events by which a contender is tried before anything is measured.
_TRIED = 5
_CANARY = ["/bin/true", "seq=999999"]
_MOUNT = 'mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; exec "$@"'


@dataclass(frozen=True)
class Tool:
    """One table of ``tools.toml``, which says what each key means."""

    name: str
    title: str
    watch: list[str]
    keep: list[str]
    lines: str
    exec: str = ""
    connect: str = ""
    hex: bool = False
    lost: str = ""
    kept: str = ""
    read: list[str] = field(default_factory=list)
    before: list[list[str]] = field(default_factory=list)
    after: list[list[str]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    tracefs: bool = False

    @property
    def wraps(self) -> bool:
        """Does it start what it watches?"""
        return "{work}" in self.watch


class BrokenToolError(Exception):
    """A contender does not work here; the message is its own last words."""


def read_tools(file: Path = HERE / "tools.toml") -> list[Tool]:
    """All contenders."""
    with file.open("rb") as text:
        return [Tool(name, **table) for name, table in tomllib.load(text).items()]


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


class Field:
    """Where they compete: a folder, the compiled work, and who of them works here."""

    def __init__(self, tools: list[Tool] | None = None) -> None:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vigiles-bench-")))
        self.work = self.folder / "work"
        compiler = shutil.which("cc") or shutil.which("clang")
        if compiler is None:
            sys.exit("bench beside needs a C compiler: cc or clang")
        subprocess.run([compiler, "-O2", "-pthread", "-o", str(self.work), str(HERE / "work.c")], check=True)
        self.tools: list[Tool] = []
        #: by title: why not
        self.absent: dict[str, str] = {}
        for tool in read_tools() if tools is None else tools:
            self._try(tool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _try(self, tool: Tool) -> None:
        program = self._expand(tool.watch, [])[0]
        if shutil.which(program) is None:
            self.absent[tool.title] = f"{program} is not installed"
            return
        try:
            for work, pattern in (("chain", tool.exec), ("connect", tool.connect)):
                if pattern:
                    self._see_that_it_sees(tool, work, pattern)
        except BrokenToolError as why:
            self.absent[tool.title] = str(why)
        else:
            self.tools.append(tool)

    def _see_that_it_sees(self, tool: Tool, work: str, pattern: str) -> None:
        """All of a few events, as it prints them and as it keeps them. Raises BrokenToolError."""
        for command in (tool.watch, tool.keep):
            outcome = self.turn(tool, command, [work, str(_TRIED), "1000", str(self.folder / "times")])
            if command is tool.watch:
                printed = first_seen(
                    arrivals(outcome.chunks), pattern, ports=work == "connect", hexadecimal=tool.hex
                )
                seen = len(printed)
            else:
                seen = count(self.kept_lines(tool), pattern)
            if seen < _TRIED:
                words = outcome.words or b"".join(data for _, data in outcome.chunks).decode(errors="replace")
                raise BrokenToolError(f"of {_TRIED} events it told {seen}: {_last(words)}")

    def shown(self, tool: Tool) -> str:
        """Its command line, as a reader may repeat it."""
        return shlex.join("COMMAND…" if word == "{work}" else word for word in tool.watch)

    def _expand(self, command: list[str], work: list[str]) -> list[str]:
        places = {
            "{vigiles}": str(Path(sys.executable).with_name("vigiles")),
            "{output}": str(self.output),
            "{folder}": str(self.folder),
        }

        def fill(word: str) -> str:
            for name, value in places.items():
                word = word.replace(name, value)
            return word

        return [w for word in command for w in (work if word == "{work}" else [fill(word)])]

    @property
    def output(self) -> Path:
        """What ``keep`` writes."""
        return self.folder / "output"

    def rotated(self, number: int) -> list[Tool | None]:
        """Everybody once, each time another one first; None: nobody watches."""
        everyone: list[Tool | None] = [None, *self.tools]
        first = number % len(everyone)
        return everyone[first:] + everyone[:first]

    def turn(
        self,
        tool: Tool | None,
        command: list[str],
        work: list[str],
        meanwhile: Callable[[], None] | None = None,
    ) -> Outcome:
        """One piece of work under one tracer, or under none. ``work``: arguments of our own program, or a whole
        command line, which then must wait for a line. ``meanwhile`` is done when all is set up, before it begins.
        Raises BrokenToolError.
        """
        if work[0] in {"chain", "connect", "storm", "ops", "syscalls"}:
            work = [str(self.work), *work]
        for leftover in (self.output, self.folder / "audit.log"):
            leftover.unlink(missing_ok=True)
        with ExitStack() as stack:
            turn = _Turn(self, tool, command, work)
            stack.callback(turn.close)
            return turn.act(meanwhile)

    def kept_lines(self, tool: Tool) -> Iterator[str]:
        """What ``keep`` has left, as text."""
        if tool.read:
            argv = self._expand(tool.read, [])
            with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, errors="replace") as reader:
                assert reader.stdout
                yield from reader.stdout
            if reader.returncode:
                raise BrokenToolError(f"{argv[0]} ended with status {reader.returncode}")
        else:
            file = Path(tool.kept.replace("{folder}", str(self.folder))) if tool.kept else self.output
            with file.open(errors="replace") as text:
                yield from text


class _Turn:
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
        argv = self._field._expand(self._command, work)
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


def _last(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


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


@contextmanager
def times_file(arena: Field) -> Iterator[Path]:
    """Where ``work`` notes when each event began."""
    file = arena.folder / "times"
    file.unlink(missing_ok=True)
    yield file


def words_of(outcome: Outcome, tool: Tool) -> str:
    """All that it said, for what it says of losses."""
    lines: Any = b"".join(data for _, data in outcome.chunks).decode(errors="replace")
    return f"{outcome.words}\n{lines}" if tool.lost else ""
