# SPDX-License-Identifier: Apache-2.0
"""``vigiles contain``"""

from __future__ import annotations

import json
import time

import click

from tracer.text import printable

ORDERS = ("freeze", "thaw", "quarantine", "release", "kill")


@click.command()
@click.option("--tree", metavar="ID", help="The tree, or how its id begins (see --list).")
@click.option("-p", "--pid", type=int, help="The tree that this process is in.")
@click.option("--list", "listing", is_flag=True, help="Say which trees there are.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
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
    if order is None or (tree is None) == (pid is None):
        raise click.UsageError("say which tree, by --tree or --pid, and what to do: " + ", ".join(ORDERS))
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
