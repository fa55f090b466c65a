# SPDX-License-Identifier: Apache-2.0
"""Command lines of ssh clients, and the forwards that each of them opens."""

from __future__ import annotations

import shlex

import pytest

from tracer.detect.execfacts import facts_of

REVERSE, SOCKS, LOCAL, DYNAMIC, TUN, STDIO = (
    f"ssh-{name}" for name in ("reverse", "reverse-socks", "local", "dynamic", "tun", "stdio")
)
#: One more than fits into where ssh keeps it.
LONG_HOST, LONG_PATH = "x" * 1025, "/" + "s" * 107

LINES: list[tuple[str, set[str]]] = [
    # every way to give an option its value
    ("ssh -R 8080:localhost:22 host", {REVERSE}),
    ("ssh -R8080:localhost:22 host", {REVERSE}),
    ("ssh -fNR 8080:localhost:22 host", {REVERSE}),
    ("ssh -NfR8080:localhost:22 host", {REVERSE}),
    ("ssh -fN -o ServerAliveInterval=30 -R 8080:localhost:22 -p 443 u@host", {REVERSE}),
    ("ssh -p443 -R0:localhost:8000 u@host", {REVERSE}),
    ("ssh -i key -R 8080:localhost:22 host", {REVERSE}),
    ("ssh -iR 8080:localhost:22 host", set()),  # -i R, the host, its command
    ("ssh -l -R 8080:localhost:22 host", set()),  # the user is called -R
    ("ssh -b -R host", set()),
    ("ssh host", set()),
    ("ssh -N host", set()),
    ("ssh -R 8080:localhost:22", set()),  # no host
    ("ssh -R", set()),
    ("ssh", set()),
    # options after the host, and the command after them
    ("ssh host -R 8080:localhost:22", {REVERSE}),
    ("ssh host -N -R 8080:localhost:22", {REVERSE}),
    ("ssh -N host -R8080:localhost:22", {REVERSE}),
    ("ssh host ls -R 8080:localhost:22", set()),
    ("ssh host grep -R foo", set()),
    ("ssh host -- -R 8080:localhost:22", set()),
    ("ssh -- host -R 8080:localhost:22", set()),
    ("ssh -R 8080:localhost:22 -- host ls", {REVERSE}),
    ("ssh -l -- host -R 8080:localhost:22", set()),  # ssh takes the value for the end of the options
    ("ssh -4 -l -- -4 host -R 8080:localhost:22", {REVERSE}),
    ("ssh host -N- -R 8080:localhost:22", set()),
    ("ssh -N- host -R 8080:localhost:22", set()),
    ("ssh git@github.com git-receive-pack 'x/y.git'", set()),
    ("ssh -o SendEnv=GIT_PROTOCOL -p 443 git@ssh.github.com 'git-upload-pack x'", set()),
    ("ssh host 'ssh -R 8080:localhost:22 other'", set()),
    ("ssh -- -R 8080:localhost:22", set()),
    ("ssh - -R 8080:localhost:22", set()),
    ("ssh @host -R 8080:localhost:22", set()),
    ("ssh u@v@host -R 8080:localhost:22", {REVERSE}),
    ("ssh ssh://u@host:22 -R 8080:localhost:22", {REVERSE}),
    # the forms of a specification
    ("ssh -R 8080 host", {SOCKS}),
    ("ssh -R 0 host", {SOCKS}),
    ("ssh -R *:8080 host", {SOCKS}),
    ("ssh -R :8080 host", {SOCKS}),
    ("ssh -R 8080: host", {SOCKS}),
    ("ssh -R localhost:8080 host", {SOCKS}),
    ("ssh -R [::1]:8080 host", {SOCKS}),
    ("ssh -R /run/far.sock host", {SOCKS}),
    ("ssh -R 8080/host/22 host", {SOCKS}),  # the name of a socket, since OpenSSH 6.7
    ("ssh -L 8080/host/22 host", set()),
    ("ssh -R socks host", {SOCKS}),  # /etc/services
    ("ssh -R http:localhost:https host", {REVERSE}),
    ("ssh -R [::1]:8080:[::1]:22 host", {REVERSE}),
    ("ssh -R /tmp/a.sock:/tmp/b.sock host", {REVERSE}),
    ("ssh -R 8080:/var/run/docker.sock host", {REVERSE}),
    ("ssh -R /tmp/a.sock:localhost:22 host", {REVERSE}),
    ("ssh -R '[/tmp/a b]:localhost:22' host", {REVERSE}),
    ("ssh -R '*:8080:localhost:22' host", {REVERSE}),
    ("ssh -R '8080::22' host", {REVERSE}),
    ("ssh -R ' +8080:localhost:22' host", {REVERSE}),
    ("ssh -R '${PORT}:localhost:22' host", {REVERSE}),
    ("ssh -R '${PORT}' host", {SOCKS}),
    ("ssh -R 'h\\:x:8080:localhost:22' host", {REVERSE}),
    ("ssh -L 8080:localhost:80 host", {LOCAL}),
    ("ssh -L /tmp/a.sock:localhost:80 host", {LOCAL}),
    ("ssh -D 1080 host", {DYNAMIC}),
    ("ssh -D 127.0.0.1:1080 host", {DYNAMIC}),
    ("ssh -D /tmp/socks host", {DYNAMIC}),
    ("ssh -D 1080:/tmp/b.sock host", {LOCAL}),  # ssh takes it, as a forward to the socket
    # malformed: ssh says so and exits
    ("ssh -R foo host", set()),
    ("ssh -R '' host", set()),
    ("ssh -R 65536:localhost:22 host", set()),
    ("ssh -R -1:localhost:22 host", set()),
    ("ssh -R 8080:localhost:0 host", set()),
    ("ssh -R 8080:localhost host", set()),
    ("ssh -R 1:2:3:4:5 host", set()),
    ("ssh -R [::1:8080:localhost:22 host", set()),
    ("ssh -R [::1]8080:localhost:22 host", set()),
    ("ssh -R '${PORT:localhost:22' host", set()),
    (f"ssh -R {LONG_HOST}:80:h:22 host", set()),
    (f"ssh -R {LONG_HOST[1:]}:80:h:22 host", {REVERSE}),
    (f"ssh -R {LONG_PATH[:-1]}:{LONG_PATH[:-1]} host", {REVERSE}),
    (f"ssh -R {LONG_PATH[:-1]}:{LONG_PATH} host", set()),
    ("ssh -L 8080 host", set()),
    ("ssh -L 0:localhost:22 host", set()),
    ("ssh -L foo:localhost:22 host", set()),
    ("ssh -D 0 host", set()),
    ("ssh -D 8080:localhost:22 host", set()),
    ("ssh -L foo -R 8080:localhost:22 host", set()),
    ("ssh --help", set()),
    ("ssh -d -R 8080:localhost:22 host", set()),  # no such option
    # several
    ("ssh -L 1:h:2 -R 3:h:4 -D 5 -R 6 -w 0:0 host", {LOCAL, REVERSE, DYNAMIC, SOCKS, TUN}),
    # -o
    ("ssh -o 'RemoteForward 8080 localhost:22' host", {REVERSE}),
    ("ssh -o 'RemoteForward=8080 localhost:22' host", {REVERSE}),
    ("ssh '-oRemoteForward=8080 localhost:22' host", {REVERSE}),
    ("ssh -o 'remoteforward \"8080\" h:22' host", {REVERSE}),
    ("ssh -o ' REMOTEFORWARD\t=\t8080 h:22 ' host", {REVERSE}),
    ("ssh -o '\"RemoteForward\" 8080 h:22' host", {REVERSE}),
    ("ssh -o 'Remote\"Forward\" 8080 h:22' host", {REVERSE}),
    ("ssh -o '=RemoteForward 8080 h:22' host", {REVERSE}),
    ("ssh -o \"RemoteForward '8080' h:22 # comment\" host", {REVERSE}),
    ("ssh -o 'RemoteForward [::1]:8080 [::1]:22' host", {REVERSE}),
    ("ssh -o RemoteForward=8080 host", {SOCKS}),
    ("ssh -o RemoteForward=8080:localhost:22 host", set()),  # ssh wants two words
    ("ssh -o 'RemoteForward 8080 localhost:22 x' host", set()),
    ("ssh -o 'RemoteForward 8080 \"localhost:22' host", set()),
    ("ssh -o 'RemoteForward' host", set()),
    ("ssh -o '# RemoteForward 8080 h:22' host", set()),
    ("ssh -o 'LocalForward 8080 h:22' host", {LOCAL}),
    ("ssh -o LocalForward=8080 host", set()),
    ("ssh -o DynamicForward=1080 host", {DYNAMIC}),
    ("ssh host -o DynamicForward=1080", {DYNAMIC}),
    ("ssh -o 'ProxyCommand=nc -X 5 %h %p' -o ControlMaster=auto -o ControlPersist=60 host", set()),
    ("ssh -o 'LocalCommand=echo RemoteForward 8080 h:22' host", set()),
    ("ssh -J jump host", set()),
    ("ssh -J jump -R 8080:localhost:22 host", {REVERSE}),
    ("ssh -o ProxyJump=jump host", set()),
    # network interfaces
    ("ssh -w 0:0 host", {TUN}),
    ("ssh -w any host", {TUN}),
    ("ssh -fNw0:1 host", {TUN}),
    ("ssh -w x host", set()),
    ("ssh -o Tunnel=yes host", {TUN}),
    ("ssh -o Tunnel=point-to-point host", {TUN}),
    ("ssh -o tunnel=ETHERNET host", {TUN}),
    ("ssh -o Tunnel=no host", set()),
    ("ssh -o Tunnel=maybe -R 8080:localhost:22 host", set()),
    ("ssh -o Tunnel=no -w 0:0 host", set()),  # the first one counts
    ("ssh -w 0:0 -o Tunnel=no host", {TUN}),
    ("ssh -o TunnelDevice=0:0 host", set()),
    # clearing
    ("ssh -R 8080:h:22 -L 1:h:2 -D 3 -o ClearAllForwardings=yes host", set()),
    ("ssh -w 0:0 -o ClearAllForwardings=yes host", set()),
    ("ssh -o ClearAllForwardings=no -o ClearAllForwardings=yes -R 8080:h:22 host", {REVERSE}),
    ("ssh -o ClearAllForwardings=perhaps -R 8080:h:22 host", set()),
    ("ssh -W target:22 host", {STDIO}),
    ("ssh -W '[%h]:%p' host", set()),  # nobody replaced the percent signs
    ("ssh -W target:22 -R 8080:h:22 host", {STDIO}),  # -W clears the others
    ("ssh -W target:22 -o ClearAllForwardings=no -R 8080:h:22 host", {STDIO, REVERSE}),
    ("ssh -W target:22 -W target:22 host", set()),
    ("ssh -W 22 -R 8080:h:22 host", {REVERSE}),  # no host to bridge to: does nothing
    # what does not connect, and what speaks to a running master
    ("ssh -G -R 8080:localhost:22 host", set()),
    ("ssh -V", set()),
    ("ssh -Q cipher", set()),
    ("ssh -R 8080:localhost:22 -V host", set()),
    ("ssh -O forward -R 8080:localhost:22 host", {REVERSE}),
    ("ssh -O forward -R 8080:localhost:22 -w 0:0 host", {REVERSE}),
    ("ssh -S sock -Ocancel -R 8080:localhost:22 host", set()),
    ("ssh -O check host", set()),
    ("ssh -O exit -R 8080:localhost:22 host", set()),
    ("ssh -O proxy -R 8080:localhost:22 host", {REVERSE}),
    ("ssh -O forward -O forward -R 8080:localhost:22 host", set()),
    ("ssh -O forward -W h:22 host", set()),
    # -P was a flag until 9.3 and has a value since
    ("ssh -P tag -R 8080:localhost:22 host", {REVERSE}),
    ("ssh -PNR 8080:localhost:22 host", {REVERSE}),
    # other names
    ("/usr/bin/ssh -R 8080:localhost:22 host", {REVERSE}),
    ("slogin -R 8080:localhost:22 host", {REVERSE}),
    ("sshd -R 8080:localhost:22 host", set()),
    ("scp -R 8080:localhost:22 host:x .", set()),
    ("autossh -M 0 -fN -R 8080:localhost:22 host", {REVERSE}),
    ("autossh -M0 -R8080:localhost:22 host", {REVERSE}),
    ("autossh -M 20000 -- -R 8080:localhost:22 host", {REVERSE}),
    ("autossh -V", set()),
    ("ssh -M -R 8080:localhost:22 host", {REVERSE}),
    ("dbclient -R 8080:localhost:22 host", {REVERSE}),
    ("dbclient -NfR8080:localhost:22 host", {REVERSE}),
    ("dbclient host -L 8080:localhost:22", {LOCAL}),
    ("dbclient host ls -L 8080:localhost:22", set()),
    ("dbclient -B target:22 host", {STDIO}),
    ("dbclient -W 65536 host", set()),  # a size
    ("dbclient -R 8080 host", set()),
    ("dbclient -D 8080 host", set()),  # prints its version
    ("dbclient -G -- -R 8080:localhost:22 host", {REVERSE}),  # passes over what it does not know
    ("dropbearmulti dbclient -R 8080:localhost:22 host", {REVERSE}),
    ("dropbear -R -p 2222", set()),  # the server
]


def shown(line: str) -> str:
    return line if len(line) < 90 else f"{line[:20]}...{len(line)}...{line[-20:]}"


@pytest.mark.parametrize(("line", "facts"), LINES, ids=[shown(line) for line, _ in LINES])
def test_command_line(line, facts):
    assert facts_of([word.encode() for word in shlex.split(line)]) == facts
