# SPDX-License-Identifier: Apache-2.0
"""What a rule file says, once it has been read: indicator groups, rules, and the words they use.

Plain data. :mod:`.parse` makes it from TOML, :mod:`.automaton` and :mod:`.table` make flat arrays of it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tracer.detect.classes import INTERPRETERS, MULTICALL, NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: In rising order: the place is the rank.
SEVERITIES = ("low", "medium", "high", "critical")
FAMILIES = ("miner", "tunnel", "shell", "gpu", "exec", "tamper", "net", "foothold")
#: Places are numbers: enum action of probes/events.h.
ACTIONS = ("alert", "block", "kill", "kill-tree", "freeze", "quarantine")
#: What the ids of groups begin with that a policy makes; no rule file may use it.
POLICY_PREFIX = "policy-"

#: Kinds of event that rules judge, with the number that compiled code knows them by.
ON = {
    "exec": 0, "gpu": 1, "flow": 2, "connect": 3, "file": 4, "listen": 5, "tamper": 7, "scan": 8, "relay": 10,
    "foothold": 11, "local": 12, "effort": 14, "session": 15, "beacon": 16, "dns": 17, "icmp": 18,
}  # fmt: skip
(
    ON_EXEC,
    ON_GPU,
    ON_FLOW,
    ON_CONNECT,
    ON_FILE,
    ON_LISTEN,
    ON_TAMPER,
    ON_SCAN,
    ON_RELAY,
    ON_FOOTHOLD,
    ON_LOCAL,
    ON_EFFORT,
    ON_SESSION,
    ON_BEACON,
    ON_DNS,
    ON_ICMP,
) = ON.values()
#: Not kinds of event, but questions of probes: what may go on in quarantine; who may use the GPU; which execs
#: are refused by their file alone.
ON_STAY, ON_GPU_USER, ON_REFUSE = 6, 9, 13

#: Texts that are scanned, with their bit: of an exec, of a flow, of an executable file.
FIELDS = {"name": 1, "path": 2, "args": 4, "sent": 8, "received": 16, "host": 32, "file": 64}
WHERE_NAME, WHERE_PATH, WHERE_ARGS, WHERE_SENT, WHERE_RECEIVED, WHERE_HOST, WHERE_FILE = FIELDS.values()
#: The name of the resolved file alone. Not a field of rule files: in the kernel it tells interpreters.
WHERE_FILE_NAME = 128
#: First bytes on the wire: control bytes stand between the labels of names there, see ``automaton``.
WHERE_WIRE = WHERE_SENT | WHERE_RECEIVED

#: What indicators can be that are numbers, with what one looks like.
NUMBERS = {
    "network": "a network such as 203.0.113.0/24 or 2001:db8::/32",
    "port": "a port or several, such as 22, 8000-8100 or udp/53",
    "ioctl": "a GPU driver's call as family:number or family:number:code, such as 1:0x2b:0xc86f",
    "inode": "a file as major:minor:inode, such as 8:1:131234, with :size:nanoseconds as long as it is not written to",
}

#: Which of them an event of each kind has.
FIELDS_ON = {
    "exec": ("name", "path", "args", "inode"),
    "gpu": ("ioctl",),
    "flow": ("sent", "received", "host", "network", "port"),
    "connect": ("host", "network", "port"),
    "file": ("file",),
    "listen": ("network", "port"),  # its own address and port
    "tamper": (),  # facts alone
    "scan": (),
    "relay": (),
    "foothold": (),
    "local": ("path",),  # of the socket
    "effort": (),
    "session": ("host", "network", "port"),
    "beacon": ("host", "network", "port"),
    "dns": (),
    "icmp": ("host", "network"),
}

#: What a byte next to an indicator must be: a bit number in ``Automaton.edges``.
EDGE_ANY, EDGE_NUL, EDGE_WORD, EDGE_HOST, EDGE_VALUE, EDGE_FILE = range(6)
#: Not edges: which bytes make ``.x`` go on with a host name, and which are the dot in it.
BIT_ALNUM, BIT_DOT = 6, 7


class MatchKind(NamedTuple):
    """One way of matching: the fields it makes sense in, and what must stand on either side."""

    fields: tuple[str, ...]
    left: int
    right: int
    meaning: str


MATCHES: dict[str, MatchKind] = {
    "whole": MatchKind(
        ("name", "path", "args", "host"), EDGE_NUL, EDGE_NUL, "the entire name, path, argument or host"
    ),
    "argument": MatchKind(("args",), EDGE_NUL, EDGE_NUL, "an entire argument"),
    "option": MatchKind(("args",), EDGE_NUL, EDGE_VALUE, "an argument, alone or with '=value' behind it"),
    "value": MatchKind(("args",), EDGE_VALUE, EDGE_NUL, "an entire argument, or all that follows its '='"),
    "url": MatchKind(("args",), EDGE_VALUE, EDGE_ANY, "how an argument begins, or what follows its '='"),
    "prefix": MatchKind(
        ("name", "path", "args", "sent", "received", "host"), EDGE_NUL, EDGE_ANY, "how a text begins"
    ),
    "file": MatchKind(("path", "args"), EDGE_FILE, EDGE_NUL, "the last part or parts of a path"),
    "word": MatchKind(tuple(FIELDS), EDGE_WORD, EDGE_WORD, "a word: no letter, digit or _ beside it"),
    "domain": MatchKind(tuple(FIELDS), EDGE_HOST, EDGE_HOST, "a domain, or any host below it"),
    "substring": MatchKind(tuple(FIELDS), EDGE_ANY, EDGE_ANY, "anywhere"),
    "range": MatchKind(tuple(NUMBERS), EDGE_ANY, EDGE_ANY, "a number within"),
}


@dataclass(frozen=True, slots=True)
class Group:
    """Indicators that mean the same thing: one signal, set when any of them is found."""

    id: str
    where: tuple[str, ...]
    match: str
    case: bool
    values: tuple[str, ...]
    source: str
    line: int

    @property
    def fields(self) -> int:
        """The fields to look in, as bits."""
        return sum(FIELDS[field] for field in self.where) or WHERE_FILE_NAME

    @property
    def texts(self) -> tuple[str, ...]:
        """Its indicators that are looked for in texts: none of a group of numbers."""
        return () if self.match == "range" else self.values


#: Programs that can be given code as an argument, as only the probes ask for them: whoever runs none of
#: these has neither the fact shell-command nor inline-code. Last of all groups, unseen in rule files.
INTERPRETER_GROUP = Group(
    id="#interpreters",
    where=(),
    match="whole",
    case=True,
    values=tuple(
        sorted(
            {n for kind, names in NAMES.items() if kind & (INTERPRETERS | MULTICALL) for n in names.split()}
        )
    ),
    source="",
    line=0,
)


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way for a rule to hold: ``all`` of these, ``at_least`` so many of ``any``, ``none`` of those."""

    all: tuple[str, ...]
    any: tuple[str, ...]
    at_least: int
    none: tuple[str, ...]
    severity: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, as users see it."""

    id: str
    title: str
    on: str
    severity: str
    attack: tuple[str, ...]
    remedy: str
    action: str
    enabled: bool
    alternatives: tuple[Alternative, ...]
    source: str
    line: int

    @property
    def family(self) -> str:
        """The part of the id before the dot."""
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is settled for one job, beside the rules themselves.

    ``own_networks``: CIDR, they count as inside. ``act_from``: below this severity rules only alert.
    ``undecided``: by the ids of rules that an exception may apply to, the groups without which none does; what has
    one of them, or all (None), probes must leave to user space. ``stay``: lists of groups (of networks,
    ports); in quarantine, only that is reachable for which all of one list hold. ``gpu_users``: who may use the GPU,
    see :mod:`.users`; None to presume, empty for nobody.
    """

    own_networks: tuple[str, ...] = ()
    act_from: str = "high"
    undecided: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    stay: tuple[tuple[str, ...], ...] = ()
    gpu_users: tuple[str, ...] | None = None

    def action(self, rule: Rule, severity: str) -> str:
        """What becomes of it when ``rule`` holds with this severity."""
        if SEVERITIES.index(severity) < SEVERITIES.index(self.act_from):
            return "alert"
        return rule.action


@dataclass(frozen=True, slots=True)
class Remark:
    """Something in a rule file that is allowed, but hardly meant."""

    source: str
    line: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.message}"


def nearest(word: str, choices: Iterable[str]) -> str:
    """A hint for a word that is not among ``choices``."""
    known = sorted(choices)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"one of: {', '.join(known)}" if known else "there are none"
