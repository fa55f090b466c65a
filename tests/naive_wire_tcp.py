# SPDX-License-Identifier: Apache-2.0
"""Tunnels and services over TCP, for the plain twin."""

from __future__ import annotations

import re

from naive_wire_flow import Flow, big, has


def frp_message(data: bytes) -> bool:
    return has(data, rb'[owv1]\0{6}..\{"')


def tunnel(data: bytes, first: int) -> str | None:
    if frp_message(data) or data.startswith((b"FRP\0\2\r\n", b"\x17\x16\x03")):
        return "frp"
    if len(data) >= 12 and data.startswith(b"\0\2\0\1\0\0\0\0"):
        return "yamux"
    if has(data, rb"\0\x01\0\x01\0\0\0[\x01\x02]\0..."):
        return "frp" if data[12:16] == bytes(4) and frp_message(data[24:]) else "yamux"
    if has(data, rb"[\x01\x02]\x01[\x01-\x09][\0-\x3f]\0{12}.{16}(?!\0{16}).{16}\0{80}"):
        return "gsocket"
    if (
        first == 37
        and len(data) >= 37
        and has(data, rb"[\0\x01]\0\0\0[\0-\x02]")
        and data[5:37].count(0) <= 2
    ):
        return "rathole"
    if gost(data, first):
        return "gost"
    match = re.match(rb"TST(.)\0\0\0(.*)", data, re.DOTALL)
    if (match and len(data) >= 10 and 3 <= match[1][0] <= 20) and (
        not match[2][: match[1][0]].strip(b"0123456789.")
    ):
        return "nps"
    if has(data, rb'..\0{6}\{"Type":"'):
        return "ngrok"
    if data.startswith(b"\0\0SSHUTTLE0001"):
        return "sshuttle"
    return "tailscale" if has(data, b"\1....DERP\xf0\x9f\x94\x91") else None


def gost(data: bytes, first: int) -> bool:
    if len(data) < 8 or data[0] != 1 or data[1] & 15 not in (1, 2, 3):
        return False
    size = big(data[2:4])
    if size < 7 or len(data) < 4 + size or (data[1] & 0x70 and first != 4 + size):
        return False
    rest = data[4 : 4 + size]
    for _ in range(7):
        if len(rest) < 3 or not 1 <= rest[0] <= 4:
            return False
        step = 3 + big(rest[1:3])
        if step > len(rest):
            return False
        rest = rest[step:]
        if not rest:
            return True
    return False


def service(data: bytes, first: int, flow: Flow) -> str | None:
    line = data.partition(b"\n")[0]
    if data.startswith(b"RFB 00"):
        return "vnc"
    if has(data, rb"AMQP[\0-\x03]..."):
        return "amqp"
    banner = len(data) > 4 and has(data, rb"220[ -]")
    if banner:
        if b"SMTP" in line:
            return "smtp"
        if b"FTP" in line:
            return "ftp"
    elif has(data.lower(), rb"(ehlo|helo) "):
        return "smtp"
    elif data[4:].startswith((b"git-upload-pack ", b"git-receive-pack ")):
        return "git"
    elif has(data, rb"\*[0-9]{1,5}\r\n\$"):
        return "redis"
    if len(data) >= 16 and data[4:16] == b"version\0\0\0\0\0":
        return "coin-node"
    if data.startswith(b"\x01\x21\x01\x01\x01\x01\x01\x01"):
        return "coin-node"
    if data.startswith(b"\x13BitTorrent protocol"):
        return "bittorrent"
    if has(data, rb"\xff\0{7}.\x7f"):
        return "zmq"
    if has(data, rb"\xff[\xfb-\xfe][\0-\x3f]"):
        return "telnet"
    if has(data, rb"\x03\0.....") and big(data[2:4]) == first:
        return "rdp" if data[5] in (0xE0, 0xD0) else None
    if has(data, rb"\x10[\x80-\xff]{0,3}.\0(\x04MQTT|\x06MQIsdp)") and mqtt(data):
        return "mqtt"
    if len(data) >= 8 and data[0] == 0:
        length, kind = big(data[:4]), data[4:8]
        if length == 8 and kind in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"):
            return "postgres"
        if kind == b"\0\3\0\0" and 9 <= length <= 10000:
            return "postgres"
    if not flow.client and len(data) >= 8 and has(data, rb"...\0\x0a[0-9]"):
        length = int.from_bytes(data[:3], "little")
        if length and length + 4 == first:
            return "mysql"
    return None


def mqtt(data: bytes) -> bool:
    at = 1
    while at < min(len(data), 4) and data[at] >= 0x80:
        at += 1
    return data[at + 1 :].startswith((b"\0\4MQTT", b"\0\6MQIsdp"))


def shell(data: bytes, first: int) -> bool:
    line = data.partition(b"\n")[0][:200]
    complaints = (
        b": no job control in this shell",
        b": cannot set terminal process group (",
        b": can't access tty; job control turned off",
    )
    if any(complaint in line for complaint in complaints):
        return True
    if line.startswith(b"uid=") and b" gid=" in line:
        return True
    return re.fullmatch(rb"(sh-.{0,35}|bash-.{0,33}|)[$#] ", data[:first], re.DOTALL) is not None


def balanced(data: bytes) -> bool:
    size = len(data)
    if size < 48:
        return False
    ones = sum(byte.bit_count() for byte in data)
    text = re.findall(rb"[ -~\t\r\n]+", data)
    pairs = sum(data[at - 1] == data[at] == 0 for at in range(1, size))
    excess = 1000 * sum(map(len, text)) - 383 * size
    return (
        (ones - 4 * size) ** 2 <= 32 * size
        and (excess <= 0 or excess**2 <= 16 * 236_000 * size)
        and max(map(len, text), default=0) < 16
        and pairs <= 1
    )


def begins_as_text(data: bytes) -> bool:
    return has(data, rb"[ -~\t\r\n]{4}")
