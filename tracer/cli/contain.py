# SPDX-License-Identifier: Apache-2.0
"""``vigiles contain``, ``vigiles thaw``"""

from __future__ import annotations

import json
import time

import click

from tracer.text import printable

ORDERS = ("freeze", "thaw", "quarantine", "release", "kill")


_TREE = click.option("--tree", metavar="ID", help="The tree, or how its id begins (see contain --list).")
_PID = click.option("-p", "--pid", type=int, help="The tree that this process is in.")
_JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")


@click.command()
@_TREE
@_PID
@click.option("--list", "listing", is_flag=True, help="Say which trees there are.")
@_JSON
@click.argument("order", required=False, type=click.Choice(ORDERS))
def contain(*, tree: str | None, pid: int | None, listing: bool, as_json: bool, order: str | None) -> int:
    r"""Stop a watched tree now, whether its tracer is still there or not.

    \b
      freeze      no process of it runs, until it is thawed
      thaw        they go on
      quarantine  nothing goes out or comes in but what the policy lists, established connections included
      kill        end every process of it
      release     thaw it, lift its quarantine, and its guard if its tracer is gone
    """
    from tracer import contain as containment
    from tracer import rundir
    from tracer.kernel import host

    host.require_privileges()
    if listing:
        for info in rundir.trees():
            click.echo(containment.line(info, as_json=as_json))
        return 0
    if order is None:
        raise click.UsageError("say what to do: " + ", ".join(ORDERS))
    return _carry_out(order, tree, pid, as_json=as_json)


@click.command()
@_TREE
@_PID
@_JSON
def thaw(*, tree: str | None, pid: int | None, as_json: bool) -> int:
    """Let a frozen tree go on: what `contain … thaw` does, for whoever has just been told of a frozen one."""
    from tracer.kernel import host

    host.require_privileges()
    return _carry_out("thaw", tree, pid, as_json=as_json)


def _carry_out(order: str, tree: str | None, pid: int | None, *, as_json: bool) -> int:
    from tracer import contain as containment
    from tracer import rundir

    if (tree is None) == (pid is None):
        raise click.UsageError("say which tree, by --tree or --pid")
    info = rundir.find(tree) if tree is not None else containment.tree_with(pid or 0)
    began = time.perf_counter()
    done = containment.carry_out(info, order)
    took_ms = (time.perf_counter() - began) * 1000
    if as_json:
        click.echo(
            json.dumps({"tree": info.tree, "order": order, "done": done, "took_ms": round(took_ms, 3)})
        )
    else:
        click.echo(f"{printable(info.tree)}: {done}  ({took_ms:.1f} ms)")
    return 0
