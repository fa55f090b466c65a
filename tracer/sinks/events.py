# SPDX-License-Identifier: Apache-2.0
"""Every event, one line each: what ``-v`` prints. Not for storms: here Python touches each record."""

from __future__ import annotations

import errno
import ipaddress
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import numpy as np

from tracer import clock
from tracer.detect.footholds import WHAT_NAME as FOOTHOLD_NAME
from tracer.detect.tamper import WHAT_NAME, bpf_command, signal_name
from tracer.engine.tap import each
from tracer.evidence.programs import local_name, refused_path
from tracer.gpu.names import describe
from tracer.kernel import schema
from tracer.text import command_line, shown

_INET = 2
_PROTOCOL = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_SHOWN_BYTES = 48


def records(tap: bytes) -> Iterator[tuple[np.void, bytes]]:
    """(fixed part, strings behind it) of each record in a tap."""
    for raw in each(tap):
        kind = int(np.frombuffer(raw, schema.HEAD, 1)[0]["kind"])
        layout = schema.LAYOUT[kind]
        yield np.frombuffer(raw, layout, 1)[0], raw[layout.itemsize :]


def _address(raw: Any, port: int, family: int) -> str:
    data = bytes(raw)
    if family == _INET:
        return f"{ipaddress.IPv4Address(data[:4])}:{port}"
    return f"[{ipaddress.IPv6Address(data)}]:{port}"


def _flow(e: np.void) -> str:
    protocol = _PROTOCOL.get(int(e["protocol"]), str(e["protocol"]))
    local = _address(e["local"], int(e["local_port"]), int(e["family"]))
    return f"{protocol} {local} → {_address(e['remote'], int(e['remote_port']), int(e['family']))}"


def _exec(e: np.void, tail: bytes) -> str:
    path = tail[: int(e["path_len"])]
    rest = tail[int(e["path_len"]) + int(e["name_len"]) + int(e["cwd_len"]) :]
    argv = rest[: int(e["args_len"])].removesuffix(b"\0").split(b"\0")
    cut = " …" if e["flags"] & schema.EXEC_FLAG["EXEC_ARGS_CUT"] else ""
    return f"{shown(path)}: {command_line(argv)}{cut}"


def _fork(e: np.void, _tail: bytes) -> str:
    return f"by {e['parent_tgid']}"


def _exit(e: np.void, _tail: bytes) -> str:
    status = int(e["status"])
    return f"killed by signal {status & 0x7F}" if status & 0x7F else f"status {status >> 8 & 0xFF}"


def _connect(e: np.void, _tail: bytes) -> str:
    return _flow(e)


def _listen(e: np.void, _tail: bytes) -> str:
    return _flow(e).partition(" → ")[0]


def _flow_close(e: np.void, _tail: bytes) -> str:
    result = errno.errorcode.get(int(e["error"]), str(e["error"])) if e["error"] else "closed"
    return f"{_flow(e)} {result}, {e['sent']} B out, {e['received']} B in, {e['duration_ns'] / 1e6:.1f} ms"


def _first_bytes(e: np.void, tail: bytes) -> str:
    way = "received" if e["direction"] else "sent"
    late = " (not its beginning)" if e["first_flags"] & schema.FIRST_FLAG["FIRST_LATE"] else ""
    return f"{_flow(e)} {way} {e['len']} B{late}: {shown(tail[:_SHOWN_BYTES])}"


def _file(e: np.void, _tail: bytes) -> str:
    return "its executable has been looked into"


def _tamper(e: np.void, _tail: bytes) -> str:
    words = [WHAT_NAME.get(int(e["what"]), str(e["what"]))]
    if e["what"] == schema.TAMPER_WHAT["TAMPER_FLOOD"]:
        words.append(f"of {schema.KIND_NAME.get(int(e['number']), e['number'])}")
    elif e["what"] == schema.TAMPER_WHAT["TAMPER_BPF"]:
        words.append(bpf_command(int(e["number"])))
    elif e["number"]:
        words.append(signal_name(int(e["number"])))
    if e["target_tgid"]:
        words.append(f"pid {e['target_tgid']}")
    if e["cgroup_to"]:
        words.append(f"to cgroup {e['cgroup_to']}")
    if name := e["name"].tobytes().partition(b"\0")[0]:
        words.append(shown(name))
    if e["tamper_flags"] & schema.TAMPER_FLAG["TAMPER_BY_OUTSIDER"]:
        words.append(f"by pid {e['by_tgid']}")
    return " ".join(words)


def _span(e: np.void, tail: bytes) -> str:
    whose = f"{e['span_tgid']}.{e['span_token']}"
    if e["what"] == schema.SPAN_WHAT["SPAN_END"]:
        return f"{whose} ends"
    above = f" in {e['above_tgid']}.{e['above_token']}" if e["above_token"] else ""
    said = " ".join(shown(pair) for pair in tail[: int(e["len"])].split(b"\0") if pair)
    cut = " …" if e["span_flags"] & schema.SPAN_FLAG["SPAN_CUT"] else ""
    return f"{whose} begins{above}: {said}{cut}"


