# SPDX-License-Identifier: Apache-2.0
"""``vigiles tree FILE…``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tracer.cli.recordings import opened

_WIDTH = 1000


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option("--flagged", is_flag=True, help="Only processes with alerts, and who they came of.")
def tree(*, paths: tuple[Path, ...], flagged: bool) -> int:
    """Show the processes of a recording, who started whom, and which had alerts."""
    from rich.console import Console
    from rich.tree import Tree

    from tracer.report.story import tell
    from tracer.rules import load_rules

    # a pipe has no width: nothing is wrapped there
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    for parts in opened(paths):
        said = tell(parts, load_rules())["processes"]
        rows = said["rows"]
        wanted = _flagged(rows) if flagged else [True] * len(rows)
        root = Tree(f"{parts[0].header.tree}", guide_style="dim")
        branches: list[Tree] = []
        for row, is_wanted in zip(rows, wanted, strict=True):
            above = root if row["parent"] is None else branches[row["parent"]]
            branches.append(above.add(_label(row)) if is_wanted else above)
            others = [f"{n:,} × {exe or '?'}" for exe, n in row["others"].items()]
            if is_wanted and others and not flagged:
                more = f", {row['others_more']:,} more" if row["others_more"] else ""
                branches[-1].add(_text(f"and {', '.join(others)}{more}", "dim"))
        console.print(root)
    return 0


def _flagged(rows: list[dict[str, Any]]) -> list[bool]:
    wanted = [bool(row["rules"]) for row in rows]
    for number in range(len(rows) - 1, -1, -1):
        if wanted[number] and rows[number]["parent"] is not None:
            wanted[rows[number]["parent"]] = True
    return wanted


def _text(said: str, style: str = "") -> Any:
    """Never markup: the tree chose it."""
    from rich.text import Text

    return Text(said, style=style)


def _label(row: dict[str, Any]) -> Any:
    label = _text(f"{row['pid']} ", "dim")
    label.append(row["command"] or row["exe"] or "?", "bold red" if row["rules"] else "")
    if row["rules"]:
        label.append("  " + ", ".join(row["rules"]), "red")
    return label
