# SPDX-License-Identifier: Apache-2.0
"""Policies that are written from what a run did: they allow it, and can be read."""

from __future__ import annotations

import ipaddress
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.policy.compile import apply
from tracer.policy.learn import Destination, GpuUser, Listening, Observed, write
from tracer.policy.learned_places import ADDRESSES, HOSTS, WIDEST
from tracer.policy.learned_programs import MANY, _pattern
from tracer.policy.model import Policy
from tracer.policy.parse import ENTRIES_MAX, parse

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_policy
import naive_rules


def read(text: str) -> Policy:
    parsed = parse(text, "f.toml")
    assert not parsed.errors, (parsed.errors, text)
    assert not parsed.remarks, (parsed.remarks, text)
    return parsed.policy


def texts(listed: object) -> list[str]:
    return [entry.text for entry in listed.entries]  # type: ignore[attr-defined]


def programs(*paths: str) -> list[str]:
    policy = read(write(Observed(dict.fromkeys(paths, 1)), "x"))
    return texts(policy.allow) if policy.allow else []


def places(*destinations: Destination) -> list[str]:
    return texts(read(write(Observed(destinations=destinations), "x")).connect)


def ports(*listening: Listening) -> list[str]:
    return texts(read(write(Observed(listening=listening), "x")).listen)


# Programs


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("/usr/bin/git", "/usr/bin/git"),
        ("/usr/bin/python3.11", "/usr/bin/python*"),
        ("/usr/bin/g++-12", "/usr/bin/g++-*"),
        ("/usr/bin/md5sum", "/usr/bin/md5sum"),
        ("/usr/bin/x86_64-linux-gnu-as", "/usr/bin/x86_64-linux-gnu-as"),
        ("/usr/lib/gcc/x86_64-linux-gnu/12/cc1", "/usr/lib/gcc/x86_64-linux-gnu/*"),
        ("/usr/local/cuda-12.4/bin/nvcc", "/usr/local/cuda-*"),
        ("/opt/app/3f2a9c1be/run", "/opt/app/*"),
        ("/opt/app/9b2e5f60-3c1d-4e0a-8f7b-1d2c3e4f5a6b/run", "/opt/app/*"),
        ("/opt/feedface/run", "/opt/feedface/run"),  # a word
        ("/nix/store/0c9vx7zk1m3y8h2j4n5p6q7r8s9t0v1w-bash/bin/bash", "/nix/store/*"),
        ("/opt/run.1234", "/opt/run.*"),
        ("/srv/tmpab12_x9z/run", "/srv/*"),
        ("/tmp/x8f3k/a.out", "/tmp/*"),
        ("/var/tmp/a", "/var/tmp/*"),
        ("/dev/shm/a", "/dev/shm/*"),
        ("/run/user/1000/a/b", "/run/user/*"),
        ("/home/me/.cache/torch/a/b", "/home/me/.cache/*"),
        ("/root/.cache/a", "/root/.cache/*"),
        ("/opt/venv/lib/python3.11/site-packages/triton/ptxas", "/opt/venv/lib/python3.11/site-packages/*"),
        ("/srv/app/node_modules/.bin/esbuild", "/srv/app/node_modules/*"),
        ("/opt/a*b/c/d", "/opt/*"),
        ("/opt/a\nb/c", "/opt/*"),
        ("/opt/\udcff", "/opt/*"),
        ("/opt/?/site-packages/x", "/opt/*"),
        (f"/opt/{'x' * 200}/{'y' * 200}", f"/opt/{'x' * 200}/*"),
        ("/1234", "/1234"),
    ],
)
def test_what_changes_in_paths_is_generalised(path: str, entry: str):
    assert programs(path) == [entry]


@pytest.mark.parametrize("path", ["", "memfd:x", "bin/x", "/*", "/a*b", "/", "/\udcff", "/" + "x" * 300])
def test_what_no_entry_can_name_is_said(path: str):
    text = write(Observed({path: 1}), "x")
    assert read(text).allow is None
    assert "# no entry can name 1 program, which will be told: " in text


