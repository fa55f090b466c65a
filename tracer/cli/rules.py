# SPDX-License-Identifier: Apache-2.0
"""``vigiles rules``: what is looked for, and whether a rule of one's own says what was meant."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracer.cli.options import rules_option
from tracer.detect.facts import FACTS
from tracer.errors import VigilesError
from tracer.rules import load_rules
from tracer.rules.load import join, read_file, read_packs
from tracer.rules.model import MATCHES, nearest

if TYPE_CHECKING:
    from tracer.rules import Explanation, Group, Rule, RuleSet, Sample

_COLOURS = {"low": "blue", "medium": "yellow", "high": "red", "critical": "magenta"}
_MEANINGS = {f"@{fact.name}": fact.meaning for fact in FACTS}
#: How much of an argument is shown around what was found in it.
_CONTEXT = 24


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def rules() -> None:
    """List, show, check and test detection rules."""


@rules.command("list")
@rules_option("files")
@click.option("--json", "as_json", is_flag=True, help="For machines: one JSON object a line.")
def list_rules(*, files: tuple[Path, ...], as_json: bool) -> None:
    """List all rules, the severest first within their family."""
    found = load_rules(files)
    if as_json:
        for rule in found.rules:
            click.echo(json.dumps(_as_json(rule)))
        return
    width = max((len(rule.id) for rule in found.rules), default=0)
    for rule in sorted(found.rules, key=lambda rule: (rule.family, -_rank(rule), rule.id)):
        off = "" if rule.enabled else "  (off)"
        click.echo(f"{rule.id:{width}}  {_severity(rule.severity, 8)}  {_plain(rule.title)}{off}")


@rules.command()
@click.argument("name", metavar="ID")
@rules_option("files")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def show(*, name: str, files: tuple[Path, ...], as_json: bool) -> None:
    """Show what a rule asks for, or the indicators of a group."""
    found = load_rules(files)
    group = next((group for group in found.groups if group.id == name), None)
    if group is not None:
        shown: Any = asdict(group) | {"where": list(group.where), "values": list(group.values)}
        click.echo(json.dumps(shown, indent=2) if as_json else _group_text(group))
        return
    rule = _rule(found, name)
    click.echo(json.dumps(_as_json(rule), indent=2) if as_json else _rule_text(rule, found))


@rules.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.pass_context
def check(context: click.Context, *, files: tuple[Path, ...]) -> None:
    """Say whether rule files can be used, and what is wrong where.

    The files are taken together with the built-in packs, in the order given. Exit status 0: they can be
    used; 2: they can't. Warnings alone are no reason for that.
    """
    joined = join([*read_packs(), *(read_file(path) for path in files)])
    for error in joined.errors:
        click.echo(_plain(str(error)), err=True)
        if error.hint:
            click.echo(f"  {_plain(error.hint)}", err=True)
    for remark in joined.remarks:
        click.echo(f"{_plain(str(remark.source))}:{remark.line}: warning: {_plain(remark.message)}", err=True)
        if remark.hint:
            click.echo(f"  {_plain(remark.hint)}", err=True)
    if joined.errors:
        context.exit(2)
    indicators = sum(len(group.values) for group in joined.groups)
    enabled = sum(rule.enabled for rule in joined.rules)
    click.echo(f"ok: {enabled} rules, {len(joined.groups)} indicator groups, {indicators} indicators")


@rules.command()
@rules_option("files")
@click.option(
    "--path", metavar="PATH", help="The program that runs, where it is not the command's first word."
)
@click.option(
    "--fact",
    "facts",
    multiple=True,
    metavar="NAME",
    help="A fact that the command line doesn't show, such as memfd (repeatable).",
)
@click.option("--received", is_flag=True, help="On flows: the sample came from the other end.")
@click.option("--udp", is_flag=True, help="On flows: the sample is one datagram.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="On flows: the other end's port.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.argument("name", metavar="RULE")
@click.argument("sample", nargs=-1, metavar="-- SAMPLE…", type=click.UNPROCESSED)
def test(
    *,
    files: tuple[Path, ...],
    path: str | None,
    facts: tuple[str, ...],
    received: bool,
    udp: bool,
    port: int,
    as_json: bool,
    name: str,
    sample: tuple[str, ...],
) -> None:
    r"""Say whether a sample would fire a rule, and why. Nothing is run or sent.

    \b
    The sample is, for a rule on
      exec     a command line: … test miner.command -- ./xmrig -o stratum+tcp://pool.example:3333
      flow     first bytes: … test tunnel.ssh-wire --port 443 --fact external -- 'SSH-2.0-x\r\n'
      connect  the name the address was looked up by: … test RULE -- pool.example
      file     a file: … test exec.miner-binary -- /usr/local/bin/worker
    """
    import os

    from tracer.rules import samples

    found = load_rules(files)
    rule = _rule(found, name)
    given = frozenset(fact.removeprefix("@") for fact in facts)
    for fact in sorted(given):
        if f"@{fact}" not in _MEANINGS:
            raise click.UsageError(f"there is no fact '{fact}': {nearest(f'@{fact}', _MEANINGS)}")
    argv = [os.fsencode(word) for word in sample]
    if not argv and rule.on in ("exec", "flow", "file"):
        wanted = {"exec": "the command line", "flow": "the bytes", "file": "the file"}[rule.on]
        raise click.UsageError(f"give {wanted} to test behind --")
    program = None if path is None else os.fsencode(path)
    if rule.on == "flow":
        data = samples.unescape(" ".join(sample))
        tried = samples.of_flow(data, received=received, port=port, datagram=udp, given=given)
    elif rule.on == "file":
        tried = samples.of_file(found, sample[0], given)
    elif rule.on == "connect":
        tried = samples.of_names(sample, rule.on, given)
    else:
        tried = _sample(argv, program, given, rule.on)
    explanation = found.explain(rule, tried)
    if as_json:
        click.echo(
            json.dumps(asdict(explanation) | {"rule": rule.id, "facts": sorted(tried.facts)}, indent=2)
        )
        return
    click.echo(_verdict_text(rule, explanation, tried))


def _sample(argv: list[bytes], path: bytes | None, given: frozenset[str], on: str) -> Sample:
    """What the engine would see of an exec of ``argv``, or a GPU event with these facts."""
    from tracer.rules import Sample

    if on != "exec":
        return Sample(facts=given, on=on)
    from tracer.detect.execfacts import facts_of

    return Sample.from_command(argv, path=path, facts=given | facts_of(argv, path=path))


def _rule(found: RuleSet, name: str) -> Rule:
    rule = found.rule(name)
    if rule is None:
        raise VigilesError(
            f"there is no rule '{name}'", hint=nearest(name, [rule.id for rule in found.rules])
        )
    return rule


def _as_json(rule: Rule) -> dict[str, Any]:
    return asdict(rule) | {"family": rule.family}


def _rule_text(rule: Rule, found: RuleSet) -> str:
    groups = {group.id: group for group in found.groups}
    lines = [
        f"{rule.id}: {_plain(rule.title)}",
        f"  severity  {_severity(rule.severity)}{'' if rule.enabled else ' (off)'}",
        f"  on        {rule.on}",
        f"  ATT&CK    {', '.join(rule.attack) or 'none'}",
        f"  action    {rule.action}",
        f"  remedy    {_plain(rule.remedy) or 'none'}",
        f"  from      {_plain(rule.source)}:{rule.line}",
        "",
    ]
    asked: dict[str, None] = {}
    for number, alternative in enumerate(rule.alternatives, 1):
        lines.append(f"  {'or' if number > 1 else 'fires if'} ({_severity(alternative.severity)})")
        some = f"{alternative.at_least} of" if alternative.at_least > 1 else "one of"
        for word, names in (
            ("all of", alternative.all),
            (some, alternative.any),
            ("none of", alternative.none),
        ):
            if names:
                lines.append(f"    {word:8}{', '.join(names)}")
                asked |= dict.fromkeys(names)
    lines.append("")
    for name in asked:
        meaning = _MEANINGS[name] if name in _MEANINGS else _summary(groups[name])
        lines.append(f"  {name:24} {meaning}")
    return "\n".join(lines)


def _summary(group: Group) -> str:
    examples = ", ".join(_plain(value) for value in group.values[:3])
    more = f" and {len(group.values) - 3} more" if len(group.values) > 3 else ""
    return f"{group.match} in {' or '.join(group.where)}: {examples}{more}"


def _group_text(group: Group) -> str:
    case = "as written" if group.case else "in capitals or not"
    lines = [
        f"{group.id}: {MATCHES[group.match].meaning}, {case}",
        f"  where     {', '.join(group.where)}",
        f"  match     {group.match}",
        f"  from      {_plain(group.source)}:{group.line}",
        "",
    ]
    return "\n".join([*lines, *(f"  {_plain(value)}" for value in group.values)])


def _verdict_text(rule: Rule, said: Explanation, sample: Sample) -> str:
    fires = said.fires and rule.enabled
    off = "" if rule.enabled else " (the rule is off)"
    head = f"{rule.id} fires: {_severity(said.severity)}" if fires else f"{rule.id} does not fire{off}"
    lines = [head, f"  alternative {said.alternative + 1} of {len(rule.alternatives)}"]
    for word, names in (("found", said.found), ("missing", said.missing), ("but also", said.forbidden)):
        for name in names:
            lines.append(f"  {word:9} {name}{f': {_MEANINGS[name]}' if name in _MEANINGS else ''}")
            lines += dict.fromkeys(
                f"            {_plain(match.literal)} in {match.field}: {_excerpt(text, match.start, match.end)}"
                for match in said.matches
                if match.group == name
                for field, text in sample.texts
                if field == match.field
                and text[match.start : match.end].lower() == match.literal.encode().lower()
            )
    return "\n".join(lines)


def _excerpt(text: bytes, start: int, end: int) -> str:
    """What stands around a match, arguments set apart by spaces."""
    lo, hi = max(start - _CONTEXT, 0), min(end + _CONTEXT, len(text))
    shown = text[lo:hi].rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "backslashreplace")
    return f"{'…' if lo else ''}{_plain(shown)}{'…' if hi < len(text) else ''}"


def _severity(severity: str, width: int = 0) -> str:
    return click.style(f"{severity:{width}}", fg=_COLOURS[severity])


def _rank(rule: Rule) -> int:
    from tracer.rules.model import SEVERITIES

    return SEVERITIES.index(rule.severity)


def _plain(text: str) -> str:
    """Escape what could steer a terminal: rule files and command lines come from anybody."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in text
    )
