# SPDX-License-Identifier: Apache-2.0
"""Where contenders compete: a folder, the compiled work, and who of them works here."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from bench.beside.lines import arrivals, count, first_seen
from bench.beside.tools import HERE, BrokenToolError, Tool, last_line, read_tools
from bench.beside.turn import Outcome, Turn

#: Events by which a contender is tried before anything is measured.
_TRIED = 5


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
        program = self.expand(tool.watch, [])[0]
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
                raise BrokenToolError(f"of {_TRIED} events it told {seen}: {last_line(words)}")

    def shown(self, tool: Tool) -> str:
        """Its command line, as a reader may repeat it."""
        return shlex.join("COMMAND…" if word == "{work}" else word for word in tool.watch)

    def expand(self, command: list[str], work: list[str]) -> list[str]:
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
            turn = Turn(self, tool, command, work)
            stack.callback(turn.close)
            return turn.act(meanwhile)

    def kept_lines(self, tool: Tool) -> Iterator[str]:
        """What ``keep`` has left, as text."""
        if tool.read:
            argv = self.expand(tool.read, [])
            with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, errors="replace") as reader:
                assert reader.stdout
                yield from reader.stdout
            if reader.returncode:
                raise BrokenToolError(f"{argv[0]} ended with status {reader.returncode}")
        else:
            file = Path(tool.kept.replace("{folder}", str(self.folder))) if tool.kept else self.output
            with file.open(errors="replace") as text:
                yield from text


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
