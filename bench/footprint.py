# SPDX-License-Identifier: Apache-2.0
"""What a watch takes before anything happens: memory by part, time from start to armed, bytes to install.

    python -m bench footprint

*Armed* is when the command begins, which is held back until then. *Cold*: the files of the environment and the
compiled engine are dropped from the page cache first, as far as nobody else has them mapped.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import allowance, day, machine
from bench.tables import WIDTH
from tracer import jit

ROOT = Path(__file__).resolve().parents[1]
VIGILES = str(Path(sys.executable).with_name("vigiles"))
LINKED, COMPILER = "linked engine", "with the compiler"
ROUNDS = 10
TREES = (10, 1_000, 20_000)
#: Processes that others of the host must be left room for.
SPARE_PIDS = 8_000
DEADLINE_S = 120
#: Which part a mapping belongs to: the first whose pattern is in its name.
PARTS = (
    ("rings and maps", r"bpf[-_]"),
    ("LLVM and Numba", r"llvmlite|numba"),
    ("NumPy", r"numpy|openblas"),
    ("linked engine", r"/engine-[0-9a-f]+\.so"),
    ("Python and its libraries", r"\.so|/python3"),
    ("heap and tables", r"^$|\[heap\]|\[anon"),
)


def memory_of(pid: int) -> dict[str, dict[str, float]]:
    """Resident, proportional and private MiB of a process by part."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    part = ""
    for line in Path(f"/proc/{pid}/smaps").read_text(errors="replace").splitlines():
        words = line.split(maxsplit=5)
        if not words[0].endswith(":"):
            name = words[5] if len(words) > 5 else ""
            part = next((part for part, pattern in PARTS if re.search(pattern, name)), "other")
        elif words[0] in ("Rss:", "Pss:", "Private_Clean:", "Private_Dirty:"):
            kind = words[0].rstrip(":").partition("_")[0].lower()
            for row in (part, "all"):
                found[row][kind] += int(words[1]) / 1024
    return {name: dict(kinds) for name, kinds in found.items()}


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@contextmanager
def _without_linked(way: str) -> Iterator[None]:
    """Put the linked engine out of reach, for the other way."""
    path = jit.linked_path()
    assert path is not None
    assert path.exists(), "run `vigiles warm` first"
    hidden = path.with_suffix(".hidden")
    if way == COMPILER:
        path.rename(hidden)
    try:
        yield
    finally:
        if way == COMPILER:
            hidden.rename(path)


def armed_memory() -> dict[str, Any]:
    """A watch of a command that sleeps, once armed; and the most that a short one ever had."""
    found: dict[str, Any] = {}
    for way in (LINKED, COMPILER):
        with _without_linked(way), tempfile.TemporaryDirectory() as folder:
            mark = Path(folder) / "armed"
            script = f"touch {mark}; exec sleep 60"
            watch = subprocess.Popen([VIGILES, "run", "--quiet", "--", "sh", "-c", script])
            try:
                _until(mark.exists, watch)
                time.sleep(1)
                found[way] = {"parts": memory_of(watch.pid), "peak": _peak(watch.pid)}
            finally:
                watch.send_signal(signal.SIGTERM)
                watch.wait(DEADLINE_S)
    return found


