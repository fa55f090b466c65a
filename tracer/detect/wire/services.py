# SPDX-License-Identifier: Apache-2.0
"""What else is met on TCP and told cheaply and surely; most of it is harmless."""

from __future__ import annotations

from tracer.detect.names import Bytes, Ints, byte_at
from tracer.detect.wire.protocols import PROTOCOL, UNKNOWN
from tracer.detect.wire.spans import (
    by_client,
    found,
    line_end,
    starts,
    starts_folded,
    u16,
    u24,
    u32,
    word,
    zeros,
)
from tracer.jit import kernel

COIN, REDIS, POSTGRES, MYSQL, MQTT, AMQP, SMTP, FTP, GIT, RDP, VNC, TELNET, ZMQ, BITTORRENT, SHELL = (
    PROTOCOL[name]
    for name in (
        "coin-node",
        "redis",
        "postgres",
        "mysql",
        "mqtt",
        "amqp",
        "smtp",
        "ftp",
        "git",
        "rdp",
        "vnc",
        "telnet",
        "zmq",
        "bittorrent",
        "shell",
    )
)
_BITCOIN = word(b"version\0\0\0\0\0")  # after four bytes that say which coin
_LEVIN = word(b"\x01\x21\x01\x01\x01\x01\x01\x01")  # Monero and its kin
_RFB, _AMQP, _BITTORRENT = word(b"RFB 00"), word(b"AMQP"), word(b"\x13BitTorrent protocol")
_GIT_UPLOAD, _GIT_RECEIVE = word(b"git-upload-pack "), word(b"git-receive-pack ")
_MQTT, _MQTT_OLD = word(b"\0\4MQTT"), word(b"\0\6MQIsdp")
_READY, _SMTP, _FTP, _EHLO, _HELO = word(b"220"), word(b"SMTP"), word(b"FTP"), word(b"ehlo "), word(b"helo ")
_POSTGRES_3, _POSTGRES_TLS, _POSTGRES_GSS = 0x00030000, 0x04D2162F, 0x04D21630

_NO_JOBS, _NO_GROUP, _NO_TTY = (
    word(b": no job control in this shell"),
    word(b": cannot set terminal process group ("),
    word(b": can't access tty; job control turned off"),
)
_ROOT_ID, _USER_ID = word(b"uid="), word(b" gid=")
_SH, _BASH = word(b"sh-"), word(b"bash-")
_PROMPT_MAX = 40
_LINE_MAX = 200


@kernel
def _is_prompt(data: Bytes, lo: int, hi: int) -> bool:
    """What sh and bash put before a command: "sh-5.2$ ", "bash-5.2# ", or "$ " and "# " alone."""
    if not 2 <= hi - lo <= _PROMPT_MAX or data[hi - 1] != 32 or (data[hi - 2] != 36 and data[hi - 2] != 35):
        return False
    return hi - lo == 2 or starts(data, lo, hi, _SH) or starts(data, lo, hi, _BASH)


@kernel
def shell(data: Bytes, lo: int, hi: int, first: int) -> bool:
    """Whether a shell speaks that has a socket where its terminal should be; ``first``: how much came
    in one piece, which a prompt does.
    """
    end = min(line_end(data, lo, hi), lo + _LINE_MAX)
    if (
        found(data, lo, end, _NO_JOBS) >= 0
        or found(data, lo, end, _NO_GROUP) >= 0
        or found(data, lo, end, _NO_TTY) >= 0
        or (starts(data, lo, end, _ROOT_ID) and found(data, lo, end, _USER_ID) >= 0)
    ):
        return True
    return _is_prompt(data, lo, min(hi, lo + first))


@kernel
def _text(data: Bytes, lo: int, hi: int) -> int:
    """Of those that begin with text."""
    if starts(data, lo, hi, _RFB):
        return VNC
    if starts(data, lo, hi, _AMQP) and hi - lo >= 8 and data[lo + 4] <= 3:
        return AMQP
    if starts(data, lo, hi, _READY) and hi - lo > 4 and (data[lo + 3] == 32 or data[lo + 3] == 45):
        end = line_end(data, lo, hi)
        if found(data, lo, end, _SMTP) >= 0:
            return SMTP
        return FTP if found(data, lo, end, _FTP) >= 0 else UNKNOWN
    if starts_folded(data, lo, hi, _EHLO) or starts_folded(data, lo, hi, _HELO):
        return SMTP
    if starts(data, lo + 4, hi, _GIT_UPLOAD) or starts(data, lo + 4, hi, _GIT_RECEIVE):
        return GIT
    if data[lo] == 42:  # "*2\r\n$4\r\n": an array of so many strings
        at = lo + 1
        while at < min(hi, lo + 6) and 48 <= data[at] <= 57:
            at += 1
        if lo + 1 < at and at + 2 < hi and data[at] == 13 and data[at + 1] == 10 and data[at + 2] == 36:
            return REDIS
    return UNKNOWN


@kernel
def _binary(data: Bytes, lo: int, hi: int, first: int, look: Ints) -> int:
    """Of those that do not."""
    size = hi - lo
    lead = data[lo]
    if size >= 16 and starts(data, lo + 4, hi, _BITCOIN):
        return COIN
    if starts(data, lo, hi, _LEVIN):
        return COIN
    if starts(data, lo, hi, _BITTORRENT):
        return BITTORRENT
    if lead == 0xFF and size >= 10 and data[lo + 9] == 0x7F and zeros(data, lo + 1, lo + 8):
        return ZMQ
    if lead == 0xFF and size >= 3 and 0xFB <= data[lo + 1] <= 0xFE and data[lo + 2] < 0x40:
        return TELNET
    if lead == 3 and size >= 7 and data[lo + 1] == 0 and u16(data, lo + 2) == first:
        return RDP if data[lo + 5] == 0xE0 or data[lo + 5] == 0xD0 else UNKNOWN
    if lead == 0x10:
        at = lo + 1
        while at < min(hi, lo + 4) and data[at] >= 0x80:
            at += 1
        if starts(data, at + 1, hi, _MQTT) or starts(data, at + 1, hi, _MQTT_OLD):
            return MQTT
    if size >= 8 and lead == 0:
        length, kind = u32(data, lo), u32(data, lo + 4)
        if length == 8 and (kind == _POSTGRES_TLS or kind == _POSTGRES_GSS):
            return POSTGRES
        if kind == _POSTGRES_3 and 9 <= length <= 10000:
            return POSTGRES
    if size >= 8 and not by_client(look) and data[lo + 3] == 0 and data[lo + 4] == 10:
        length = lead | byte_at(data, lo + 1) << 8 | byte_at(data, lo + 2) << 16
        if length + 4 == first and 48 <= data[lo + 5] <= 57 and u24(data, lo) != 0:
            return MYSQL
    return UNKNOWN


@kernel
def service(data: Bytes, lo: int, hi: int, first: int, look: Ints) -> int:
    """What ``data[lo:hi]`` begins, or UNKNOWN; ``first``: how much came in one piece."""
    protocol = _text(data, lo, hi)
    return protocol if protocol != UNKNOWN else _binary(data, lo, hi, first, look)
