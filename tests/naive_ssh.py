# SPDX-License-Identifier: Apache-2.0
"""The plainest Python for the forwards that an ssh command line opens: written from ssh's sources and
manual, not from the kernels, and never fast.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Of the names of ports, those that the tests use.
SERVICES = {"ssh", "http", "https", "socks"}


class Refused(Exception):  # noqa: N818 - said by ssh, not by us
    """ssh would say what is wrong and exit."""


def number(text: str, most: int) -> int | None:
    match = re.fullmatch(r"[ \t-\r]*([+-]?)([0-9]+)", text, re.ASCII)
    if not match:
        return None
    value = int(match[2]) * (-1 if match[1] == "-" else 1)
    return value if 0 <= value <= most else None


def port(text: str) -> int | None:
    if "\1" in text:
        return 1 if re.fullmatch("[0-9\1]+", text) else None
    value = number(text, 65535)
    return 1 if value is None and text in SERVICES else value


def fields(spec: str) -> list[tuple[str, bool]]:
    """The parts of a forwarding specification, and whether each has a slash that counts."""
    if "${" in re.sub(r"\$\{[^}]+\}", "", spec):
        raise Refused
    spec = re.sub(r"\$\{[^}]+\}", "\1", spec).lstrip(" \t\n\v\f\r")
    found: list[tuple[str, bool]] = []
    while spec and len(found) < 4:
        if spec[0] == "[":
            match = re.match(r"\[([^]]*)\](:|$)", spec, re.DOTALL)
            if not match or (match[2] == "" and match.end() != len(spec)):
                raise Refused
            found.append((match[1], "/" in match[1]))
            spec = spec[match.end() :]
            continue
        text, slash, rest = "", False, list(spec)
        while rest:
            byte = rest.pop(0)
            if byte == ":":
                break
            if byte == "\\":
                if not rest:
                    if text:
                        raise Refused
                    return found
                text += rest.pop(0)
                continue
            slash |= byte == "/"
            text += byte
        found.append((text, slash))
        spec = "".join(rest)
    if spec or not found:
        raise Refused
    return found


def fits(text: str, path: bool) -> None:
    if len(text) >= (108 if path else 1025):
        raise Refused


def forward(spec: str, socks: bool, remote: bool) -> tuple[str, str | None]:
    """(listens on, connects to): "port", "host" or "path"; None stands for SOCKS."""
    parts = fields(spec)
    names = [text for text, _ in parts]
    slash = [path for _, path in parts]
    host = where = to = None
    listen: str | None = None
    connect: str | None = None
    match parts:
        case [_]:
            where, listen = (names[0], "path") if slash[0] else (names[0], "port")
        case [_, _] if slash[0] and slash[1]:
            where, listen, to, connect = names[0], "path", names[1], "path"
        case [_, _] if slash[1]:
            where, listen, to, connect = names[0], "port", names[1], "path"
        case [_, _]:
            host, where, listen = names[0], names[1], "host"
        case [_, _, _] if slash[0]:
            where, listen, to, connect = names[0], "path", names[1], "host"
        case [_, _, _] if slash[2]:
            host, where, listen, to, connect = names[0], names[1], "host", names[2], "path"
        case [_, _, _]:
            where, listen, to, connect = names[0], "port", names[1], "host"
        case _:
            host, where, listen, to, connect = names[0], names[1], "host", names[2], "host"
    if socks and len(parts) > 2:
        raise Refused
    if not socks and connect is None:
        raise Refused
    if connect == "host" and not port(names[-1]):
        raise Refused
    if listen != "path":
        listening = port(where)
        if listening is None or (listening == 0 and not remote):
            raise Refused
    else:
        fits(where, True)
    if host is not None:
        fits(host, False)
    if to is not None:
        fits(to, connect == "path")
    assert listen
    return listen, connect


def tun(text: str) -> None:
    for part in text.split(":", 1):
        if part.lower() != "any" and number(part, 0x7FFFFFFD) is None:
            raise Refused


class Ssh:
    """What the options of a command line add up to."""

    def __init__(self) -> None:
        self.forwards: set[str] = set()
        self.tunnel: bool | None = None
        self.clear: bool | None = None
        self.command: str | None = None
        self.stdio = self.stdio_path = False

    def remote(self, spec: str) -> None:
        try:
            self.remote_address(spec)
        except Refused:
            self.remote_socks(spec)

    def remote_address(self, spec: str) -> None:
        forward(spec, False, True)
        self.forwards.add("ssh-reverse")

    def remote_socks(self, spec: str) -> None:
        _, connect = forward(spec, True, True)
        self.forwards.add("ssh-reverse" if connect else "ssh-reverse-socks")

    def local(self, spec: str) -> None:
        forward(spec, False, False)
        self.forwards.add("ssh-local")

    def dynamic(self, spec: str) -> None:
        _, connect = forward(spec, True, False)
        self.forwards.add("ssh-local" if connect else "ssh-dynamic")

    def option(self, letter: str, value: str) -> None:
        match letter:
            case "R":
                self.remote(value)
            case "L":
                self.local(value)
            case "D":
                self.dynamic(value)
            case "w":
                tun(value)
                if self.tunnel is None:
                    self.tunnel = True
            case "W":
                if self.stdio or self.command:
                    raise Refused
                listen, _ = forward(value, True, False)
                self.stdio = listen == "host"
                self.stdio_path |= listen == "path"
            case "O":
                if self.stdio or self.command:
                    raise Refused
                self.command = value
            case "o":
                self.line(value)

    def line(self, text: str) -> None:
        text = text[:1] + text[1:].rstrip(" \t\r\n\f")
        keyword, rest = word(text)
        if keyword == "" and rest is not None:
            keyword, rest = word(rest)
        if not keyword or keyword.startswith("#"):
            return
        if not rest or not rest.lstrip(" \t\r\n"):
            raise Refused
        arguments = split(rest)
        match keyword.lower():
            case "remoteforward":
                self.joined(arguments, self.remote_address, self.remote_socks)
            case "localforward":
                self.joined(arguments, self.local, None)
            case "dynamicforward":
                if len(arguments) != 1 or not arguments[0]:
                    raise Refused
                self.dynamic(arguments[0][:255])
            case "tunnel":
                if len(arguments) != 1:
                    raise Refused
                states = dict.fromkeys(("yes", "true", "ethernet", "point-to-point"), True)
                states |= dict.fromkeys(("no", "false"), False)
                if arguments[0].lower() not in states:
                    raise Refused
                if self.tunnel is None:
                    self.tunnel = states[arguments[0].lower()]
            case "tunneldevice":
                if len(arguments) != 1:
                    raise Refused
                tun(arguments[0])
            case "clearallforwardings":
                if len(arguments) != 1 or arguments[0].lower() not in ("yes", "no", "true", "false"):
                    raise Refused
                if self.clear is None:
                    self.clear = arguments[0].lower() in ("yes", "true")

    @staticmethod
    def joined(arguments: list[str], two, one) -> None:
        if not arguments or not arguments[0] or len(arguments) > 2:
            raise Refused
        if len(arguments) == 2 and arguments[1]:
            two(f"{arguments[0]}:{arguments[1]}"[:255])
        elif one:
            one(arguments[0][:255])
        else:
            raise Refused

    def facts(self) -> frozenset[str]:
        if self.command not in (None, "forward", "proxy"):
            return frozenset()
        found = set(self.forwards)
        if self.tunnel and self.command != "forward":
            found.add("ssh-tun")
        if self.clear or (self.clear is None and self.stdio):
            found.clear()
        if self.stdio or self.stdio_path:
            found.add("ssh-stdio")
        return frozenset(found)


def word(text: str) -> tuple[str | None, str | None]:
    """The first word of a configuration line and the rest; None for one that is missing."""
    match = re.search(r'[ \t\r\n"=]', text)
    if not match:
        return text, None
    at = match.start()
    if match[0] == '"':
        closing = text.find('"', at + 1)
        if closing < 0:
            return None, None
        return text[:at] + text[at + 1 : closing], text[closing + 1 :].lstrip(" \t\r\n")
    rest = text[at + 1 :].lstrip(" \t\r\n")
    if match[0] != "=" and rest.startswith("="):
        rest = rest[1:].lstrip(" \t\r\n")
    return text[:at], rest


def split(text: str) -> list[str]:
    """The arguments of a configuration line, unquoted."""
    found: list[str] = []
    rest = text.lstrip(" \t\r\n")
    while rest := rest.lstrip(" \t"):
        if rest[0] == "#":
            break
        token = re.match(
            r"""(\\['"\\ ]|\\(?!['"\\ ])|[^\\"' \t]|"(\\["'\\]|\\(?!["'\\])|[^"\\])*"|"""
            r"""'(\\["'\\]|\\(?!["'\\])|[^'\\])*')+""",
            rest,
            re.DOTALL,
        )
        if not token or (token.end() < len(rest) and rest[token.end()] not in " \t"):
            raise Refused
        found.append(unquoted(token[0]))
        rest = rest[token.end() :]
    return found


