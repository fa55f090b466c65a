# SPDX-License-Identifier: Apache-2.0
"""The command line: one module a command, loaded when it is called, since Numba takes its time."""

from __future__ import annotations

import importlib
import os
import sys

import click

from tracer import __version__
from tracer.errors import FileError, VigilesError

#: name → (module, what it is for)
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("tracer.cli.run", "Run a command and watch all that descends from it."),
    "attach": ("tracer.cli.attach", "Watch a tree that is running already."),
    "contain": (
        "tracer.cli.contain",
        "Stop a watched tree now: freeze it, cut it off, end it, or let it go.",
    ),
    "thaw": ("tracer.cli.contain", "Let a frozen tree go on."),
    "replay": ("tracer.cli.replay", "Judge a recording again, by the rules of then or by others."),
    "events": ("tracer.cli.events", "Print or export what a recording holds."),
    "report": ("tracer.cli.report", "Tell what happened in a recording: a page, or for other programs."),
    "correlate": ("tracer.cli.correlate", "Find the tool calls in an RL log that alerts came of."),
    "top": ("tracer.cli.top", "Show who is there and what they are at, in a tree that runs or is recorded."),
    "gpu": ("tracer.cli.gpu", "Show who uses the GPU, and how, from a recording."),
    "tree": ("tracer.cli.tree", "Show the processes of a recording."),
    "verify": ("tracer.cli.verify", "Say whether a recording is whole and as it was written."),
    "rules": ("tracer.cli.rules", "List, show, check and test detection rules."),
    "policy": ("tracer.cli.policy", "Learn, check and explain policies: what is normal for a job."),
    "doctor": ("tracer.cli.doctor", "Say what this host lets us see, and what it will cost."),
    "demo": ("tracer.cli.demo", "Watch a small agent go wrong."),
    "scenario": ("tracer.cli.scenario", "Act out attacks and everyday work, and see what is flagged."),
    "span": ("tracer.cli.span", "Mark what a shell does, so that alerts can name the tool call."),
    "bench": ("tracer.cli.bench", "Measure what it costs and how fast it is here."),
    "warm": ("tracer.cli.warm", "Compile the engine now, so that the first watch starts at once."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vigiles")
def group() -> None:
    """The night watch for agent process trees on GPU hosts.

    Sees, from inside the kernel, what a tree of processes runs, where it connects and how it drives
    the GPU, and says within a millisecond when a miner or a tunnel appears.
    """


def report(error: VigilesError) -> None:
    """Print an expected failure: what is wrong, and what to do."""
    text = str(error) if isinstance(error, FileError) else error.message
    click.echo(f"vigiles: {text}", err=True)
    if error.hint:
        click.echo(f"  {error.hint}", err=True)
    if error.detail and "VIGILES_DEBUG" in os.environ:
        click.echo(error.detail, err=True)


def main() -> None:
    """Entry point of the ``vigiles`` command."""
    try:
        status = group.main(prog_name="vigiles", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except VigilesError as error:
        report(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(141)
    sys.exit(status if isinstance(status, int) else 0)
