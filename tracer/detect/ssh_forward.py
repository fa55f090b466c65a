# SPDX-License-Identifier: Apache-2.0
"""What the values of an ssh client's -R, -L, -D, -W and -w mean.

The rules are those of OpenSSH 9 and 10 (readconf.c, misc.c): what they refuse opens nothing, because
the client exits. A specification is parsed in a scratch copy, since backslashes are taken out of it. An
environment variable in one has a value that we can't know: the field it stands in is taken for good.
"""

from __future__ import annotations

import numpy as np

from tracer.detect.names import Bytes, Ints, is_space, lookup, table
from tracer.jit import allocating, inline, njit

# What a value does. The kinds of forwards come first, the most severe one before the others.
REFUSED = -1
NOTHING = 0
REVERSE = 1
REVERSE_SOCKS = 2
TUN = 3
DYNAMIC = 4
LOCAL = 5
STDIO = 6
KINDS = 7
TUNNEL_OFF = 7
CLEAR_ON = 8
CLEAR_OFF = 9
STDIO_PATH = 10

# In place of a letter: a RemoteForward line of one word, and of two
LINE_SOCKS = 0
LINE_REMOTE = 1
_LETTER_B, _LETTER_D, _LETTER_L, _LETTER_R = ord("B"), ord("D"), ord("L"), ord("R")
_COLON, _SLASH, _BACKSLASH, _OPEN, _CLOSE = ord(":"), ord("/"), ord("\\"), ord("["), ord("]")
_DOLLAR, _BRACE, _BRACE_END = ord("$"), ord("{"), ord("}")

#: Stands for ${NAME} in a scratch copy; a control character that no port, host or path has.
_UNKNOWN = 1
_HOST_MAX = 1025  # NI_MAXHOST
_SUN_MAX = 108  # sizeof(sun_path)
_TUN_MAX = 0x7FFFFFFD  # SSH_TUNID_MAX

#: Ports may be given as names of /etc/services. These are the names that every system has.
_SERVICES = table(
    dict.fromkeys(
        b"tcpmux echo discard sink null systat users daytime netstat qotd quote chargen ttytst source "
        b"ftp-data ftp ssh telnet smtp mail time timserver whois nicname tacacs domain gopher finger http www "
        b"kerberos kerberos5 krb5 kerberos-sec iso-tsap tsap pop3 pop-3 sunrpc portmapper auth authentication "
        b"tap ident nntp readnews untp ntp epmap loc-srv netbios-ssn imap2 imap snmp snmp-trap snmptrap xdmcp "
        b"bgp irc ldap https microsoft-ds kpasswd submission submissions urd ssmtp smtps nntps snntp ldaps "
        b"imaps ircs pop3s login shell cmd syslog printer spooler exec who rtsp ipp rsync ftps-data ftps "
        b"telnets socks proofd rootd openvpn rmiregistry lotusnote lotusnotes ms-sql-s ms-sql-m ingreslock "
        b"datametrics old-radius kermit groupwise radius radsec nfs cvspserver mysql rdp ms-wbt-server svn "
        b"subversion postgresql postgres distcc daap sip sip-tls xmpp-client jabber-client xmpp-server "
        b"jabber-server x11 x11-1 redis http-alt webcache tproxy https-alt git amqp amqps mqtt puppet zabbix-agent "
        b"zabbix-trapper bacula-dir bacula-fd bacula-sd nut nessus xmms2".split(),
        1,
    )
)
_ANY = table({b"any": 1}, fold=True)


@njit
def _decimal(text: Bytes, lo: int, hi: int, most: int) -> int:
    """``text[lo:hi]`` as strtonum(3) reads it, or -1 if it is no number from 0 to ``most``."""
    while lo < hi and is_space(text[lo]):
        lo += 1
    negative = lo < hi and text[lo] == 45
    if lo < hi and (text[lo] == 45 or text[lo] == 43):
        lo += 1
    if lo >= hi:
        return -1
    number = 0
    for at in range(lo, hi):
        digit = int(np.int64(text[at])) - 48
        if not 0 <= digit <= 9:
            return -1
        number = min(number * 10 + digit, most + 1)
    return -1 if number > most or (negative and number > 0) else number


@njit
def _port(text: Bytes, lo: int, hi: int) -> int:
    """A port by number or name (a name counts as port 1); -1 if it is none."""
    unknown = other = 0
    for at in range(lo, hi):
        unknown += text[at] == _UNKNOWN
        other += text[at] != _UNKNOWN and not 48 <= text[at] <= 57
    if unknown > 0:
        return 1 if other == 0 else -1
    number = _decimal(text, lo, hi, 65535)
    return number if number >= 0 or lookup(_SERVICES, text, lo, hi) == 0 else 1


@njit
def _hide_variables(spec: Bytes, n: int) -> int:
    """Put one byte for each ${NAME} of ``spec[:n]``; the new length, or -1 if a brace is missing."""
    at = to = 0
    while at < n:
        byte = spec[at]
        if byte == _DOLLAR and at + 1 < n and spec[at + 1] == _BRACE:
            end = at + 2
            while end < n and spec[end] != _BRACE_END:
                end += 1
            if end == n or end == at + 2:
                return -1
            spec[to] = _UNKNOWN
            at = end
        else:
            spec[to] = byte
        to += 1
        at += 1
    return to


