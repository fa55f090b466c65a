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
def attach(*, options: WatchOptions, pids: tuple[int, ...], cgroup: Path | None) -> int:
    """Watch a tree that is running already; Ctrl-C ends the watch and leaves the tree alone."""
    from tracer.session import attach_to

    if bool(pids) == (cgroup is not None):
        raise click.UsageError("say what to watch: either --pid or --cgroup")
    return attach_to(list(pids), cgroup, options)