def _until(there: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    ends = time.monotonic() + DEADLINE_S
    while not there():
        if process.poll() is not None or time.monotonic() > ends:
            raise RuntimeError("the watch did not begin")
        time.sleep(0.001)


def _forget_files() -> None:
    cache = jit.cache_directory()
    assert cache is not None
    for folder in (Path(sys.prefix), ROOT / "tracer", cache):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                fd = os.open(path, os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)


def _start(argv: list[str], folder: Path) -> dict[str, float]:
    """Milliseconds to armed (when the command wrote the time) and to the end."""
    clock = folder / "clock"
    clock.unlink(missing_ok=True)
    script = f"date +%s%N > {clock}"
    began, at = time.perf_counter(), time.time_ns()
    subprocess.run([*argv, *(["sh", "-c", script] if argv[0] == VIGILES else [])], check=True)
    taken = {"end": (time.perf_counter() - began) * 1000}
    if clock.exists():
        taken["armed"] = (int(clock.read_text()) - at) / 1e6
    return taken


def starts() -> dict[str, Any]:
    """In turn, warm and cold."""
    base = [sys.executable, "-c", "pass"]
    run = [VIGILES, "run", "--quiet", "--"]
    ways = {"python -c pass": (base, LINKED), LINKED: (run, LINKED), COMPILER: (run, COMPILER)}
    times: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for cold in allowance.parts((False, True)):
            for _ in allowance.rounds(ROUNDS):
                for name, (argv, way) in ways.items():
                    with _without_linked(way):
                        if cold:
                            _forget_files()
                        for what, taken in _start(argv, Path(folder)).items():
                            times[f"{name}, {what}, {'cold' if cold else 'warm'}"].append(taken)
    return {name: _spread(taken) for name, taken in times.items()}


def _spread(taken: list[float]) -> dict[str, float]:
    low, _, high = quantiles(taken, n=4)
    return {"min": min(taken), "low": low, "median": median(taken), "high": high, "max": max(taken)}


def wheel() -> dict[str, float]:
    """MiB to download, and to have installed: ours, and what comes with it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", folder, str(ROOT)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        sizes = {"wheel": next(Path(folder).glob("*.whl")).stat().st_size}
    import llvmlite
    import numba
    import numpy as np

    for module in (np, numba, llvmlite):
        place = Path(str(module.__file__)).parent
        sizes[f"{module.__name__}, installed"] = sum(
            f.stat().st_size for f in place.rglob("*") if f.is_file()
        )
    path = jit.linked_path()
    assert path is not None
    sizes["linked engine"] = path.stat().st_size
    return {name: size / (1 << 20) for name, size in sizes.items()}


_SLEEPERS = """
import os, sys, time
for _ in range(int(sys.argv[1])):
    os.posix_spawn("/bin/sleep", ["sleep", "600"], {})
print("there", flush=True)
sys.stdin.read()
os.killpg(0, 9)
"""


def _room() -> int:
    limit = int(Path("/proc/sys/kernel/pid_max").read_text())
    return limit - sum(name.name.isdigit() for name in Path("/proc").iterdir()) - SPARE_PIDS


def attach_times() -> dict[str, dict[str, float]]:
    """Milliseconds from start until it says how many processes it watches; MiB it has then."""
    found = {}
    for wanted in TREES:
        count = min(wanted, _room())
        tree = subprocess.Popen(
            [sys.executable, "-I", "-c", _SLEEPERS, str(count)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0,
        )  # fmt: skip
        try:
            assert tree.stdout is not None
            assert tree.stdout.readline() == "there\n"
            found[f"{count + 1:,}"] = _attach(tree.pid, count + 1)
        finally:
            os.killpg(tree.pid, signal.SIGKILL)
            tree.communicate()
    return found


def _attach(pid: int, count: int) -> dict[str, float]:
    began = time.perf_counter()
    with subprocess.Popen([VIGILES, "attach", "--pid", str(pid)], stderr=subprocess.PIPE, text=True) as watch:
        assert watch.stderr is not None
        line = next(line for line in watch.stderr if "watching" in line)
        taken = (time.perf_counter() - began) * 1000
        assert f"watching {count} processes" in line, line
        resident = memory_of(watch.pid)["all"]["rss"]
        watch.send_signal(signal.SIGINT)
    return {"ms": taken, "MiB": resident}


def show(figures: dict[str, Any]) -> None:
    """All of it, for people."""
    console = Console(width=WIDTH)
    for way, memory in figures["memory"].items():
        table = Table(title=f"MiB once armed, {way}; at most {memory['peak']:.0f}", title_justify="left")
        for heading in ("part", "resident", "proportional", "private"):
            table.add_column(heading, justify="left" if heading == "part" else "right")
        for part, kinds in sorted(memory["parts"].items(), key=lambda item: item[1].get("rss", 0)):
            table.add_row(part, *(f"{kinds.get(kind, 0):.1f}" for kind in ("rss", "pss", "private")))
        console.print(table)
    table = Table(title="milliseconds", title_justify="left")
    for heading in ("from start to", "min", "low", "median", "high", "max"):
        table.add_column(heading, justify="left" if heading.startswith("from") else "right")
    for name, spread in figures["start"].items():
        table.add_row(name, *(f"{value:,.0f}" for value in spread.values()))
    console.print(table)
    for name, size in figures["size"].items():
        console.print(f"{name}: {size:.2f} MiB")
    for count, taken in figures["attach"].items():
        console.print(f"attach to {count} processes: {taken['ms']:,.0f} ms, {taken['MiB']:.0f} MiB resident")
    for hour, resident in figures["day"].items():
        console.print(f"after {hour} h of churn: {resident:.1f} MiB resident")


def main() -> None:
    """Measure, print, keep."""
    print(machine.headline())
    what = {
        "memory": armed_memory,
        "size": wheel,
        "attach": attach_times,
        "day": day.measure,
        "start": starts,
    }
    figures = {name: measure() for name, measure in what.items()}
    show(figures)
    print(f"kept in {machine.keep('footprint', json.loads(json.dumps(figures)))}")


if __name__ == "__main__":
    main()
