# SPDX-License-Identifier: Apache-2.0
"""What matching costs: an exec of the traced job, loading rules, walking over bytes, looking through a file.

python -m bench matching
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import allowance, machine
from bench.contenders import Arena, Contender, spread, took
from bench.tables import WIDTH, contender_table, program_table, verdict_table
from tracer.kernel.knowledge import Knowledge, build
from tracer.kernel.probes import ProbeOptions
from tracer.rules import RuleSet, load_rules
from tracer.rules.model import FIELDS

ROUNDS = 24
EXECS = 40
SIZES = {"short": 0, "300 bytes": 300, "4 KiB": 4096}
UNTRACED, BARE, JUDGED = "untraced", "traced, judged in user space", "traced, judged in the kernel"

INDICATORS = 10_000
LOADS = 7
TEXT_BYTES = 1 << 20
WALKS = 15
EXAMINATIONS = 3


def exec_figures() -> dict[str, Any]:
    """Spawn and wait: ns, by length of arguments and contender."""
    rules = load_rules([])
    contenders = [
        Contender(UNTRACED, None),
        Contender(BARE, ProbeOptions()),
        Contender(JUDGED, ProbeOptions(rules=rules)),
    ]
    figures: dict[str, Any] = {}
    with Arena(contenders) as arena:
        for name, size in allowance.parts(list(SIZES.items())):
            turns = arena.compare(("spawn", EXECS, size), ROUNDS)
            figures[name] = {
                "contenders": turns.figures(UNTRACED),
                "took_ns": took(turns.records[JUDGED], "EVENT_EXEC"),
            }
        verdicts = [figures[name]["took_ns"] for name in SIZES]
        figures["ns a byte of arguments"] = (verdicts[-1]["p50"] - verdicts[0]["p50"]) / SIZES["4 KiB"]
        for contender in contenders[1:]:
            figures[f"programs, {contender.name}"] = {
                name: arena.program_costs(contender, [("spawn", 500, size)]) for name, size in SIZES.items()
            }
    return figures


def _indicators(chance: random.Random) -> str:
    """A rule file with INDICATORS of them, half domains, half words."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"

    def some(least: int, most: int) -> str:
        return "".join(chance.choices(letters, k=chance.randrange(least, most)))

    domains = {f"{some(5, 12)}.{some(4, 9)}.{chance.choice(['com', 'net', 'example', 'io'])}" for _ in range(
        INDICATORS // 2
    )}  # fmt: skip
    words = {some(8, 16) for _ in range(INDICATORS // 2)}
    return "\n".join([
        '[indicators.domains]\nwhere = ["args", "sent", "received"]\nmatch = "domain"',
        f"values = {sorted(domains)}",
        '[indicators.words]\nwhere = ["name", "path", "args", "sent", "received"]\nmatch = "word"',
        f"values = {sorted(words)}",
        '[rules."exec.bench"]\ntitle = "t"\non = "exec"\nany = ["domains", "words"]\nseverity = "low"',
    ])  # fmt: skip


def _load(paths: list[Path]) -> tuple[RuleSet, dict[str, float]]:
    marks = [time.perf_counter()]
    rules = load_rules(paths)
    marks.append(time.perf_counter())
    automaton = rules.automaton
    marks.append(time.perf_counter())
    _ = rules.probe_rows, rules.table
    image = build(rules, 1)
    marks.append(time.perf_counter())
    knowledge = Knowledge(rules)
    marks.append(time.perf_counter())
    length = knowledge._capacity * knowledge.cells * 4
    knowledge.close()
    parts = np.diff(marks)
    # Knowledge builds the image once more: what it does beyond that is to fill the map
    return rules, {
        "toml_s": parts[0],
        "automaton_s": parts[1],
        "image_s": parts[2],
        "map_s": max(parts[3] - parts[2], 0),
        "total_s": parts[0] + parts[1] + max(parts[2], 0) + max(parts[3] - parts[2], 0),
        "states": len(automaton.next) // automaton.class_count,
        "classes": automaton.class_count,
        "image_mib": image.size / 2**20,
        "map_mib": length / 2**20,
    }


def loading_figures(folder: Path) -> tuple[dict[str, Any], dict[str, RuleSet]]:
    """From TOML to a map that probes can walk: seconds and MiB."""
    file = folder / "many.toml"
    file.write_text(_indicators(random.Random(1)).replace("'", '"'))
    figures, kept = {}, {}
    cases: dict[str, list[Path]] = {"the packs": [], f"and {INDICATORS:,} indicators": [file]}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for _ in range(LOADS):
        for name, paths in cases.items():
            kept[name], parts = _load(paths)
            found[name].append(parts)
    for name, rows in found.items():
        figures[name] = {part: spread([row[part] for row in rows]) for part in rows[0]}
    return figures, kept


def walking_figures(rule_sets: dict[str, RuleSet]) -> dict[str, Any]:
    """Compiled code in user space over a build's command lines: ns a byte."""
    from tracer.rules.scan import scan

    chance = random.Random(2)
    words = ["-DNDEBUG", "-O2", "gcc", "/usr/include/x86_64-linux-gnu", "--output=build/main.o", "src/tree.c",
             "python3", "-m", "pytest", "torch", "--epochs", "30", "-lm", "https://pypi.example/simple"]  # fmt: skip
    text = "\0".join(chance.choices(words, k=TEXT_BYTES // 8)).encode()[:TEXT_BYTES]
    data = np.frombuffer(bytearray(text), np.uint8)
    taken: dict[str, list[float]] = {name: [] for name in rule_sets}
    for _ in range(WALKS + 1):
        for name, rules in rule_sets.items():
            signals = np.zeros(8, np.int64)
            began = time.perf_counter_ns()
            scan(data, 0, len(text), FIELDS["args"], rules.automaton, signals)
            taken[name].append((time.perf_counter_ns() - began) / len(text))
    return {name: spread(values[1:]) for name, values in taken.items()}


def triage_figures() -> dict[str, Any]:
    """The largest library at hand, examined from its first byte to its last."""
    import llvmlite

    from tracer.triage.examine import Examination

    file = max(Path(llvmlite.__file__).parent.rglob("*.so"), key=lambda path: path.stat().st_size)
    examination = Examination(load_rules([]).groups)
    examination.warm()
    size, taken, scanned = file.stat().st_size, [], []
    for _ in range(EXAMINATIONS + 1):
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            report = examination.examine(fd)
        finally:
            os.close(fd)
        taken.append(report.seconds)
        scanned.append((size - report.scan.unread_bytes) / report.seconds / 1e6)
    return {
        "file": file.name,
        "mb": size / 1e6,
        "unread_bytes": report.scan.unread_bytes,
        "seconds": spread(taken[1:]),
        "mb_a_second": spread(scanned[1:]),
    }


def main() -> None:
    """Print the tables and keep them."""
    print(machine.headline())
    console = Console(width=WIDTH)
    execs = exec_figures()
    console.print(
        contender_table(
            f"spawn and wait, median of {ROUNDS} rounds of {EXECS}",
            {name: execs[name]["contenders"] for name in SIZES},
        )
    )
    console.print(verdict_table({name: execs[name]["took_ns"] for name in SIZES}))
    print(f"{execs['ns a byte of arguments']:.2f} ns a byte of arguments\n")
    for name in (BARE, JUDGED):
        cases = {f"{size}: {name}": costs for size, costs in execs[f"programs, {name}"].items()}
        console.print(program_table(cases))
    with tempfile.TemporaryDirectory() as folder:
        loading, rule_sets = loading_figures(Path(folder))
    walking = walking_figures(rule_sets)
    table = Table(title=f"rules (median of {LOADS})", title_justify="left")
    columns = ("toml_s", "automaton_s", "image_s", "map_s", "total_s", "states", "classes", "map_mib")
    for column in ("", *columns, "ns a byte walked"):
        table.add_column(column, justify="right" if column else "left")
    for name, parts in loading.items():
        cells = [parts[column]["median"] for column in columns]
        walk = walking[name]
        table.add_row(
            name,
            *(f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in cells),
            f"{walk['median']:.2f} ({walk['q1']:.2f} … {walk['q3']:.2f})",
        )
    console.print(table)
    triage = triage_figures()
    rate = triage["mb_a_second"]
    print(
        f"triage of {triage['file']}, {triage['mb']:.0f} MB: {triage['seconds']['median']:.2f} s,"
        f" {rate['median']:.0f} MB/s ({rate['q1']:.0f} … {rate['q3']:.0f}), unread {triage['unread_bytes']:,} bytes"
    )
    figures = {"exec": execs, "loading": loading, "walking_ns_a_byte": walking, "triage": triage}
    print(f"\nkept in {machine.keep('matching', figures)}")


if __name__ == "__main__":
    main()
