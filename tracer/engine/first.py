# SPDX-License-Identifier: Apache-2.0
"""What connections and first bytes do to the state, and which rules they fire.

A flow gathers signals over all its packets and both directions, so that a rule may ask for what was
sent and what was received. It tells each rule once, and again only with a higher severity.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tracer.detect.facts import FACT_BIT, WORD_BITS, WORDS
from tracer.detect.program import IS_FOR_GIT, IS_INTERPRETER, IS_SHELL, IS_SSH
from tracer.detect.sessions import HANDSHAKE
from tracer.detect.wire import spans
from tracer.detect.wire.dns import dns_answers
from tracer.detect.wire.protocols import PROTOCOL, trait
from tracer.engine.address import call_at
from tracer.engine.dns_names import judge_domain, note_question
from tracer.engine.flows import NONE as NO_FLOW
from tracer.engine.flows import RULES_TOLD, Flows, forget, forget_rules, is_found_out, open_flow, speaks
from tracer.engine.intrinsics import bytes_at, i64, record_reader
from tracer.engine.names import Names, find_name, learn_name, worth_of
from tracer.engine.pings import is_echo, judge_ping, note_ping
from tracer.engine.processes import NONE, Processes
from tracer.engine.state import IDENTIFY, RECORD_BYTES, SCRATCH, State
from tracer.jit import inline_kernel, njit
from tracer.kernel import schema
from tracer.rules.automaton import Automaton
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON_CONNECT, ON_FLOW, ON_LISTEN, WHERE_HOST, WHERE_RECEIVED, WHERE_SENT
from tracer.rules.numbers import SPACE_NETWORK, SPACE_PORT
from tracer.rules.ranges import Ranges, add_signals
from tracer.rules.scan import scan
from tracer.rules.table import RuleTable

read_first = record_reader(schema.FIRST_BYTES)
FIRST_BYTES = schema.FIRST_BYTES.itemsize

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

# Bits of PROCESS.net
HOLDS_SSH = 1 << 0  # it has opened a flow that turned out to be SSH
CONNECTED_OUTSIDE = 1 << 2  # over TCP, at some time
LOCAL_TOLD = 8  # from this bit on: 1 + the rank of what was told of its UNIX connections
TRIED_IN_VAIN = 1 << 1  # it, or one below it, has: see tracer.detect.netscan

_INET = 2
_TCP = 6
_FLAG_ACCEPTED = schema.FLOW_FLAG["FLOW_ACCEPTED"]
_FLAG_LATE = schema.FLOW_FLAG["FLOW_LATE"]
_DNS = PROTOCOL["dns"]
_PORT_DNS = 53
_SSH = PROTOCOL["ssh"]
_ANSWER = trait("dns-response")
_TLS_HANDSHAKE, _TLS_HEADER, _CLIENT_HELLO = 22, 5, 1
_EXTERNAL, _INTERNAL, _LOOPBACK, UNRESOLVED, _ACCEPTED, _LATE, _DATAGRAMS = (
    1 << FACT_BIT[name]
    for name in ("external", "internal", "loopback", "unresolved", "accepted", "late", "datagrams")
)
_BY_INTERPRETER, _BY_SSH, _FOR_GIT, _SSH_PIVOT = (
    1 << FACT_BIT[name] for name in ("by-interpreter", "by-ssh", "for-git", "ssh-pivot")
)
assert FACT_BIT["tls"] == WORD_BITS + PROTOCOL["tls"], "a protocol's number is its bit in word 1"


@njit
def address_words(address: Bytes, at: int, family: int) -> tuple[int, int]:
    """An address as two words, IPv4 mapped into ::ffff:0:0/96."""
    high, low = i64(0), i64(0)
    if family == _INET:
        for i in range(4):
            low = low << 8 | i64(address[at + i])
        return high, low | i64(0xFFFF) << 32
    for i in range(8):
        high = high << 8 | i64(address[at + i])
        low = low << 8 | i64(address[at + 8 + i])
    return high, low


@njit
def remote_signals(
    high: int,
    low: int,
    port: int,
    protocol: int,
    flags: int,
    now: int,
    ranges: Ranges,
    names: Names,
    automaton: Automaton,
    signals: Ints,
) -> None:
    """Add what the other end's address, name and port say."""
    add_signals(ranges, i64(SPACE_NETWORK), high, low, signals)
    add_signals(ranges, i64(SPACE_PORT), i64(0), protocol << 16 | port, signals)
    name = find_name(names, high, low, now)
    if name >= 0:
        scan(names.texts[name], i64(0), names.lengths[name], i64(WHERE_HOST), automaton, signals)
    if signals[0] & (_INTERNAL | _LOOPBACK) == 0:
        signals[0] |= _EXTERNAL
        if name < 0:
            signals[0] |= UNRESOLVED
    if flags & _FLAG_ACCEPTED:
        signals[0] |= _ACCEPTED
    if flags & _FLAG_LATE:
        signals[0] |= _LATE
    if protocol != _TCP:
        signals[0] |= _DATAGRAMS