def unquoted(token: str) -> str:
    quote, text, escaped = "", "", False
    for at, byte in enumerate(token):
        if escaped:
            text, escaped = text + byte, False
        elif byte == "\\" and token[at + 1 : at + 2] in (set("'\"\\") if quote else set("'\"\\ ")):
            escaped = True
        elif byte == quote:
            quote = ""
        elif not quote and byte in "'\"":
            quote = byte
        else:
            text += byte
    return text


def ssh(argv: Sequence[bytes]) -> frozenset[str]:
    """The ssh-* facts of a command line, for OpenSSH 9.4 and later and for those before it."""
    words = [argument.decode("latin-1") for argument in argv]
    flags, values = "246ACKMNTXYafgknqstvxy", "BDEFIJLORSWbceilmopw"
    return _ssh(words, flags, values + "P") or _ssh(words, flags + "P", values)


def _ssh(argv: list[str], flags: str, values: str) -> frozenset[str]:
    found = Ssh()
    try:
        return found.facts() if walk(argv[1:], flags, values, found) else frozenset()
    except Refused:
        return frozenset()


def walk(rest: list[str], flags: str, values: str, found: Ssh) -> bool:
    """Whether there is a host."""
    host = None
    while rest:
        rest, ended = options(rest, flags, values, found)
        if not rest or host is not None:
            break
        host = rest.pop(0)
        if host.startswith("-") or (host.startswith("@") and host.count("@") == 1):
            return False
        if ended:
            break
    return host is not None


def options(argv: list[str], flags: str, values: str, found: Ssh) -> tuple[list[str], bool]:
    """One run of getopt(3): what it leaves, and whether "--" was the last it took."""
    last = ""
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        last = rest[0]
        if last == "--":
            return rest[1:], True
        cluster = last[1:]
        while cluster:
            letter, cluster = cluster[0], cluster[1:]
            if letter == "-" and cluster == "" and len(last) > 2:
                return rest, False
            if letter in values:
                if not cluster:
                    if len(rest) < 2:
                        raise Refused
                    rest.pop(0)
                    cluster = last = rest[0]
                found.option(letter, cluster)
                break
            if letter not in flags:
                raise Refused
        rest.pop(0)
    return rest, last == "--"