@njit
def _split(spec: Bytes, n: int, fields: Ints) -> int:
    """Split ``spec[:n]`` at its colons; the number of fields, 0 if malformed.

    For each field ``fields`` gets three numbers: has it a slash, its port or -1, its length.
    """
    at = 0
    while at < n and is_space(spec[at]):
        at += 1
    count = 0
    while count < 4 and at < n:
        start = at
        path = False
        if spec[at] == _OPEN:
            start += 1
            end = start
            while end < n and spec[end] != _CLOSE:
                path |= spec[end] == _SLASH
                end += 1
            if end == n or (end + 1 < n and spec[end + 1] != _COLON):
                break
            at = end + 2
        else:
            end = at
            while end < n and spec[end] != _COLON:
                if spec[end] == _BACKSLASH:  # the next byte stands for itself
                    for shift in range(end, n - 1):
                        spec[shift] = spec[shift + 1]
                    n -= 1
                    if end == n:
                        return count if start == n else 0
                else:
                    path |= spec[end] == _SLASH
                end += 1
            at = end + 1
        fields[3 * count] = path
        fields[3 * count + 1] = _port(spec, start, end)
        fields[3 * count + 2] = end - start
        count += 1
    return 0 if at < n else count


@inline
def _fits(path: int, length: int) -> bool:
    return length < (_SUN_MAX if path else _HOST_MAX)


@njit
def _addressed(fields: Ints, count: int, remote: bool) -> bool:
    """Whether the fields name an address to listen on and one to connect to."""
    listen, connect, target = 0, 1, 0
    path0, path1, path2 = fields[0] != 0, fields[3] != 0, fields[6] != 0
    if count == 2:
        if not path1:
            return False
        listen = 1 if path0 else fields[1]
        return listen >= (not remote) and _fits(path0, fields[2] if path0 else 0) and _fits(True, fields[5])
    if count == 3 and path0:
        connect, target = fields[7], fields[5]
        return connect > 0 and _fits(True, fields[2]) and _fits(False, target)
    if count == 3 and path2:
        return fields[4] >= (not remote) and _fits(False, fields[2]) and _fits(True, fields[8])
    if count == 3:
        return fields[1] >= (not remote) and fields[7] > 0 and _fits(False, fields[5])
    if count == 4:
        return (
            fields[4] >= (not remote)
            and fields[10] > 0
            and _fits(False, fields[2])
            and _fits(False, fields[8])
        )
    return False


@njit
def _listening(fields: Ints, count: int, remote: bool) -> int:
    """What one or two fields name when what to connect to is left to a SOCKS client: REFUSED,
    NOTHING (a port), STDIO (a host and a port, or a socket's path), LOCAL (a path to connect to).
    """
    if count == 1:
        if fields[0]:
            return STDIO if _fits(True, fields[2]) else REFUSED
        return NOTHING if fields[1] >= (not remote) else REFUSED
    if count == 2:
        if fields[3]:
            return LOCAL if _addressed(fields, count, remote) else REFUSED
        return STDIO if fields[4] >= (not remote) and _fits(False, fields[2]) else REFUSED
    return REFUSED


@allocating
def forward_kind(spec: Bytes, n: int, letter: int) -> int:
    """What option ``letter`` (R, L, D, W) with the value ``spec[:n]`` does; ``spec`` is overwritten.

    Unlike -R, a RemoteForward line must say in one word that it wants SOCKS and in two words where
    else to connect to: ``-o RemoteForward=8080:localhost:22`` is refused by ssh.
    """
    n = _hide_variables(spec, n)
    fields = np.zeros(12, np.int64)
    count = _split(spec, n, fields) if n > 0 else 0
    if count == 0:
        return REFUSED
    if letter in (_LETTER_R, LINE_REMOTE) and _addressed(fields, count, True):
        return REVERSE
    if letter in (_LETTER_R, LINE_SOCKS):
        kind = _listening(fields, count, True)
        return kind if kind == REFUSED else (REVERSE if kind == LOCAL else REVERSE_SOCKS)
    if letter == LINE_REMOTE:
        return REFUSED
    if letter == _LETTER_L:
        return LOCAL if _addressed(fields, count, False) else REFUSED
    kind = _listening(fields, count, False)
    if letter == _LETTER_D:
        return kind if kind in (REFUSED, LOCAL) else DYNAMIC
    # -W: a port without a host, or one that is paired with a path, is let through and does nothing
    if kind == LOCAL:
        return STDIO_PATH if fields[0] else NOTHING
    return STDIO_PATH if count == 1 and kind == STDIO else kind


@allocating
def dropbear_kind(spec: Bytes, n: int, letter: int) -> int:
    """As :func:`forward_kind` for dbclient's -R, -L and -B: no brackets, paths or names of ports."""
    colons = 0
    ends = np.full(4, n, np.int64)
    for at in range(n):
        if spec[at] == _COLON and colons < 3:
            ends[colons] = at
            colons += 1
    if letter == _LETTER_B:
        return STDIO if colons == 1 and _decimal(spec, ends[0] + 1, n, 65535) >= 0 else REFUSED
    listen = 0 if colons == 2 else ends[0] + 1
    if colons < 2 or _decimal(spec, listen, ends[colons - 2], 65535) < 0:
        return REFUSED
    if _decimal(spec, ends[colons - 1] + 1, n, 65535) < 0:
        return REFUSED
    return REVERSE if letter == _LETTER_R else LOCAL


@njit
def tun_kind(text: Bytes, lo: int, hi: int) -> int:
    """What -w (or TunnelDevice) with the value ``text[lo:hi]`` does: TUN or REFUSED."""
    colon = lo
    while colon < hi and text[colon] != _COLON:
        colon += 1
    if lookup(_ANY, text, lo, colon) == 0 and _decimal(text, lo, colon, _TUN_MAX) < 0:
        return REFUSED
    if colon < hi and lookup(_ANY, text, colon + 1, hi) == 0:
        return TUN if _decimal(text, colon + 1, hi, _TUN_MAX) >= 0 else REFUSED
    return TUN