@inline_kernel
def place_of(state: State, high: int, low: int) -> int:
    """Where an address is. 0: inside, 1: this host, -1: neither."""
    state.signals[:] = 0
    add_signals(state.ranges, i64(SPACE_NETWORK), high, low, state.signals)
    if state.signals[0] & _LOOPBACK:
        return 1
    return 0 if state.signals[0] & _INTERNAL else -1


@njit
def owner_signals(p: Processes, entry: int, signals: Ints) -> None:
    """Add what the process says that holds the flow."""
    if entry == NONE or p.table[entry].image == NONE:
        return
    bits = p.images[p.table[entry].image].program
    if bits & (IS_SHELL | IS_INTERPRETER):
        signals[0] |= _BY_INTERPRETER
    if bits & IS_SSH:
        signals[0] |= _BY_SSH
    if bits & IS_FOR_GIT:
        signals[0] |= _FOR_GIT
    # forwarded over SSH, what comes from outside goes on from here
    if p.table[entry].net & HOLDS_SSH and signals[0] & (_INTERNAL | _LOOPBACK):
        signals[0] |= _SSH_PIVOT


@njit
def gravest_news(f: Flows, entry: int, rules: RuleTable, fired: Ints, count: int) -> int:
    """1 + the rank of the severest alternative of a rule that this flow has not been told of; 0: none is news."""
    for place in range(count):
        rule, grade = rules.rule[fired[place]], rules.severity[fired[place]] + 1
        if rule >= RULES_TOLD or i64(f.table[entry].told[rule]) < grade:
            return grade
    return 0


@njit
def only_news(f: Flows, entry: int, rules: RuleTable, fired: Ints, count: int) -> int:
    """Strike off the alternatives of rules that this flow has been told of; how many are left."""
    left = 0
    for place in range(count):
        row = fired[place]
        rule = rules.rule[row]
        if rule < RULES_TOLD:
            rank = rules.severity[row] + 1
            if i64(f.table[entry].told[rule]) >= rank:
                continue
            f.table[entry].told[rule] = rank
        fired[left] = row
        left += 1
    return left


@njit
def keep_record(record: Bytes, data: Bytes) -> None:
    """Leave the event that fired for Python to describe."""
    for at in range(min(len(data), RECORD_BYTES)):
        record[at] = data[at]


@inline_kernel
def judge_connect(
    state: State, entry: int, high: int, low: int, port: int, protocol: int, flags: int, now: int
) -> int:
    """Which rules a connect (or a first datagram) fires; how many of state.fired. What the probe has found
    by the same rules is in ``state.signals``: it may know a name that there was no room for here, and what
    it acts on must be told.
    """
    s = state.signals
    remote_signals(high, low, port, protocol, flags, now, state.ranges, state.names, state.automaton, s)
    owner_signals(state.processes, entry, s)
    return evaluate(i64(ON_CONNECT), s, state.rules, state.fired)


