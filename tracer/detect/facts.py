# SPDX-License-Identifier: Apache-2.0
"""The facts that code finds out about an event, by name: what rules refer to as ``@name``.

A *signal* is one bit that rules combine: either a fact from this table, or an indicator group of a
rule file that matched. Facts come first, so a fact's signal number is its place in this table.
"""

from __future__ import annotations

from dataclasses import dataclass

from tracer.detect.wire.protocols import PROTOCOLS, TRAITS
from tracer.triage.names import FILE_FACTS

#: Bits used of each signal word: 63, so that a word stays a positive int64.
WORD_BITS = 63
#: Words in a set of signals. Facts come first: word 0, and word 1 for what a flow's bytes are; an event
#: is of one kind, so the facts of different kinds share the same bits.
WORDS = 6
FACT_WORDS = 2
#: The signal number of the first indicator group.
FIRST_GROUP = FACT_WORDS * WORD_BITS


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing the engine can say about events of the kinds ``on``."""

    name: str
    on: tuple[str, ...]
    meaning: str


#: Facts that the probe of an exec finds out by itself.
PROBE_FACTS = (
    "memfd", "deleted", "script", "setid", "stdin-network", "stdout-network", "stdin-pipe", "stdout-pipe", "args-cut",
)  # fmt: skip
#: Facts that the probe of a connect, or of a socket that listens, finds out by itself.
PLACE_FACTS = ("external", "internal", "loopback", "datagrams")
#: Facts of tampering: the probe finds out all there is.
TAMPER_FACTS = (
    "signals-tracer", "leaves-cgroup", "moves-tracer", "freezes-tracer", "loads-module", "floods", "to-group",
    "uncatchable", "by-outsider", "traces-tracer", "uses-bpf", "uses-perf", "changes-mounts", "changes-files",
    "at-watch",
)  # fmt: skip
#: What a probe may know of a compute client: that it is certainly none of those that are listed.
GPU_NOT_LISTED = "gpu-not-listed"
#: Facts that can hold only of a file that is an interpreter.
INTERPRETER_FACTS = ("shell-command", "inline-code")

_NET = ("flow", "connect")
_PLACE = (*_NET, "listen")
FACTS: tuple[Fact, ...] = (
    Fact("memfd", ("exec",), "the program lives in memory only (memfd)"),
    Fact("deleted", ("exec",), "the program's file has been deleted"),
    Fact("script", ("exec",), "the kernel ran the interpreter of a #! line"),
    Fact("setid", ("exec",), "the program is set-uid or set-gid"),
    Fact("stdin-network", ("exec",), "standard input is a network connection"),
    Fact("stdout-network", ("exec",), "standard output is a network connection"),
    Fact("stdin-pipe", ("exec",), "standard input is a pipe"),
    Fact("stdout-pipe", ("exec",), "standard output is a pipe"),
    Fact("args-cut", ("exec",), "not all arguments were captured: too long, or not in memory"),
    Fact("shell-command", ("exec",), "a shell that is given its commands as an argument (sh -c)"),
    Fact("inline-code", ("exec",), "an interpreter that is given its program as an argument (python -c)"),
    Fact("ssh-reverse", ("exec",), "ssh -R: the far side reaches an address on our side"),
    Fact("ssh-reverse-socks", ("exec",), "ssh -R with a port alone: the far side may reach anything"),
    Fact("ssh-local", ("exec",), "ssh -L: a local port leads to the far side"),
    Fact("ssh-dynamic", ("exec",), "ssh -D: a local SOCKS proxy leads to the far side"),
    Fact("ssh-tun", ("exec",), "ssh -w: a network interface leads to the far side"),
    Fact("ssh-stdio", ("exec",), "ssh -W: standard input and output lead through the far side"),
    Fact("wallet", ("exec",), "an argument holds a wallet address"),
    Fact("pool-address", ("exec",), "an argument holds the scheme+transport://host:port of a mining pool"),
    Fact(
        "behind-flow",
        ("exec",),
        "a shell that is told nothing to do yet, started by a program, no interpreter, that has connected outside",
    ),
    *(Fact(trait.name, ("flow",), trait.meaning) for trait in TRAITS),
    Fact(
        "external",
        (*_PLACE, "icmp"),
        "the other end is in no network that counts as inside; others may reach what listens",
    ),
    Fact("internal", (*_PLACE, "icmp"), "the other end is in a private network, or one declared as ours"),
    Fact("loopback", (*_PLACE, "icmp"), "the other end is this host; it listens to this host alone"),
    Fact(
        "unresolved",
        (*_NET, "session", "beacon", "icmp"),
        "the other end is outside, and no DNS answer has named its address",
    ),
    Fact("accepted", _NET, "the other end opened the flow"),
    Fact("late", _NET, "the flow is older than the watch: its beginning was not seen"),
    Fact("datagrams", _PLACE, "UDP, or ICMP: no stream"),
    Fact("by-interpreter", (*_NET, "effort"), "the process runs a shell or another interpreter"),
    Fact("by-ssh", (*_NET, "local"), "the process runs an ssh client"),
    Fact("ssh-pivot", _NET, "the process holds an SSH flow of its own and goes on to a place inside"),
    Fact("for-git", _NET, "the process runs an ssh client that is to fetch or push for git"),
    *(Fact(protocol.name, ("flow",), protocol.meaning) for protocol in PROTOCOLS),
    *(Fact(name, ("file",), meaning) for name, meaning in FILE_FACTS),
    Fact("signals-tracer", ("tamper",), "a signal was sent to the tracer"),
    Fact("leaves-cgroup", ("tamper",), "a process was moved out of the tree's cgroup, or born outside it"),
    Fact("moves-tracer", ("tamper",), "the tracer was put into another cgroup"),
    Fact("freezes-tracer", ("tamper",), "the tracer's cgroup was frozen"),
    Fact("loads-module", ("tamper",), "a kernel module was loaded"),
    Fact("floods", ("tamper",), "a process sent more than its share of records: some were held back"),
    Fact("to-group", ("tamper",), "the signal went to a whole process group: kill 0"),
    Fact("uncatchable", ("tamper",), "the signal was SIGKILL or SIGSTOP"),
    Fact("by-outsider", ("tamper",), "somebody who is not in the tree did it"),
    Fact("traces-tracer", ("tamper",), "the tracer was to be traced, or its memory or descriptors taken"),
    Fact("uses-bpf", ("tamper",), "bpf(2) was used: a program loaded, attached or reached for"),
    Fact("uses-perf", ("tamper",), "perf_event_open(2) was used"),
    Fact("changes-mounts", ("tamper",), "something was mounted or unmounted where the watch looks"),
    Fact("changes-files", ("tamper",), "a file of the watch was opened for writing, removed or renamed"),
    Fact("at-watch", ("tamper",), "the maps, programs or links reached for are the watch's own"),
    Fact(GPU_NOT_LISTED, ("gpu",), "a compute client that --gpu-user does not name"),
    Fact("gpu-other-executable", ("gpu",), "a compute client with another executable than the first one's"),
    Fact("gpu-other-script", ("gpu",), "the first compute client's interpreter, but another script"),
    Fact("scans-addresses", ("scan",), "many addresses inside were tried in vain"),
    Fact("scans-ports", ("scan",), "many ports of one address inside were tried in vain"),
    Fact("scans-block", ("scan",), "many ports of several addresses inside were tried in vain"),
    Fact("scans-itself", ("scan",), "many ports of this host were tried in vain, over loopback"),
    Fact("by-descendants", ("scan",), "not one process alone has tried, but those that it has started"),
    Fact("by-shell", ("scan",), "the process runs a shell: what it starts one after the other is a loop"),
    Fact("relays-inward", ("relay",), "what comes from outside goes on to a place inside, and back"),
    Fact(
        "relays-outward", ("relay",), "what somebody inside sends here goes on to a place outside, and back"
    ),
    Fact("for-outsiders", ("relay",), "the other end outside opened the connection"),
    Fact("late-relay", ("relay",), "one of the connections is older than the watch"),
    Fact("by-relatives", ("relay",), "one process has the connection outside, a relative the one inside"),
    Fact("writes-keys", ("foothold",), "a file that says who may log in by ssh"),
    Fact("writes-cron", ("foothold",), "a table of cron's or a job of at's"),
    Fact("writes-service", ("foothold",), "a unit of systemd's, or an init script"),
    Fact("writes-startup", ("foothold",), "a file that shells or sessions run when they begin"),
    Fact("writes-preload", ("foothold",), "the list of what the loader puts into every program"),
    Fact("writes-account", ("foothold",), "a file that says who there is, or who may become root"),
    Fact("packaged", ("foothold",), "the system's package manager did it"),
    Fact("linked", ("foothold",), "it became a link to somewhere else"),
    Fact("abstract", ("local",), "the socket's name is no file's"),
    Fact(
        "new-file", ("effort",), "the executable was written since the watch began, or has no name any more"
    ),
    Fact("few-calls", ("effort",), "it computes without asking the system for anything"),
    Fact("thin-flow", ("effort",), "it keeps a connection outside over which little goes, both ways"),
    Fact("thin-flow-inside", ("effort",), "it keeps such a connection to a place inside"),
    Fact("huge-pages", ("effort",), "it has memory in huge pages"),
    Fact(
        "runs-when-told",
        ("session",),
        "what comes in from outside makes the tree run something, again and again",
    ),
    Fact(
        "connects-when-told",
        ("session",),
        "what comes in from outside makes the tree connect, again and again",
    ),
    Fact("shells-when-told", ("session",), "what is run then are shells, or whoever listens is one"),
    Fact("checks-in", ("beacon",), "one place outside is told a little at even intervals"),
    Fact("connects-anew", ("beacon",), "each time over another connection"),
    Fact("keep-alive", ("beacon",), "over one connection, and so little that it only keeps that alive"),
    Fact(
        "names-carry-data",
        ("dns",),
        "many names are asked for below one domain, and long labels are most of each",
    ),
    Fact(
        "odd-types",
        ("dns",),
        "most of them for TXT, NULL, CNAME, MX, SRV or private types, not for an address",
    ),
    Fact("long-labels", ("dns",), "the longest label of each is about as long as a label can be"),
    Fact(
        "preloads",
        ("exec",),
        "its environment puts libraries into it: LD_PRELOAD, LD_AUDIT; and not its parent's",
    ),
    Fact("preloads-memory", ("exec",), "one of these lies in memory only: /dev/shm, /proc, a memfd"),
    Fact(
        "preloads-temporary",
        ("exec",),
        "one of these lies where anybody may write, or where its path does not say",
    ),
    Fact("audits", ("exec",), "they are the loader's auditors: LD_AUDIT"),
    Fact("gpu-first-client", ("gpu",), "the first compute client, presumed to be the job's"),
    Fact("gpu-listed", ("gpu",), "a compute client that --gpu-user or the policy names"),
    Fact(
        "gpu-new-program",
        ("gpu",),
        "its executable, another than the first client's, was written since the watch began, or is in memory only",
    ),
    Fact("gpu-in-tool-call", ("gpu",), "a tool call has started it, and not the first compute client"),
    Fact("gpu-borrowed", ("gpu",), "it drives the device by a descriptor that it has not opened itself"),
    Fact("gpu-tunes", ("gpu",), "clocks, power, fans or modes of the card are to be set, for all who use it"),
    Fact("gpu-job-idle", ("gpu",), "it works on, and the job's own clients have not for long"),
    Fact(
        "gpu-forked-on",
        ("gpu",),
        "a fork of a compute client that has ended works on, and the job's own have not for long",
    ),
    Fact(
        "pings-carry-data",
        ("icmp",),
        "what is sent in pings to one place changes as no ping program changes it",
    ),
    Fact("answers-carry-data", ("icmp",), "what comes back in pings is not what was sent"),
)


def _numbered() -> dict[str, int]:
    spaces = {
        "exec": 0,
        "gpu": 0,
        "file": 0,
        "flow": 0,
        "tamper": 0,
        "scan": 0,
        "relay": 0,
        "foothold": 0,
        "local": 0,
        "effort": 0,
        "session": 0,
        "beacon": 0,
        "dns": 0,
        "icmp": 0,
    }
    numbers = {protocol.name: WORD_BITS + number for number, protocol in enumerate(PROTOCOLS, 1)}
    for fact in FACTS:
        if fact.name not in numbers:
            numbers[fact.name] = spaces[fact.on[0]]
            spaces[fact.on[0]] += 1
    assert len(numbers) == len(FACTS), "two facts of one name"
    assert max(spaces.values()) <= WORD_BITS
    return numbers


#: The signal number of each fact.
FACT_BIT: dict[str, int] = _numbered()