def test_many_programs_of_a_folder_are_the_folder():
    few = [f"/opt/bin/{letter}x" for letter in "abcdefg"[: MANY - 1]]
    assert programs(*few) == few
    assert programs(*few, "/opt/bin/zx", "/opt/other") == ["/opt/bin/*", "/opt/other"]
    assert programs(*(f"/{letter}x" for letter in "abcdefg")) == [f"/{letter}x" for letter in "abcdefg"]


def test_what_another_entry_stands_for_is_left_out():
    assert programs("/usr/bin/python3.11", "/usr/bin/python3-config", "/tmp/a", "/tmp/b/c") == [
        "/tmp/*",
        "/usr/bin/python*",
    ]


def test_very_many_programs():
    found = [f"/opt/p{a}x/q{b}x/r" for a in range(60) for b in range(30)]
    assert len(programs(*found)) == 60
    listed = programs(*(f"/p{number}x/r" for number in range(ENTRIES_MAX + 6)))
    assert len(listed) == ENTRIES_MAX


def test_comments_say_how_often():
    text = write(Observed({"/usr/bin/git": 12, "/tmp/a/x": 1, "/tmp/b/y\x1b": 2}), "x")
    assert '"/usr/bin/git", # 12 starts\n' in text
    assert '"/tmp/*", # 2 programs, 3 starts: x, y?; anybody can put programs there\n' in text


# Destinations


def test_hosts_of_one_domain():
    def hosts(*names: str, port: int = 443) -> list[str]:
        return places(*(Destination("192.0.2.1", port, 6, name) for name in names))

    assert hosts("pypi.org", "files.pythonhosted.org") == ["pypi.org:443", "files.pythonhosted.org:443"]
    assert hosts(*(f"c{number}.example.org" for number in range(HOSTS - 1))) == [
        "c0.example.org:443",
        "c1.example.org:443",
    ]
    assert hosts(*(f"c{number}.example.org" for number in range(HOSTS))) == ["*.example.org:443"]
    assert hosts("Example.org.", "a.example.org") == ["example.org:443"]
    for shared in ("co.uk", "com.au", "s3.amazonaws.com", "github.io"):  # others' names are below them, too
        assert "*" not in "".join(hosts(*(f"c{number}.{shared}" for number in range(9))))
    assert hosts("10.0.0.1", "a b", "*.x", "a:b", "") == ["192.0.2.1:443"]


def test_addresses_without_names():
    def many(*addresses: str) -> list[str]:
        return places(*(Destination(address, 443) for address in addresses))

    few = [f"192.0.2.{number}" for number in range(1, ADDRESSES)]
    assert many(*few) == [f"{address}:443" for address in few]
    assert many(*few, "192.0.2.9") == ["192.0.2.0/28:443"]
    # a network no wider than it may be
    far = ["192.0.2.1", "192.0.250.1", "192.0.3.1", "192.0.4.1", "192.1.0.1"]
    assert many(*far) == ["192.0.0.0/16:443", "192.1.0.1:443"]
    six = [f"2001:db8:0:{number:x}::1" for number in range(1, 0x8000, 0x1000)]
    assert many(*six) == ["[2001:db8::/49]:443"]
    text = write(Observed(destinations=[Destination(address, 443) for address in six]), "x")
    assert "# the smallest network around 8 addresses without a name" in text


def test_ports_and_protocols():
    def seen(*found: tuple[int, int]) -> list[str]:
        return places(*(Destination("192.0.2.1", port, protocol) for port, protocol in found))

    assert seen((443, 6)) == seen((443, 6), (443, 17)) == ["192.0.2.1:443"]
    assert seen((53, 17), (80, 6)) == ["192.0.2.1:udp/53", "192.0.2.1:80"]
    assert seen((0, 1)) == seen((0, 58), (443, 6)) == ["192.0.2.1"]
    assert seen((50051, 6)) == ["192.0.2.1:50051"]
    assert seen((50051, 6), (40000, 6)) == ["192.0.2.1:32768-65535"]
    assert seen((50051, 17), (40000, 17), (22, 6)) == ["192.0.2.1:22", "192.0.2.1:udp/32768-65535"]


