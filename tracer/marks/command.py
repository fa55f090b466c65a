# SPDX-License-Identifier: Apache-2.0
"""``vigiles span``: for shells. By hand, since it runs for every tool call: the command line's library
takes longer to import than all that is done here.
"""

from __future__ import annotations

import os
import sys

from tracer.marks import channel as channels
from tracer.marks.channel import Channel
from tracer.marks.text import encode

HELP = """\
Usage: vigiles span begin [--tool NAME] [--step N] [--episode ID] [--pid PID] [KEY=VALUE…]
       vigiles span end ID [--pid PID]
       vigiles span run [--tool NAME] [--step N] [--episode ID] [KEY=VALUE…] -- COMMAND…

Mark what a shell does, so that alerts can name the tool call. `begin` opens a span of the shell
that calls it, inside the one it is in, and prints its ID; whatever the shell starts until `end`
belongs to it. `run` executes COMMAND inside a span of its own: nothing has to be ended.

  id=$(vigiles span begin --tool bash --step 412)
  ./do-it
  vigiles span end "$id"

Without a tracer nothing happens, and the status is 0. PID: the shell, if it isn't the parent of
this process: in a subshell, --pid $$.
"""

_NAMED = ("tool", "step", "episode")
_GENERATIONS = 4


class UsageError(Exception):
    """What was asked for makes no sense."""


def _options(arguments: list[str], named: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """``--name value`` and ``--name=value``; and what is left."""
    found: dict[str, str] = {}
    rest: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if argument == "--":
            return found, rest + left
        name, there, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--"):
            rest.append(argument)
        elif name not in named:
            raise UsageError(f"no such option: {argument}")
        elif there:
            found[name] = value
        elif left:
            found[name] = left.pop(0)
        else:
            raise UsageError(f"{argument} needs a value")
    return found, rest


def _pairs(words: list[str]) -> dict[str, str]:
    for word in words:
        if "=" not in word or word.startswith("="):
            raise UsageError(f"{word}: KEY=VALUE is wanted")
    return dict(word.split("=", 1) for word in words)


def _parent_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _generations(pid: int | None) -> int:
    """How far above us the shell is."""
    at, up = os.getppid(), 1
    while pid is not None and at != pid:
        at, up = _parent_of(at), up + 1
        if at <= 1 or up > _GENERATIONS:
            raise UsageError(f"{pid} is no shell that this was started from")
    return up


def _tell(op: int, token: int, secret: int, up: int, said: dict[str, str]) -> None:
    text, cut = encode(said)
    channel = Channel()
    taken = channel.call(op, token, flags=channels.CUT if cut else 0, up=up, secret=secret, text=text)
    channel.close()
    if not taken and channel.failures:
        print("vigiles: the span was refused: it is not this shell's, or lies too deep", file=sys.stderr)


def _pid(options: dict[str, str]) -> int | None:
    given = options.pop("pid", None)
    if given is not None and not given.isdigit():
        raise UsageError("--pid wants a number")
    return int(given) if given else None


def _begin(arguments: list[str]) -> int:
    options, rest = _options(arguments, (*_NAMED, "pid"))
    pid = _pid(options)
    said = options | _pairs(rest)
    token = int.from_bytes(os.urandom(4), "little") >> 1 or 1
    secret = int.from_bytes(os.urandom(8), "little") or 1
    _tell(channels.BEGIN, token, secret, _generations(pid), said)
    print(f"{token:08x}{secret:016x}")
    return 0


def _end(arguments: list[str]) -> int:
    options, rest = _options(arguments, ("pid",))
    pid = _pid(options)
    if len(rest) != 1 or len(rest[0]) != 24:
        raise UsageError("the ID that `vigiles span begin` has printed is wanted")
    try:
        token, secret = int(rest[0][:8], 16), int(rest[0][8:], 16)
    except ValueError:
        raise UsageError(f"{rest[0]} is no ID") from None
    _tell(channels.END, token, secret, _generations(pid), {})
    return 0


def _run(arguments: list[str]) -> int:
    if "--" not in arguments:
        raise UsageError("-- and a command are wanted")
    place = arguments.index("--")
    command = arguments[place + 1 :]
    if not command:
        raise UsageError("a command is wanted behind --")
    options, rest = _options(arguments[:place], _NAMED)
    _tell(channels.BEGIN, int.from_bytes(os.urandom(4), "little") >> 1 or 1, 0, 0, options | _pairs(rest))
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"vigiles: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126


def _unknown(_arguments: list[str]) -> int:
    raise UsageError("no such command: there are begin, end and run")


def main(arguments: list[str]) -> int:
    """``vigiles span ARGUMENTS``."""
    commands = {"begin": _begin, "end": _end, "run": _run}
    if not arguments or arguments[0] in ("-h", "--help") or arguments[1:] in (["-h"], ["--help"]):
        print(HELP, end="")
        return 0 if arguments else 2
    try:
        return commands.get(arguments[0], _unknown)(arguments[1:])
    except UsageError as error:
        print(f"vigiles span: {error}\n  vigiles span --help says what there is", file=sys.stderr)
        return 2
