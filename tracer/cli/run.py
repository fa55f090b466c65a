# SPDX-License-Identifier: Apache-2.0
"""``vigiles run -- COMMAND…``"""

from __future__ import annotations

import click

from tracer.cli.options import WatchOptions, watch_options


@click.command(context_settings={"allow_interspersed_args": False})
@watch_options
@click.option("--user", metavar="NAME", help="Run the command as this user (default: whoever called sudo).")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(*, options: WatchOptions, user: str | None, command: tuple[str, ...]) -> int:
    r"""Run COMMAND and watch all that descends from it.

    Its standard input, output and error are its own. The exit status is the command's (128+N if it
    died of signal N), 125 if the tracer failed, 126 or 127 if the command could not be started.

    \b
    Examples:
      sudo vigiles run -- torchrun --nproc-per-node 8 train.py
      sudo vigiles run --alerts alerts.jsonl --gpu-user train.py -- bash train.sh
    """
    from tracer.session.run import run_command

    return run_command(list(command), options, user)
