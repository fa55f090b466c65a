# SPDX-License-Identifier: Apache-2.0
"""What a record will be looked up in, asked for while those before it are handled.

Tables are larger than a processor's cache, and which lines of them a record needs depends on what is in it: handled
one after the other, each would wait for memory several times. Where records are known some way ahead, they come in the
meantime. Nothing is changed by it, and nothing is decided.
"""

from __future__ import annotations

from tracer.engine.ending import FLOW_CLOSE, read_flow_close
from tracer.engine.first import address_words, read_first
from tracer.engine.flows import expect_flow
from tracer.engine.handle import (
    CONNECT,
    FIRST,
    FLOW_OPEN,
    FORK,
    HEAD_BYTES,
    KINDS,
    LEAST,
    read_connect,
    read_flow_open,
    read_fork,
    read_head,
)
from tracer.engine.holders import expect_holder
from tracer.engine.intrinsics import bytes_at, i64, prefetch
from tracer.engine.processes import expect_process
from tracer.engine.relays import FLOW_SAMPLE, expect_carried, read_flow_sample
from tracer.engine.state import State
from tracer.jit import inline_kernel
from tracer.kernel import schema

#: Records are looked at when they are so many bytes behind the one that is handled: some five of them.
NEAR = 768
#: Their own bytes are asked for earlier still: they have been written by another processor, and with all that is looked
#: up for each record ours does not see by itself that it is read in order.
FAR, LINE = 1792, 64

_TCP = 6
assert schema.FLOW_CLOSE.fields is not None
assert schema.FLOW_SAMPLE.fields is not None
_CLOSE_BYTES, _CLOSE_REMOTE = schema.FLOW_CLOSE.itemsize, schema.FLOW_CLOSE.fields["remote"][1]
_SAMPLE_BYTES, _SAMPLE_REMOTE = schema.FLOW_SAMPLE.itemsize, schema.FLOW_SAMPLE.fields["remote"][1]


@inline_kernel
def expect_bytes(address: int, length: int) -> None:
    """As many bytes as this record has will be read, FAR behind it; there may be none."""
    for line in range(0, length, LINE):
        prefetch(address + FAR + line)


@inline_kernel
def expect(state: State, address: int, length: int) -> None:
    """This record will be handled soon. It may say anything."""
    if length < HEAD_BYTES:
        return
    head = read_head(address)
    kind, tgid, start = i64(head.kind), i64(head.tgid), i64(head.start)
    if kind >= KINDS or length < LEAST[kind]:
        return
    expect_process(state.processes, tgid)
    if kind == FORK:
        expect_process(state.processes, i64(read_fork(address).parent_tgid))
    elif kind == CONNECT:
        expect_flow(state.flows, i64(read_connect(address).cookie))
        expect_holder(state.flows.holders, tgid, start)
    elif kind == FLOW_OPEN:
        expect_flow(state.flows, i64(read_flow_open(address).cookie))
        expect_holder(state.flows.holders, tgid, start)
    elif kind == FIRST:
        expect_flow(state.flows, i64(read_first(address).cookie))
        expect_holder(state.flows.holders, tgid, start)
    elif kind == FLOW_CLOSE:
        e = read_flow_close(address)
        expect_flow(state.flows, i64(e.cookie))
        if i64(e.protocol) == _TCP and e.established:
            high, low = address_words(bytes_at(address, i64(_CLOSE_BYTES)), i64(_CLOSE_REMOTE), i64(e.family))
            expect_carried(state, tgid, start, high, low, i64(e.remote_port), i64(e.local_port), i64(e.flags))
    elif kind == FLOW_SAMPLE:
        s = read_flow_sample(address)
        expect_flow(state.flows, i64(s.cookie))
        high, low = address_words(bytes_at(address, i64(_SAMPLE_BYTES)), i64(_SAMPLE_REMOTE), i64(s.family))
        expect_carried(state, tgid, start, high, low, i64(s.remote_port), i64(s.local_port), i64(s.flags))
