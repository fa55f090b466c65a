# SPDX-License-Identifier: Apache-2.0
"""Where a run connected to and what it listened on, as a policy lists it."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import TYPE_CHECKING

from tracer.policy.parse import ENTRIES_MAX
from tracer.policy.places import is_below, read_place
from tracer.policy.ports import PORT_SETS_MAX, joined, port_sets, span_text
from tracer.policy.unfit import Unfit
from tracer.policy.written import Entry, Learned, counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tracer.policy.learn import Destination, Listening

#: So many hosts below one domain stand for the domain, so many addresses for their network.
HOSTS, ADDRESSES = 3, 4
#: More ranges of ports than this to listen on are one.
LISTENING = 32
#: Networks that are made of addresses are no wider than this.
WIDEST = {4: 16, 6: 48}
#: Ports that kernels hand out (net.ipv4.ip_local_port_range): they are others next time.
EPHEMERAL = 32768

#: Below these anybody can have a name.
_SHARED = (
    "akamaiedge.net", "akamaized.net", "amazonaws.com", "appspot.com", "azureedge.net", "azurewebsites.net",
    "cloudapp.net", "cloudfront.net", "duckdns.org", "edgekey.net", "fastly.net", "firebaseapp.com", "github.io",
    "gitlab.io", "googleusercontent.com", "herokuapp.com", "hf.space", "netlify.app", "ngrok.io", "ngrok-free.app",
    "no-ip.org", "pages.dev", "r2.dev", "run.app", "trycloudflare.com", "vercel.app", "web.app", "windows.net",
    "workers.dev",
)  # fmt: skip
_TCP, _UDP = 6, 17

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Ports as policies write them; the empty text is any port, and any protocol.
Ports = set[str]


def listed_destinations(destinations: Iterable[Destination]) -> Learned:
    """Entries that allow all ``destinations``; this host needs none."""
    hosts: dict[str, Ports] = {}
    addresses: dict[Address, Ports] = {}
    for seen in destinations:
        address = _address(seen.address)
        if address is None or address.is_loopback or address.is_unspecified:
            continue
        name = _host(seen.name)
        ports = addresses.setdefault(address, set()) if name is None else hosts.setdefault(name, set())
        ports.add(_port(seen.port, seen.protocol))
    named = _by_domain({host: _tidy(ports) for host, ports in hosts.items()})
    nets = _by_network({address: _tidy(ports) for address, ports in addresses.items()})
    found = {target: (ports, remark) for target, ports, remark in (*named, *nets)}
    notes = _bound(found)
    entries = [
        Entry(f"{_bracketed(target)}:{port}" if port else target, remark if number == 0 else "")
        for target, (ports, remark) in found.items()
        for number, port in enumerate(sorted(ports, key=_order))
    ]
    if len(entries) > ENTRIES_MAX:
        notes.append(f"{len(entries) - ENTRIES_MAX} entries more than there is room for: those will be told")
    return Learned(entries[:ENTRIES_MAX], notes)


def listed_ports(listening: Iterable[Listening]) -> Learned:
    """Entries that allow ``listening``, on whatever address: that is another one on another host."""
    seen = {
        (place.protocol, place.port)
        for place in listening
        if (address := _address(place.address)) is None or not address.is_loopback
    }
    streams = sorted(port for protocol, port in seen if protocol != _UDP)
    # an entry without a protocol stands for both
    datagrams = sorted(port for protocol, port in seen if protocol == _UDP and port not in streams)
    if any(port >= EPHEMERAL for port in streams):
        datagrams = [port for port in datagrams if port < EPHEMERAL]
    return Learned([*_ports_of(streams, ""), *_ports_of(datagrams, "udp/")])


def _ports_of(ports: list[int], prefix: str) -> list[Entry]:
    """Entries for sorted ``ports`` of one protocol."""
    spans = joined({(port, port) for port in ports if port < EPHEMERAL})
    entries = [Entry(prefix + span_text(*span)) for span in spans]
    if len(spans) > LISTENING:
        remark = f"{counted(len(spans), 'range')} between them"
        entries = [Entry(prefix + span_text(spans[0][0], spans[-1][1]), remark)]
    high = [port for port in ports if port >= EPHEMERAL]
    if high:
        few = ", ".join(map(str, high[:3])) + (", …" if len(high) > 3 else "")
        remark = f"the kernel may have picked {few}: another one next time; narrow it if not"
        entries.append(Entry(f"{prefix}{EPHEMERAL}-65535", remark))
    return entries


def _address(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _host(name: str | None) -> str | None:
    """The name as an entry has it, None if there is none or no entry can have it."""
    try:
        return read_place(name).host if name and not {"*", ":"} & set(name) else None
    except Unfit:
        return None


def _port(port: int, protocol: int) -> str:
    """Without a protocol where TCP was seen: what speaks HTTPS tries QUIC, too."""
    return {_TCP: f"{port}", _UDP: f"udp/{port}"}.get(protocol, "")


def _tidy(ports: Iterable[str]) -> Ports:
    """``ports`` without what others among them stand for; several ephemeral ones are all of them."""
    found = set(ports)
    if "" in found:
        return {""}
    found = {port for port in found if not port.startswith("udp/") or port[4:] not in found}
    for udp in (False, True):
        high = {p for p in found if p.startswith("udp/") == udp and _order(p)[0] >= EPHEMERAL}
        if len(high) > 1:
            found = found - high | {f"{'udp/' if udp else ''}{EPHEMERAL}-65535"}
    return found


def _order(port: str) -> tuple[int, str]:
    number = port.rpartition("/")[2].partition("-")[0]
    return int(number or 0), port


def _bracketed(target: str) -> str:
    return f"[{target}]" if ":" in target else target


Targets = list[tuple[str, Ports, str]]


def _by_domain(hosts: dict[str, Ports]) -> Targets:
    """Hosts, and domains for many hosts; without hosts that another one stands for."""
    parents = Counter(parent for host in hosts if (parent := _domain(host)))
    wide = {parent for parent, count in parents.items() if count >= HOSTS}
    groups: dict[str, list[str]] = {}
    for host in sorted(hosts):
        parent = _domain(host)
        groups.setdefault(parent if parent in wide else host, []).append(host)
    found: Targets = []
    for target in sorted(groups, key=lambda name: name.split(".")[::-1]):
        below = groups[target]
        ports = _tidy(port for host in below for port in hosts[host])
        if any(is_below(target, name.removeprefix("*.")) and ports <= theirs for name, theirs, _ in found):
            continue
        if target in wide:
            few = ", ".join(host.removesuffix(f".{target}") for host in below[:3])
            found.append((f"*.{target}", ports, f"{counted(len(below), 'host')}: {few}"))
        else:
            found.append((target, ports, ""))
    return found


def _domain(host: str) -> str | None:
    """The domain above ``host`` if all of it may belong to one owner."""
    parent = host.partition(".")[2]
    labels = parent.split(".")
    # co.uk, com.au: registries, not owners
    registry = len(labels) == 2 and len(labels[1]) == 2 and len(labels[0]) <= 3
    if len(labels) < 2 or registry or any(is_below(parent, shared) for shared in _SHARED):
        return None
    return parent


def _by_network(addresses: dict[Address, Ports]) -> Targets:
    """Addresses, and networks for many that are reached on the same ports."""
    alike: dict[tuple[Network, frozenset[str]], list[Address]] = {}
    for address, ports in addresses.items():
        widest = ipaddress.ip_network((address, WIDEST[address.version]), strict=False)
        alike.setdefault((widest, frozenset(ports)), []).append(address)
    found: Targets = []
    for (_, alike_ports), those in sorted(
        alike.items(), key=lambda item: (item[0][0].version, min(map(int, item[1])))
    ):
        if len(those) < ADDRESSES:
            found += [(str(address), set(alike_ports), "") for address in sorted(those, key=int)]
        else:
            network = _common(those)
            remark = f"the smallest network around {counted(len(those), 'address')} without a name"
            found.append((str(network), set(alike_ports), remark))
    merged: dict[str, tuple[Ports, str]] = {}
    for target, ports, remark in found:  # one network may come of two sets of ports
        theirs, said = merged.get(target, (set(), ""))
        merged[target] = (_tidy(theirs | ports), said or remark)
    return [(target, ports, remark) for target, (ports, remark) in merged.items()]


def _common(addresses: list[Address]) -> Network:
    low, high = min(addresses, key=int), max(addresses, key=int)
    length = low.max_prefixlen - (int(low) ^ int(high)).bit_length()
    return ipaddress.ip_network((low, length), strict=False)


def _bound(found: dict[str, tuple[Ports, str]]) -> list[str]:
    """Make ``found`` fit: as long as there are too many sets of ports, the rarest port's places may be
    reached on any. The notes say so.
    """
    opened = 0
    for target, (ports, remark) in found.items():
        if len(ports) > PORT_SETS_MAX:
            found[target] = ({""}, remark)
            opened += 1
    while _too_many(found):
        rare = Counter(port for ports, _ in found.values() for port in ports if port)
        port = min(rare, key=lambda item: (rare[item], -_order(item)[0], item))
        for target, (ports, remark) in found.items():
            if port in ports:
                found[target] = ({""}, remark)
                opened += 1
    if not opened:
        return []
    return [f"too many ports to tell apart: {counted(opened, 'place')} may be reached on any of them"]


def _too_many(found: dict[str, tuple[Ports, str]]) -> bool:
    """Is this more sets of ports than there is room for?"""
    if (
        len({port for ports, _ in found.values() for port in ports}) > 4 * PORT_SETS_MAX
    ):  # most likely, and dear to find out
        return True
    texts = [f"{_bracketed(target)}:{port}" for target, (ports, _) in found.items() for port in ports if port]
    return len(port_sets([read_place(text) for text in texts])) > PORT_SETS_MAX
