# SPDX-License-Identifier: Apache-2.0
"""Places on the network as a policy names them: a network or a host by name, on some ports or on any.

``192.0.2.0/24``, ``203.0.113.7:22``, ``[2001:db8::1]:443``, ``203.0.113.0/24:8000-8100``, ``*:443``,
``192.0.2.53:udp/53``, ``pypi.org:443``, ``*.example.org``. A host's name stands for every host below it, too.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from tracer.policy.unfit import Unfit
from tracer.rules.numbers import port_ranges

#: What ``*`` in the place of a network stands for.
EVERYWHERE = ("0.0.0.0/0", "::/0")

#: Who listens here listens on all addresses, of IPv4 and mostly of IPv6, too.
_NO_ADDRESS = {"0.0.0.0/32", "::/128", *EVERYWHERE}

_FORMS = 'such as "192.0.2.0/24", "203.0.113.7:22", "[2001:db8::1]:443" or "example.org:443"'
_PORTS = 'ports are written as "22", "8000-8100" or "udp/53"'
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NAME_MAX = 253


@dataclass(frozen=True, slots=True)
class Place:
    """``networks`` in CIDR or, if there are none, a ``host``; ``ports`` as rule files have them, None: any.

    ``text``: as it was written.
    """

    text: str
    networks: tuple[str, ...]
    host: str | None
    ports: str | None
    line: int = 0

    def covers(self, address: str | None, port: int | None, name: str | None) -> bool:
        """Is this it, over TCP or UDP? ``address`` may be IPv4 mapped into IPv6."""
        if self.ports is not None and not any(
            first & 0xFFFF <= port <= last & 0xFFFF if port is not None else False
            for first, last in port_ranges(self.ports)
        ):
            return False
        if self.host is not None:
            return name is not None and is_below(name, self.host)
        found = _address(address or "")
        return found is not None and any(found in ipaddress.ip_network(text) for text in self.networks)


def is_below(name: str, host: str) -> bool:
    """Is ``name`` this ``host`` or one below it?"""
    name = name.lower().rstrip(".")
    return name == host or name.endswith(f".{host}")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def read_place(text: str, line: int = 0) -> Place:
    """Where a connection may lead. Raises Unfit."""
    target, ports = _split(text)
    if target == "*":
        if ports is None:
            raise Unfit("'*' is everywhere", 'give it ports, such as "*:443", or leave the list out')
        return Place(text, EVERYWHERE, None, ports, line)
    network = _network(target)
    if network is not None:
        return Place(text, (network,), None, ports, line)
    return Place(text, (), _host(target, text), ports, line)


def read_listener(text: str, line: int = 0) -> Place:
    """Where the tree may listen: ports of any address of this host, or an address. Raises Unfit."""
    if _are_ports(text):
        return Place(text, EVERYWHERE, None, text, line)
    found = read_place(text, line)
    if found.host is not None:
        raise Unfit(f"'{text}': one listens on an address", 'such as "8000-8100" or "192.0.2.1:5000"')
    if set(found.networks) & _NO_ADDRESS:
        if found.ports is None:
            raise Unfit(f"'{text}' is every port of every address", "leave the list out")
        return Place(text, EVERYWHERE, None, found.ports, line)
    return found


def read_network(text: str) -> str:
    """A network in CIDR. Raises Unfit."""
    found = _network(text)
    if found is None:
        raise Unfit(f"'{text}' is no network", "such as 203.0.113.0/24 or 2001:db8::/32")
    return found


def _split(text: str) -> tuple[str, str | None]:
    """The target of an entry, and its ports."""
    if not text or not text.isprintable() or " " in text:
        raise Unfit(f"{text!r} is no place on the network", _FORMS)
    if "://" in text:
        host = text.partition("://")[2].partition("/")[0] or "example.org"
        raise Unfit(f"'{text}' is an address of a page", f'the host alone, such as "{host}"')
    if _are_ports(text):
        raise Unfit(f"'{text}' is a port without a place", f'"*:{text}" is this port anywhere')
    if text.startswith("["):
        target, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise Unfit(f"'{text}' is no place on the network", 'such as "[2001:db8::1]:443"')
        if ":" not in target:
            raise Unfit(f"'{text}': only IPv6 stands in brackets", _FORMS)
        ports = rest[1:] if rest else None
    elif text.count(":") > 1:  # IPv6 as it is
        return text, None
    else:
        target, colon, rest = text.partition(":")
        ports = rest if colon else None
    if ports is not None and not _are_ports(ports):
        raise Unfit(f"'{text}': '{ports}' is no port", _PORTS)
    return target, ports


def _are_ports(text: str) -> bool:
    try:
        port_ranges(text)
    except ValueError:
        return False
    return True


def _network(text: str) -> str | None:
    """``text`` in CIDR if it is an address or a network, None if it looks like a name."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        pass
    else:
        raise Unfit(f"'{text}' has bits beyond its length", f"did you mean '{meant}'?")
    if ":" in text or "/" in text or re.fullmatch(r"[0-9.]+", text):
        raise Unfit(f"'{text}' is neither a network nor a host", _FORMS)
    return None


def _host(target: str, text: str) -> str:
    name = target.removeprefix("*.").rstrip(".").lower()
    if "*" in name:
        raise Unfit(f"'{text}': only a *. at the beginning stands for something else", '"*.example.org"')
    if not name.isascii():
        try:
            coded = name.encode("idna").decode()
        except UnicodeError:
            coded = "xn--…"
        raise Unfit(f"'{text}' is not as DNS has it", f'write "{coded}"')
    if len(name) > _NAME_MAX or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise Unfit(f"'{text}' is neither a network nor a host", _FORMS)
    return name