@inline_kernel
def judge_listen(state: State, high: int, low: int, port: int, protocol: int) -> int:
    """Which rules a socket fires that listens at an address; how many of state.fired."""
    s = state.signals
    s[:] = 0
    # at no address in particular: at all of them
    if not (high == 0 and (low == 0 or low == i64(0xFFFF) << 32)):
        add_signals(state.ranges, i64(SPACE_NETWORK), high, low, s)
    add_signals(state.ranges, i64(SPACE_PORT), i64(0), protocol << 16 | port, s)
    if s[0] & (_INTERNAL | _LOOPBACK) == 0:
        s[0] |= _EXTERNAL
    if protocol != _TCP:
        s[0] |= _DATAGRAMS
    return evaluate(i64(ON_LISTEN), s, state.rules, state.fired)


@inline_kernel
def _learn_names(state: State, tgid: int, start: int, data: Bytes, hi: int, transport: int, now: int) -> None:
    count, length = dns_answers(data, i64(FIRST_BYTES), hi, transport, state.text, state.answers)
    if count == 0:
        return
    worth = worth_of(state.text, length, state.automaton, state.signals)
    for i in range(count):
        family = _INET if state.answers[i, 1] == 4 else 0
        high, low = address_words(data, state.answers[i, 0], i64(family))
        learn_name(state.names, tgid, start, high, low, state.text, length, worth, state.answers[i, 2], now)


@njit
def _opening(data: Bytes, lo: int, hi: int, more: int) -> int:
    """Bytes that whoever opens a stream so says in TLS's handshake: its ClientHello and so many ``more``; 0 if it is
    none.
    """
    if hi - lo < 6 or data[lo] != _TLS_HANDSHAKE or data[lo + 1] != 3 or data[lo + 5] != _CLIENT_HELLO:
        return 0
    return _TLS_HEADER + (i64(data[lo + 3]) << 8 | i64(data[lo + 4])) + more


