# SPDX-License-Identifier: Apache-2.0
"""Pictures of what was measured last, PNG and SVG, and the table for a page; from ``bench/results``.

python -m bench plots
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.beside.markdown import table
from bench.machine import RESULTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = Path(__file__).parent / "plots"
OURS = "vigiles"
#: Colours that colour-blind readers can tell apart (Okabe and Ito).
COLOURS = {
    "vigiles": "#0072B2", "vigiles --enforce": "#56B4E9", "strace -f": "#D55E00", "perf trace": "#E69F00",
    "bpftrace": "#009E73", "auditd": "#CC79A7", "nothing": "#999999",
}  # fmt: skip
COSTS = ("exec", "connect", "ask", "stream", "getppid by others", "compile")


def _colour(title: str) -> str:
    return COLOURS.get(title, "#444444")


def _latency(axes: Axes, figures: dict[str, Any]) -> None:
    rows = figures["latency_us"]["idle"]
    shares = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9}
    for name, t in rows.items():
        kind, _, title = name.partition(": ")
        if kind == "exec" and "p50" in t:
            values = [t[share] / 1e3 for share in shares]
            axes.plot(range(len(shares)), values, marker="o", label=title, color=_colour(title))
    axes.set_xticks(range(len(shares)), list(shares))
    axes.set_yscale("log")
    axes.set_ylabel("ms")
    axes.set_title("exec → its line in a reader's hands (idle)")
    axes.legend()


def _cost(axes: Axes, figures: dict[str, Any]) -> None:
    contenders = {title: found for title, found in figures["overhead"].items() if title != "nothing"}
    width = 0.8 / max(len(contenders), 1)
    for number, (title, found) in enumerate(contenders.items()):
        at = [place + number * width for place in range(len(COSTS))]
        ratios = [found[name]["ratio"] for name in COSTS]
        ends = [
            [found[name]["ratio"] - found[name]["least"] for name in COSTS],
            [found[name]["most"] - found[name]["ratio"] for name in COSTS],
        ]
        axes.bar(
            at, ratios, width, yerr=ends, label=title, color=_colour(title), error_kw={"elinewidth": 0.8}
        )
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(COSTS))], list(COSTS))
    axes.set_ylabel("times as long as with nobody watching")
    axes.set_title("what it costs (median, least … most)")
    axes.legend()


def _loss(axes: Axes, figures: dict[str, Any]) -> None:
    points: dict[str, list[tuple[float, float]]] = {}
    for contenders in figures["loss"].values():
        for title, t in contenders.items():
            kept = t.get("kept", t["offered"])
            points.setdefault(title, []).append((t["a second"], kept / t["offered"] * t["a second"]))
    for title, pairs in points.items():
        pairs.sort()
        axes.plot(*zip(*pairs, strict=True), marker="o", label=title, color=_colour(title))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("connects a second, as many as the tracer lets the program make")
    axes.set_ylabel("kept a second")
    axes.set_title("kept of what was offered: below the line of “nothing” is loss")
    axes.legend()


def main() -> None:
    """Draw what results there are."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "vigiles"
    from matplotlib import pyplot as plt

    file = RESULTS / "beside.json"
    if not file.exists():
        print(f"nothing to draw: {file} is not there; python -m bench beside")
        return
    figures = json.loads(file.read_text())
    FOLDER.mkdir(exist_ok=True)
    for name, draw in {"latency": _latency, "cost": _cost, "loss": _loss}.items():
        picture, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
        draw(axes, figures)
        axes.grid(axis="y", alpha=0.3)
        for ending in ("png", "svg"):
            target = FOLDER / f"{name}.{ending}"
            picture.savefig(target, dpi=110, metadata={"Date": None} if ending == "svg" else None)
            print(target)
        plt.close(picture)
    target = FOLDER / "table.md"
    target.write_text(table(figures))
    print(target)


if __name__ == "__main__":
    main()
