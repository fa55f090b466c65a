# SPDX-License-Identifier: Apache-2.0
"""``vigiles attach``"""

from __future__ import annotations

from pathlib import Path

import click

from tracer.cli.options import WatchOptions, watch_options


@click.command()
@watch_options
@click.option("-p", "--pid", "pids", multiple=True, type=int, help="Root of the tree (repeatable).")
@click.option(
    "--cgroup",
    type=click.Path(path_type=Path),
    help="Every process in this cgroup (v2), and all that join it by exec or fork.",
)
@click.option(
    "--tree", metavar="ID", help="A tree that is still guarded, but whose tracer is gone: go on with it."
)
def attach(*, options: WatchOptions, pids: tuple[int, ...], cgroup: Path | None, tree: str | None) -> int:
    """Watch a tree that is running already; Ctrl-C ends the watch and leaves the tree alone."""
    from tracer.session.attach import adopt, attach_to

    if bool(pids) + (cgroup is not None) + (tree is not None) != 1:
        raise click.UsageError("say what to watch: --pid, --cgroup or --tree")
    if tree is not None:
        return adopt(tree, options)
    return attach_to(list(pids), cgroup, options)