def _flow_sample(e: np.void, _tail: bytes) -> str:
    return f"{_flow(e)} {e['sent']} B out, {e['received']} B in" if e["cookie"] else "end of a pass"


def _effort(e: np.void, _tail: bytes) -> str:
    if not e["tgid"]:
        return "end of a pass"
    part = int(e["ran_ns"]) / max(int(e["wall_ns"]), 1)
    return f"{part:.1f} of {int(e['cores']) / 1000:g} processors, {e['threads']} threads, {e['calls']} calls"


def _foothold(e: np.void, tail: bytes) -> str:
    return f"{FOOTHOLD_NAME.get(int(e['what']), e['what'])}: {shown(tail[: int(e['path_len'])])}"


def _local_connect(e: np.void, _tail: bytes) -> str:
    return f"to {shown(local_name(e))}"


def _exec_refused(e: np.void, tail: bytes) -> str:
    return f"{shown(refused_path(e, tail))} was not let begin"


def _gpu_open(e: np.void, _tail: bytes) -> str:
    held = ", held before" if int(e["open_flags"]) & schema.GPU_OPEN_FLAG["GPU_HELD"] else ""
    return f"device {e['major']}:{e['minor']}{held}"


def _gpu_libraries(e: np.void, _tail: bytes) -> str:
    bits = int(e["libraries"])
    names = [n.removeprefix("GPU_LIB_").lower() for n, bit in schema.GPU_LIBRARY.items() if bits & bit]
    return f"mapped: {', '.join(names) or 'no driver library'}"


def _gpu_use(e: np.void, _tail: bytes) -> str:
    flags = int(e["use_flags"])
    busy = f"{e['utilisation']} %" if flags & schema.GPU_USE_FLAG["GPU_USE_UTILISATION"] else "? %"
    held = f"{e['memory']} B" if flags & schema.GPU_USE_FLAG["GPU_USE_MEMORY"] else "? B"
    return f"{busy} of a card's time, {held}, on {e['cards']} cards"


def _gpu_ioctl(e: np.void, _tail: bytes) -> str:
    what = describe(int(e["family"]), int(e["nr"]), int(e["code"]), int(e["cmd"]), int(e["flags"]))
    return f"device {e['major']}:{e['minor']} {what}"


def _gpu_counts(e: np.void, tail: bytes) -> str:
    there = len(tail) // schema.GPU_KIND.itemsize  # a recording may say anything
    kinds = np.frombuffer(tail, schema.GPU_KIND, min(int(e["kinds"]), there))
    used = kinds[kinds["count"] > 0]
    parts = [
        f"{describe(int(k['family']), int(k['nr']), int(k['code']))} ×{k['count']}"
        for k in np.sort(used, order="count")[::-1][:8]
    ]
    return ", ".join(parts)


_FORMAT: dict[str, Callable[[np.void, bytes], str]] = {
    "fork": _fork,
    "exec": _exec,
    "exit": _exit,
    "connect": _connect,
    "listen": _listen,
    "flow-open": _connect,
    "flow-close": _flow_close,
    "first-bytes": _first_bytes,
    "file": _file,
    "tamper": _tamper,
    "span": _span,
    "flow-sample": _flow_sample,
    "foothold": _foothold,
    "effort": _effort,
    "local-connect": _local_connect,
    "exec-refused": _exec_refused,
    "gpu-open": _gpu_open,
    "gpu-ioctl": _gpu_ioctl,
    "gpu-libraries": _gpu_libraries,
    "gpu-counts": _gpu_counts,
    "gpu-use": _gpu_use,
}

#: Kinds that say which span the thread is in, or the flow.
_IN_SPAN = {
    schema.KIND_NAME[kind]
    for kind, layout in schema.LAYOUT.items()
    if "span_token" in (layout.names or ()) and kind != schema.KIND["EVENT_SPAN"]
}


def describe_event(e: np.void, tail: bytes) -> str:
    """What is to be said of one event, by its kind."""
    return _FORMAT[schema.KIND_NAME[int(e["kind"])]](e, tail)


def format_event(e: np.void, tail: bytes, began_ns: int) -> str:
    """One line: seconds since ``began_ns``, kind, pid, what."""
    kind = schema.KIND_NAME[int(e["kind"])]
    seconds = (int(e["ts"]) - began_ns) / 1e9
    span = f"  [{e['span_tgid']}.{e['span_token']}]" if kind in _IN_SPAN and e["span_token"] else ""
    return f"{seconds:10.6f} {kind:<10} {e['tgid']:>7} {describe_event(e, tail)}{span}"


class EventPrinter:
    """Prints what the engine has tapped."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._began = clock.boottime_ns()

    def take(self, tap: bytes) -> None:
        """Print the records of one tap."""
        for e, tail in records(tap):
            self._stream.write(format_event(e, tail, self._began) + "\n")
        self._stream.flush()
