# SPDX-License-Identifier: Apache-2.0
"""Command lines of ssh for Hypothesis: pieces that mean something, put together in any way."""

from __future__ import annotations

from itertools import chain

from hypothesis import strategies as st

SPECS = [
    b"8080", b"0", b"80:h:22", b"0:localhost:8000", b"1.2.3.4:80:h:22", b"[::1]:8080:[::1]:22", b"/tmp/a:/tmp/b",
    b"8080:/tmp/b", b"/tmp/a:h:22", b"h:80:/tmp/b", b"a:b", b"a:80", b":80", b"80:", b"80::22", b"8080/host/22",
    b"*:80:h:22", b"http:h:https", b"foo", b"", b"[::1:80", b"[/tmp/a b]:/tmp/c", b"\\:80", b"80:\\",
    b"a\\:80:h:22", b"-1:h:22", b"+80:h:22", b" 80:h:22", b"65536", b"65535:h:1", b"a:1:b:2:", b"a:1:b:2:c",
    b"${PORT}", b"${PORT}:h:22", b"${X", b"h" * 1030 + b":80:h:22", b"/" + b"a" * 106, b"/" + b"a" * 107,
    b"8080:/b:", b"socks:80", b"1:2:3", b"h:0:0", b"0:h:0", b"[]:80", b"/a:80", b"[a]b:80",
]  # fmt: skip
KEYWORDS = [
    b"RemoteForward", b"remoteforward", b"LOCALFORWARD", b"DynamicForward", b"Tunnel", b"TunnelDevice",
    b"ClearAllForwardings", b'"RemoteForward"', b'Remote"Forward"', b" RemoteForward", b"=RemoteForward",
]  # fmt: skip
VALUES = [b"yes", b"no", b"YES", b"ethernet", b"point-to-point", b"true", b"0:0", b"any", b"maybe", b"#x"]
ADDRESSES = [b"localhost:22", b"h:22", b"/tmp/b"]
OTHERS = [
    [b"-N"], [b"-fN"], [b"-p", b"22"], [b"-p22"], [b"-l", b"u"], [b"-4"], [b"-i", b"/x"], [b"-lu"], [b"-v"],
    [b"-qT"], [b"-N-"], [b"-"], [b"-J", b"j"], [b"-S", b"none"], [b"-b", b"-R"], [b"--"], [b"--help"], [b"-d"],
    [b"-R"], [b"host2"], [b"ls"], [b""], [b"-U"],
]  # fmt: skip

spec = st.sampled_from(SPECS) | st.sampled_from([b"8080:localhost:22", b"8080"])
quoted = st.builds(
    lambda text, how: how(text),
    spec | st.sampled_from(VALUES) | st.sampled_from(ADDRESSES),
    st.sampled_from(
        [
            lambda text: text,
            lambda text: text,
            lambda text: b'"' + text + b'"',
            lambda text: b"'" + text + b"'",
            lambda text: text[:1] + b'"' + text[1:] + b'"',
            lambda text: b'"' + text,
            lambda text: text.replace(b"8", b"\\8").replace(b"h", b'\\"'),
        ]
    ),
)
line = st.builds(
    lambda keyword, between, values, end: keyword + between + b" ".join(values) + end,
    st.sampled_from(KEYWORDS),
    st.sampled_from([b" ", b" ", b"=", b"=", b" = ", b"\t", b"==", b" =\t", b""]),
    st.lists(quoted, max_size=3),
    st.sampled_from([b"", b"", b" ", b"\n", b"\t\r\n"]),
)


def given_as(letters: bytes, value: bytes, attached: bool) -> list[bytes]:
    return [letters + value] if attached and value else [letters, value]


forward = st.builds(
    given_as,
    st.sampled_from([b"-R", b"-L", b"-D", b"-fNR", b"-NfL", b"-gR", b"-vD", b"-W"]),
    spec,
    st.booleans(),
)
tun = st.builds(
    given_as,
    st.just(b"-w"),
    st.sampled_from([b"0:0", b"any", b"any:any", b"5", b"x", b"", b":", b"2147483646", b"2147483645"]),
    st.booleans(),
)
config = st.builds(given_as, st.just(b"-o"), line, st.booleans())
option = forward | config | tun | st.sampled_from(OTHERS)
host = st.sampled_from([[b"host"], [b"u@host"], [b"10.0.0.1"], [b"ssh://u@h:22"], [b"@host"], []])
command = st.sampled_from([[], [], [b"grep", b"-R", b"8080:h:22"]])

ARGV = st.builds(
    lambda before, host, after, command: [b"ssh", *chain(*before), *host, *chain(*after), *command],
    st.lists(option, max_size=3),
    host,
    st.lists(option, max_size=2),
    command,
)
#: The same, but likely to be taken.
SOUND = st.builds(
    lambda letters, value, host: [b"ssh", *given_as(letters, value, False), *host],
    st.sampled_from([b"-R", b"-L", b"-D", b"-fNR"]),
    spec,
    host,
)