def test_this_host_needs_no_entry():
    here = ["127.0.0.1", "127.0.0.53", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"]
    assert places(*(Destination(address, 80) for address in here)) == []
    assert places(Destination("::ffff:192.0.2.1", 80), Destination("fe80::1%eth0", 80)) == [
        "192.0.2.1:80",
        "[fe80::1]:80",
    ]


def test_more_ports_than_can_be_told_apart():
    listed = [Destination(f"192.0.{number}.1", 1000 + number) for number in range(100)]
    text = write(Observed(destinations=listed), "x")
    assert "# too many ports to tell apart: " in text
    assert read(text).connect is not None
    assert places(*(Destination("192.0.2.1", port) for port in range(1, 200, 2))) == ["192.0.2.1"]


def test_more_places_than_there_is_room_for():
    listed = [
        Destination("192.0.2.1", 443, 6, f"h{number}.d{number}.example") for number in range(ENTRIES_MAX + 5)
    ]
    text = write(Observed(destinations=listed), "x")
    assert "# 5 entries more than there is room for: those will be told" in text
    read(text)


# Listening, the GPU, the rest


def test_ports_to_listen_on():
    assert ports(Listening("0.0.0.0", 8000), Listening("::", 8001), Listening("10.0.0.1", 22)) == [
        "22",
        "8000-8001",
    ]
    assert ports(Listening("127.0.0.1", 8000), Listening("::1", 8001)) == []
    assert ports(Listening("::", 40001), Listening("::", 50000), Listening("::", 80)) == ["80", "32768-65535"]
    assert ports(*(Listening("::", port) for port in range(1, 200, 2))) == ["1-199"]
    udp = Listening("::", 5353, 17), Listening("::", 53, 17), Listening("::1", 54, 17)
    assert ports(Listening("::", 53), *udp) == ["53", "udp/5353"]
    assert ports(Listening("::", 40001, 17)) == ["udp/32768-65535"]
    assert ports(Listening("::", 40001), Listening("::", 40002, 17)) == ["32768-65535"]
    text = write(Observed(listening=[Listening("::", 40001)]), "x")
    assert "# the kernel may have picked 40001: another one next time" in text


def test_users_of_the_gpu():
    def users(*found: GpuUser) -> tuple[str, ...] | None:
        return read(write(Observed(gpu_users=found), "x")).gpu_users

    assert users() == ()
    assert users(GpuUser("/usr/bin/python3.11", "/job/train.py")) == ("train.py",)
    assert users(GpuUser("/opt/bin/trainer"), GpuUser("/usr/bin/python3", "x.py")) == (
        "/opt/bin/trainer",
        "x.py",
    )
    assert users(GpuUser("/usr/bin/python3", "none"), GpuUser("/x")) == ("/x", "?one")
    assert users(GpuUser("/opt/a*[b]?/c\u200b")) == ("/opt/a?[b]?/c*",)


def test_a_run_that_did_nothing():
    policy = read(write(Observed(), "x"))
    assert policy.gpu_users == ()
    assert policy.connect is not None
    assert policy.connect.entries == ()
    assert policy.allow is None


def test_what_is_to_be_known_of_the_run_stands_at_the_top():
    text = write(Observed(), "x", ["NOT A GOOD RUN", 'a\n[exec]\ndeny = "b"'])
    assert '# NOT A GOOD RUN\n# a?[exec]?deny = "b"\n\n[policy]\n' in text
    assert read(text).deny is None


@pytest.mark.parametrize("name", ["sft", 'a "b" \\', "", "a\nb", "\udcff", "é"])
def test_names(name: str):
    policy = read(write(Observed(), name))
    assert policy.name.isprintable()
    assert policy.mode == "observe"


# Whatever was seen is allowed

PARTS = st.sampled_from(
    [
        "usr",
        "bin",
        "tmp",
        "a",
        "b",
        "python3.11",
        "x-1.2",
        "1234",
        "0c9f3e5ae0",
        "site-packages",
        ".cache",
        "home",
    ]
) | st.text("ab*?[]. \n\\\"'é\udcff\x7f", min_size=1, max_size=4)
PATHS = st.lists(PARTS, min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts)) | st.text(max_size=6)
ADDRESS = (
    st.integers(0, 40).map(lambda n: f"192.0.{n % 3}.{n}")
    | st.integers(0, 40).map(lambda n: f"2001:db8:{n % 2}::{n:x}")
    | st.ip_addresses().map(str)
)
NAME = (
    st.none()
    | st.lists(
        st.sampled_from(["a", "b", "c", "d", "example", "org", "co", "uk"]), min_size=1, max_size=4
    ).map(".".join)
    | st.text(max_size=5)
)
PORT = st.integers(0, 65535) | st.sampled_from([22, 53, 80, 443, 40000, 50000])
DESTINATIONS = st.builds(Destination, ADDRESS, PORT, st.sampled_from([6, 6, 17, 1]), NAME)


