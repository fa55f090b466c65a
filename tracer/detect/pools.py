# SPDX-License-Identifier: Apache-2.0
"""Addresses of mining pools among the arguments of a program: scheme+transport://[user@]host:port."""

from __future__ import annotations

from tracer.detect.names import Bytes, Ints, letters, lookup, table
from tracer.jit import njit

_ALNUM = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_IS_SCHEME = letters(_ALNUM + b"+")
_IS_HOST = letters(_ALNUM + b".-_")
_IS_IPV6 = letters(b"0123456789abcdefABCDEF:.%")
_IS_DIGIT = letters(b"0123456789")
_ENDS_WORD = letters(b"\0 \t\r\n\"'`,;<>|")

_ALONE = 1  # nothing else is called so
_WITH_TRANSPORT = 2  # a common word, but not before "+tcp://"
_SCHEMES = table(
    dict.fromkeys(
        b"stratum stratum1 stratum2 stratum3 stratums stratumss stratumtcp ethproxy ethstratum ethstratum1 "
        b"ethstratum2 nicehash nicehash1 alphstratum zmp kawpow ethash etchash autolykos2 octopus progpow "
        b"firopow beamhash equihash zhash cuckatoo verushash xelishash kheavyhash".split(),
        _ALONE,
    )
    | dict.fromkeys(b"daemon solo node zil getwork xnp sv2 mallob".split(), _WITH_TRANSPORT),
    fold=True,
)
_TRANSPORTS = table(
    dict.fromkeys(b"tcp tcp4 tcp6 tcps udp ssl tls tls12 tls13 tls1.2 ws wss http https".split(), 1),
    fold=True,
)
#: How far after "://" the host may begin: there can be a wallet, a worker and a password before it.
_USER_MAX = 400

_COLON, _SLASH, _AT, _PLUS, _DASH, _OPEN, _CLOSE = (ord(sign) for sign in ":/@+-[]")


@njit
def _scheme(args: Bytes, lo: int, colon: int) -> int:
    """Where the pool scheme that ends before ``colon`` begins, or -1."""
    start = plus = colon
    while start > lo and _IS_SCHEME[args[start - 1]]:
        start -= 1
        if args[start] == _PLUS:
            plus = start
    wanted = _ALONE
    if plus < colon:
        if lookup(_TRANSPORTS, args, plus + 1, colon) == 0:
            return -1
        wanted = _ALONE | _WITH_TRANSPORT
    if lookup(_SCHEMES, args, start, plus) & wanted:
        return start
    # -ostratum+tcp://…: an option's letter with its value
    attached = start > lo and args[start - 1] == _DASH and (start - 1 == lo or args[start - 2] == 0)
    return start + 1 if attached and lookup(_SCHEMES, args, start + 1, plus) & wanted else -1


@njit
def _host_port(args: Bytes, at: int, hi: int) -> int:
    """Where the host:port that begins at ``at`` ends, or -1."""
    start = at
    if at < hi and args[at] == _OPEN:
        at += 1
        while at < hi and _IS_IPV6[args[at]]:
            at += 1
        if at >= hi or args[at] != _CLOSE:
            return -1
        at += 1
    else:
        while at < hi and _IS_HOST[args[at]]:
            at += 1
    if at == start or at >= hi or args[at] != _COLON:
        return -1
    at += 1
    port, first = 0, at
    while at < hi and _IS_DIGIT[args[at]]:
        port = min(port * 10 + int(args[at]) - 48, 65536)
        at += 1
    return at if at > first and 0 < port < 65536 else -1


@njit
def _authority_end(args: Bytes, at: int, hi: int) -> int:
    """Where the host:port ends that begins at ``at``, or after an "@" or a "/" of the same word."""
    end = _host_port(args, at, hi)
    stop = min(hi, at + _USER_MAX)
    last = -1
    while at < stop and not _ENDS_WORD[args[at]]:
        if args[at] == _AT or (args[at] == _SLASH and end < 0):
            found = _host_port(args, at + 1, hi)
            last = found if found >= 0 else last
        at += 1
    return last if last >= 0 else end


@njit
def pool_address_span(args: Bytes, lo: int, hi: int, out: Ints) -> bool:
    """Whether the arguments ``args[lo:hi]`` name a pool; ``out`` (2) gets the start of the first one's
    scheme and the end of its port.
    """
    at = lo + 2
    while at < hi:  # "://" has a byte at every third place
        byte = args[at]
        if byte != _COLON and byte != _SLASH:
            at += 3
            continue
        colon = at
        while colon > lo and colon > at - 2 and args[colon] == _SLASH:
            colon -= 1
        if (
            args[colon] == _COLON
            and colon + 2 < hi
            and args[colon + 1] == _SLASH
            and args[colon + 2] == _SLASH
        ):
            start = _scheme(args, lo, colon)
            end = _authority_end(args, colon + 3, hi) if start >= 0 else -1
            if end >= 0:
                out[0], out[1] = start, end
                return True
        at += 3
    return False
