# SPDX-License-Identifier: Apache-2.0
"""The facts that code finds out about an event, by name: what rules refer to as ``@name``.

A *signal* is one bit that rules combine: either a fact from this table, or an indicator group of a
rule file that matched. Facts come first, so a fact's signal number is its place in this table.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Bits used of each signal word: 63, so that a word stays a positive int64.
WORD_BITS = 63
#: Words in a set of signals; word 0 holds the facts.
WORDS = 5


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing the engine can say about an event of kind ``on``."""

    name: str
    on: str
    meaning: str


FACTS: tuple[Fact, ...] = (
    Fact("memfd", "exec", "the program lives in memory only (memfd)"),
    Fact("deleted", "exec", "the program's file has been deleted"),
    Fact("script", "exec", "the kernel ran the interpreter of a #! line"),
    Fact("setid", "exec", "the program is set-uid or set-gid"),
    Fact("stdin-socket", "exec", "standard input is a socket"),
    Fact("stdout-socket", "exec", "standard output is a socket"),
    Fact("args-cut", "exec", "not all arguments were captured: too long, or not in memory"),
    Fact("shell-command", "exec", "a shell that is given its commands as an argument (sh -c)"),
    Fact("inline-code", "exec", "an interpreter that is given its program as an argument (python -c)"),
    Fact("ssh-reverse", "exec", "ssh -R: the far side reaches an address on our side"),
    Fact("ssh-reverse-socks", "exec", "ssh -R with a port alone: the far side may reach anything"),
    Fact("ssh-local", "exec", "ssh -L: a local port leads to the far side"),
    Fact("ssh-dynamic", "exec", "ssh -D: a local SOCKS proxy leads to the far side"),
    Fact("ssh-tun", "exec", "ssh -w: a network interface leads to the far side"),
    Fact("ssh-stdio", "exec", "ssh -W: standard input and output lead through the far side"),
    Fact("wallet", "exec", "an argument holds a wallet address"),
    Fact("pool-address", "exec", "an argument holds the scheme+transport://host:port of a mining pool"),
    Fact("gpu-not-listed", "gpu", "a compute client that --gpu-user does not name"),
    Fact("gpu-other-executable", "gpu", "a compute client with another executable than the first one's"),
    Fact("gpu-other-script", "gpu", "the first compute client's interpreter, but another script"),
)

FACT_BIT: dict[str, int] = {fact.name: bit for bit, fact in enumerate(FACTS)}

assert len(FACTS) <= WORD_BITS