@inline_kernel
def on_first(state: State, entry: int, address: int, length: int) -> int:
    """Look at a flow's first bytes; how many rules of state.fired they fire."""
    e = read_first(address)
    lo, hi = i64(FIRST_BYTES), i64(FIRST_BYTES) + i64(e.len)
    if hi > length:
        state.malformed[0] += 1
        return 0
    data = bytes_at(address, length)
    who, start = i64(e.tgid), i64(e.start)
    now, transport = i64(e.ts), i64(e.protocol)
    here = i64(e.direction) & 1
    there = 1 - here
    flows = open_flow(state.flows, i64(e.cookie), who, start)
    remembered = flows != NO_FLOW
    if remembered:
        speaks(state.flows, flows, now)
    else:  # judged all the same, without a memory
        flows = i64(len(state.flows.table)) - 1
        forget(state.flows, flows)
    f = state.flows.table[flows]
    if f.epoch != state.epoch[0]:
        forget_rules(state.flows, flows)
    if transport != _TCP:  # each datagram is judged by itself
        state.flows.signals[flows] = 0
    f.epoch = state.epoch[0]
    if f.spoke == 0:
        f.spoke = 1 + here
    f.first[here] = i64(e.first)
    if here == spans.SENT and f.opening == 0 and transport == _TCP:
        f.opening = _opening(data, lo, hi, state.sessions.limits[HANDSHAKE])

    look, out = state.look, state.found
    look[spans.DIRECTION] = here
    look[spans.TRANSPORT] = transport
    look[spans.REMOTE_PORT] = i64(e.remote_port)
    look[spans.LOCAL_PORT] = i64(e.local_port)
    look[spans.ACCEPTED] = 1 if e.flags & _FLAG_ACCEPTED else 0
    look[spans.FIRST] = i64(e.first)
    look[spans.WHOLE] = hi - lo
    look[spans.OTHER_PROTOCOL] = f["is"][there]
    look[spans.OTHER_FIRST] = f.first[there]
    look[spans.OTHER_SPOKE_FIRST] = 1 if f.spoke == 1 + there else 0
    look[spans.OTHER_TRAITS] = f.traits[there]
    kind = call_at(state.calls[IDENTIFY], state.calls[SCRATCH], address, lo << 32 | hi)
    f["is"][here] = kind
    if kind == _SSH and entry != NONE and look[spans.ACCEPTED] == 0:
        state.processes.table[entry].net |= HOLDS_SSH
    f.traits[here] = out[spans.TRAITS]

    signals = state.flows.signals[flows]
    if i64(e.epoch) == state.epoch[0]:
        for word in range(WORDS):
            signals[word] |= i64(e.signals[word])
    else:
        where = WHERE_SENT if here == spans.SENT else WHERE_RECEIVED
        scan(data, lo, hi, i64(where), state.automaton, signals)
    if out[spans.HOST_IN] == spans.IN_DATA:
        scan(data, out[spans.HOST_LO], out[spans.HOST_HI], i64(WHERE_HOST), state.automaton, signals)
    elif out[spans.HOST_IN] == spans.IN_TEXT:
        scan(state.text, out[spans.HOST_LO], out[spans.HOST_HI], i64(WHERE_HOST), state.automaton, signals)
    signals[0] = f.traits[here]
    signals[1] = 0
    if kind != 0:
        signals[1] |= i64(1) << kind
    if transport == _TCP:
        signals[0] |= f.traits[there]
        if f["is"][there] != 0:
            signals[1] |= i64(1) << f["is"][there]
    high, low = address_words(data, _REMOTE_AT, i64(e.family))
    remote_signals(
        high, low, i64(e.remote_port), transport, i64(e.flags), now,
        state.ranges, state.names, state.automaton, signals,
    )  # fmt: skip
    owner_signals(state.processes, entry, signals)
    # a policy may allow places by name: not by the word of whoever listens at just any port
    asked = i64(e.remote_port) == _PORT_DNS and look[spans.ACCEPTED] == 0
    if kind == _DNS and asked and here == spans.RECEIVED and out[spans.TRAITS] & _ANSWER:
        _learn_names(state, who, start, data, hi, transport, now)
    domain = i64(-1)
    if kind == _DNS and asked and here == spans.SENT and out[spans.HOST_IN] == spans.IN_TEXT:
        domain = note_question(
            state, who, start, data, lo, hi, transport, out[spans.HOST_LO], out[spans.HOST_HI], now
        )
    pinged = i64(-1)
    if is_echo(transport, i64(e.icmp_type)):
        pinged = note_ping(state, who, start, high, low, here, data, lo, hi, i64(e.first), now)
    count = evaluate(i64(ON_FLOW), signals, state.rules, state.fired)
    if count and remembered:
        is_found_out(state.flows, flows)
    if i64(e.done) == 0 and (domain >= 0 or pinged >= 0):  # where a probe has acted, that is told, and why
        # what many datagrams come to goes before what each of them is, unless that is graver: a lesser alert of each
        # would hide it
        grade = gravest_news(state.flows, flows, state.rules, state.fired, count)
        if domain >= 0:
            summed = judge_domain(state, domain, grade)
        else:
            summed = judge_ping(state, pinged, signals, grade)
        if summed:
            keep_record(state.record, data)
            return summed
        if count:  # state.fired was written to
            count = evaluate(i64(ON_FLOW), signals, state.rules, state.fired)
    count = only_news(state.flows, flows, state.rules, state.fired, count)
    if count:
        for word in range(WORDS):
            state.signals[word] = signals[word]
    if count:
        keep_record(state.record, data)
    return count


assert schema.FIRST_BYTES.fields is not None
_REMOTE_AT = schema.FIRST_BYTES.fields["remote"][1]
