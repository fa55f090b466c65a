# SPDX-License-Identifier: Apache-2.0
"""``vigiles scenario``"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from tracer.cli.options import btf_option, loader_option, rules_option


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME|FILE]…")
@click.option("--all", "every", is_flag=True, help="All that there are.")
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where names are looked up (default: tests/scenarios of the checkout).",
)
@rules_option("rule_files")
@click.option("--enforce", is_flag=True, help="Do what rules call for: see attacks stopped.")
@loader_option("loader_name")
@btf_option
@click.option("--keep", is_flag=True, help="Leave the files of each run where they are, and say where.")
@click.option("--json", "as_json", is_flag=True, help="For machines: one JSON object a line.")
def scenario(
    *,
    names: tuple[str, ...],
    every: bool,
    folder: Path | None,
    rule_files: tuple[Path, ...],
    enforce: bool,
    loader_name: str,
    btf: Path | None,
    keep: bool,
    as_json: bool,
) -> int:
    r"""Act scenarios out under watch, and say what was flagged.

    A scenario is a small file: what to run, beside which helpers, and which alerts must or must not come.
    It runs with real tools on hosts of its own that lead nowhere. Without a name: list what there is.
    Exit status 1: one did not go as it should.

    \b
    Examples:
      sudo vigiles scenario malicious/ssh-reverse
      sudo vigiles scenario --all --rules mine.toml
    """
    from tracer.scenario.find import corpus_folder, files, resolve
    from tracer.scenario.spec import read

    if every:
        paths = files(folder or corpus_folder())
    elif names:
        paths = list(dict.fromkeys(resolve(names, folder)))
    else:
        for path in files(folder or corpus_folder()):
            found = read(path)
            pending = "  (pending)" if found.pending else ""
            click.echo(f"{found.name:40} {found.title}{pending}")
        return 0
    scenarios = [read(path) for path in paths]

    from rich.console import Console

    from tracer import jit
    from tracer.engine.engine import Engine
    from tracer.kernel import loader
    from tracer.rules import load_rules
    from tracer.scenario.runner import run
    from tracer.scenario.table import show

    loader.require(loader_name, btf)
    rules = load_rules(list(rule_files))
    if not jit.is_warm():
        click.echo("vigiles: the engine is compiled first, which takes a minute", err=True)
        Engine(rules).warm()
        jit.mark_warm()
    results = []
    progress = len(scenarios) > 1 and not as_json and sys.stderr.isatty()
    for number, one in enumerate(scenarios, 1):
        if progress:
            click.echo(f"\r\033[K{number}/{len(scenarios)} {one.name}", err=True, nl=False)
        results.append(run(one, rules, keep=keep, enforce=enforce))
        if as_json:
            click.echo(json.dumps(results[-1].to_json(), separators=(",", ":")))
    if not as_json:
        if progress:
            click.echo("\r\033[K", err=True, nl=False)
        show(results, Console())
    return 0 if all(result.passed for result in results) else 1