@given(
    st.dictionaries(PATHS, st.integers(1, 9), max_size=12),
    st.lists(DESTINATIONS, max_size=40),
    st.lists(st.builds(Listening, ADDRESS, PORT, st.sampled_from([6, 17])), max_size=12),
    st.lists(st.builds(GpuUser, PATHS.filter(bool), st.just("") | PATHS), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_everything_that_was_seen_is_allowed(
    paths: dict[str, int],
    destinations: list[Destination],
    listening: list[Listening],
    users: list[GpuUser],
):
    text = write(Observed(paths, destinations, listening, users), "x")
    policy = read(text)
    groups, rules, _, errors = apply(policy, (), ())
    assert not errors

    told = {
        path
        for path in paths
        if naive_rules.evaluate("exec", naive_policy.exec_signals(groups, _bytes(path)), rules)
    }
    lost = text.partition("# no entry can name ")[2].partition(" ")[0]
    assert len(told) == int(lost or 0) or not policy.allow
    assert all(_pattern(path) is None for path in told)

    for seen in destinations:
        address = _as_the_engine_has_it(seen.address)
        if address.is_loopback or address.is_unspecified:
            continue
        port = 0 if seen.protocol == naive_policy.ICMP else seen.port
        there = naive_policy.network_signals(groups, address, seen.protocol, port, _lower(seen.name))
        assert naive_rules.evaluate("connect", there, rules) == [], (seen, text)
    for opened in listening:
        there = naive_policy.listen_signals(
            groups, _as_the_engine_has_it(opened.address), opened.protocol, opened.port
        )
        assert naive_rules.evaluate("listen", there, rules) == [], (opened, text)
    for user in users:
        candidates = [user.exe, user.exe.rpartition("/")[2], user.script, user.script.rpartition("/")[2]]
        globs = [pattern.replace("[", "[[]") for pattern in policy.gpu_users or ()]  # the engine's know no [
        assert any(fnmatchcase(c, pattern) for c in candidates for pattern in globs)
    for place in policy.connect.entries if policy.connect else ():
        network = ipaddress.ip_network(place.networks[0]) if place.networks else None
        assert network is None or network.prefixlen >= WIDEST[network.version]


def _as_the_engine_has_it(address: str) -> naive_policy.Address:
    found = ipaddress.ip_address(address)
    return getattr(found, "ipv4_mapped", None) or found


def _bytes(path: str) -> str:
    """What the automaton sees; the naive twin takes text, so what is no text is replaced."""
    return path.encode("utf-8", "replace").decode()


def _lower(name: str | None) -> str | None:
    return name and name.encode("utf-8", "replace").decode().lower()


def test_programs_by_their_files(tmp_path: Path):
    here = tmp_path / "tool"
    here.write_text("x")
    found = {str(here): 3, "/no/such/tool": 1, str(tmp_path / "odd\x01"): 1}
    policy = read(write(Observed(found), "x", by_file=True))
    assert texts(policy.allow)[0] == f"file:{here}"
    assert "/no/such/tool" in texts(policy.allow)
    assert apply(policy, (), ()).errors == ()
