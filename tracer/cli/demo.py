# SPDX-License-Identifier: Apache-2.0
"""``vigiles demo``"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from tracer.cli.options import WatchOptions, watch_options

#: Refuses every ioctl, and hardly anything opens it.
STAND_IN = "/dev/full"


@click.command()
@watch_options
@click.option(
    "--log",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Have the agent log its tool calls, as RL runs do.",
)
@click.option("--unmarked", is_flag=True, help="The agent does not mark its tool calls: alerts name none.")
def demo(*, options: WatchOptions, log: Path | None, unmarked: bool) -> int:
    """Watch a small agent that works for a moment and then goes wrong.

    It tries one port of this host after the other, opens a real reverse tunnel to an sshd of the demonstration's
    own on loopback, starts a copy of echo under a miner's name, and uses a stand-in GPU from a program that is not
    the trainer. With --record and --log it is a rehearsal for the morning after.
    """
    from dataclasses import replace

    from tracer.demo import sshd
    from tracer.kernel import loader
    from tracer.session.run import run_command

    loader.require(options.loader, options.btf)
    agent = Path(__file__).resolve().parent.parent / "demo" / "agent.py"
    command = [sys.executable, "-I", str(agent), STAND_IN]
    with ExitStack() as stack:
        if sshd.is_installed():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vigiles-demo-")))
            server = stack.enter_context(sshd.running(folder))
            command += ["--ssh", str(server.port), str(server.key)]
        else:
            click.echo("OpenSSH is not installed: the demonstration goes without its tunnel", err=True)
        if log is not None:
            command += ["--log", str(log.absolute())]
        if unmarked:
            command.append("--unmarked")
        options = replace(options, gpu_device=(*options.gpu_device, STAND_IN))
        # As root even under sudo: the key that opens the sshd is root's.
        return run_command(command, options, "root")
