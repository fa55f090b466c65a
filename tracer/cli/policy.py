# SPDX-License-Identifier: Apache-2.0
"""``vigiles policy``: learn one, see whether one can be used, and what it comes to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracer.cli.options import WatchOptions, learn_options, rules_option
from tracer.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracer.errors import FileError
    from tracer.rules import Remark

_FILE = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def policy() -> None:
    """Learn, check and explain policies: what is normal for a job, and what to do otherwise."""


@policy.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE…", type=_FILE)
@rules_option("files")
@click.pass_context
def check(context: click.Context, *, paths: tuple[Path, ...], files: tuple[Path, ...]) -> None:
    """Say whether policies can be used, and what is wrong where.

    Each is taken together with the built-in packs, its rule files and those given by --rules. Exit
    status 0: they can be used; 2: they can't. Warnings alone are no reason for that.
    """
    found = [_check(path, files, several=len(paths) > 1) for path in paths]
    if not all(found):
        context.exit(2)


def _check(path: Path, files: tuple[Path, ...], *, several: bool) -> bool:
    """Tell what there is to tell of one policy; can it be used?"""
    from tracer.policy.check import examine

    report = examine(path, files)
    for error in report.errors:
        _tell(str(error), error)
    for remark in report.remarks:
        _tell(f"{remark.source}:{remark.line}: warning: {remark.message}", remark)
    if report.errors or report.policy is None:
        return False
    made, on = report.made, sum(rule.enabled for rule in report.rules)
    actions = sum(rule.action != "alert" and rule.enabled for rule in report.rules)
    exceptions = len(report.policy.exceptions)
    head = f"{printable(str(path))}: ok" if several else "ok"
    click.echo(
        f"{head}: {on} rules, {made} of them the policy's own, {actions} do more than alert; "
        f"{exceptions} exception{'' if exceptions == 1 else 's'}"
    )
    return True


def _tell(line: str, what: FileError | Remark) -> None:
    click.echo(printable(line), err=True)
    if what.hint:
        click.echo(f"  {printable(what.hint)}", err=True)


@policy.command()
@click.argument("path", metavar="FILE", type=_FILE)
@rules_option("files")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def explain(*, path: Path, files: tuple[Path, ...], as_json: bool) -> None:
    """Say in plain words what a policy allows, and what happens otherwise."""
    from tracer.policy import explain as words
    from tracer.policy import load_policy, load_rules_under
    from tracer.policy.model import utc_today

    found = load_policy(path)
    rules = load_rules_under(found, files).rules
    if as_json:
        click.echo(json.dumps(words.as_json(found, rules, utc_today()), indent=2))
        return
    _print(words.lines(found, rules, utc_today()))


def _print(texts: Iterable[str]) -> None:
    for text in texts:
        click.echo(printable(text))


@policy.command(context_settings={"allow_interspersed_args": False})
@learn_options
@click.option("--user", metavar="NAME", help="Run the command as this user (default: whoever called sudo).")
@click.option(
    "-o", "--output", default="policy.toml", show_default=True, metavar="FILE", help="- is standard output."
)
@click.option("--force", is_flag=True, help="Replace FILE if it is there, when the run begins.")
@click.option("--by-file", is_flag=True, help="Name programs by their files themselves, not by paths.")
@click.option("--name", metavar="NAME", help="What the policy is called (default: as the command is).")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def learn(
    *,
    options: WatchOptions,
    user: str | None,
    output: str,
    force: bool,
    by_file: bool,
    name: str | None,
    command: tuple[str, ...],
) -> int:
    r"""Run COMMAND as `vigiles run` does, and write the policy that allows what it did.

    What runs must be a good run: all that it does is allowed in there. If it wasn't one, or if not all of
    it was seen, that is said here and at the top of the file. The exit status is as that of `vigiles run`.

    \b
    Examples:
      sudo vigiles policy learn -o job.toml -- torchrun --nproc-per-node 8 train.py
      sudo vigiles run --policy job.toml -- torchrun --nproc-per-node 8 train.py
    """
    from tracer.learning import learn as learn_from

    return learn_from(list(command), options, user, output=output, force=force, name=name, by_file=by_file)
