# SPDX-License-Identifier: Apache-2.0
"""What it costs the tree, the tracer's own core, and everybody else on the host."""

from __future__ import annotations

import json
import shlex
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from bench import allowance
from bench.beside.field import Field
from bench.beside.tools import NOTHING, BrokenToolError, Tool

ROUNDS, PASSES = 4, 3
ROOT = Path(__file__).parents[2]
#: To be installed: each needs the one before it.
PACKAGES = 12
#: Everyday work, as a shell does it in a scratch folder.
JOBS = {
    "compile": "for n in $(seq 24); do cc -O1 -o part.o -c part.c; done",
    "test suite": "{python} -m pytest -q -p no:cacheprovider {root}/tests/unit/test_scenario_files.py >/dev/null",
    "data loader": "{python} -I loader.py",
    "npm install": "rm -rf node_modules package.json package-lock.json; npm install --offline --no-audit --no-fund"
    f" --silent --install-links ./package-{PACKAGES}",
}
_PART = "\n".join(
    f"int f{n}(int a, int *b) {{ int s = 0; for (int i = 0; i < a; i++) s += b[i] * {n}; return s; }}"
    for n in range(60)
)
_LOADER = """
import multiprocessing, os
def load(number):
    with open(f"/proc/self/maps", "rb") as maps:
        return len(maps.read()) + sum(len(open(name, "rb").read()) for name in ["loader.py", "part.c"] * 20)
if __name__ == "__main__":
    for _ in range(3):
        with multiprocessing.get_context("fork").Pool(16) as pool:
            pool.map(load, range(400), chunksize=5)
"""


def _make_packages(folder: Path) -> None:
    """What `npm install` finds without a network."""
    for number in range(PACKAGES + 1):
        package = folder / f"package-{number}"
        package.mkdir()
        needed = {f"package-{number - 1}": f"file:../package-{number - 1}"} if number else {}
        said = {"name": package.name, "version": "1.0.0", "dependencies": needed}
        (package / "package.json").write_text(json.dumps(said))
        for part in range(30):
            (package / f"part-{part}.js").write_text("module.exports = 1;\n" * 50)


def _script(field: Field) -> list[str]:
    """Everything one after the other, so that a tracer is started once; a JSON line of each figure."""
    lines = ["echo ready", "read go", f"{shlex.quote(str(field.work))} ops {PASSES} <go | grep {{"]
    for name, text in JOBS.items():
        if name == "npm install" and shutil.which("npm") is None:
            continue
        lines += [
            "began=$(date +%s%N)",
            text.format(python=shlex.quote(sys.executable), root=shlex.quote(str(ROOT))),
            f'echo "{{\\"{name}\\": $(( $(date +%s%N) - began ))e-9}}"',
        ]
    lines += ["echo done", "read end || true"]
    (field.folder / "go").write_text("go\n")
    return ["sh", "-ec", f"cd {shlex.quote(str(field.folder))}\n" + "\n".join(lines)]


def one_turn(field: Field, tool: Tool | None) -> dict[str, float]:
    """All figures of one turn: ns an operation, seconds a job, the tracer's share of a core, MiB."""
    found: dict[str, float] = {}

    def ask_an_outsider() -> None:
        outcome = field.turn(None, [], ["syscalls", str(PASSES)])
        found["getppid by others"] = _middle(outcome.said)["getppid"]

    outcome = field.turn(tool, tool.keep if tool else [], _script(field), ask_an_outsider)
    found |= _middle(outcome.said)
    if tool:
        found["cpu of the tracer"] = outcome.cpu_s / outcome.wall_s
        found["resident MiB"] = outcome.resident_mib
    return found


def _middle(said: str) -> dict[str, float]:
    """The median of each figure that lines of JSON have."""
    values: dict[str, list[float]] = {}
    for line in said.splitlines():
        for name, value in json.loads(line).items():
            values.setdefault(name, []).append(value)
    return {name: statistics.median(found) for name, found in values.items()}


def measure(field: Field, rounds: int = ROUNDS) -> dict[str, Any]:
    """By contender and operation: median, and ratio to the same round's figure with nobody watching."""
    (field.folder / "part.c").write_text(_PART)
    (field.folder / "loader.py").write_text(_LOADER)
    _make_packages(field.folder)
    turns: dict[str, dict[int, dict[str, float]]] = {}
    for number in allowance.rounds(rounds, least=1):
        for tool in field.rotated(number):
            title = tool.title if tool else NOTHING
            try:
                turns.setdefault(title, {})[number] = one_turn(field, tool)
            except BrokenToolError as why:
                field.absent[f"{title}, overhead"] = str(why)
    return {title: _against(found, turns[NOTHING]) for title, found in turns.items()}


def _against(
    found: dict[int, dict[str, float]], base: dict[int, dict[str, float]]
) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    for name in next(iter(found.values())):
        values = [turn[name] for turn in found.values()]
        figures[name] = {"median": statistics.median(values)}
        if name in next(iter(base.values())):
            ratios = sorted(
                turn[name] / base[number][name] for number, turn in found.items() if number in base
            )
            figures[name] |= {"ratio": statistics.median(ratios), "least": ratios[0], "most": ratios[-1]}
    return figures
