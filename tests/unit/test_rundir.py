# SPDX-License-Identifier: Apache-2.0
"""The list of watched trees: found again, gone at the end, and not to be had by whoever meddles with it."""

from __future__ import annotations

import itertools
import json
import os
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer import rundir
from tracer.errors import HostError, LoadError, VigilesError
from tracer.kernel import schema
from tracer.kernel.cgroup import process_start_ticks
from tracer.kernel.tree import Tree
from tracer.rundir import directory
from tracer.rundir.record import TreeInfo, file_name, parse, to_bytes

ME = {"pid": os.getpid(), "start": process_start_ticks(os.getpid())}
NOBODY = {"pid": 1 << 22, "start": 1}
GOOD = {"tree": "t", "cgroup": None, "mode": "run", "began": 1.5} | ME


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the files are; not made yet."""
    monkeypatch.setattr(directory, "DIRECTORY", tmp_path / "vigiles")
    return tmp_path / "vigiles"


def put(place: Path, name: str, **said) -> Path:
    place.mkdir(mode=0o700, exist_ok=True)
    path = place / name
    path.write_text(json.dumps(GOOD | said))
    path.chmod(0o600)
    return path


def test_a_tree_is_listed_while_it_is_watched(place, tmp_path):
    assert rundir.trees() == []
    with rundir.register("vigiles-1-2-0", tmp_path, "run") as info:
        assert rundir.trees() == [info]
        assert info.alive and info.cgroup == tmp_path and info.mode == "run"
        assert abs(info.began - time.time()) < 60
        (file,) = place.iterdir()
        assert file.name == "vigiles-1-2-0.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert rundir.trees() == [] and list(place.iterdir()) == []


def test_it_is_gone_after_an_error_too(place):
    with pytest.raises(ZeroDivisionError), rundir.register("t", None, "attach"):
        raise ZeroDivisionError
    assert list(place.iterdir()) == []


def test_two_watches_of_one_tree(place):
    with rundir.register("pid-1", None, "attach") as first:
        with rundir.register("pid-1", None, "attach") as second:
            assert sorted(info.began for info in rundir.trees()) == [first.began, second.began]
            assert rundir.find("pid-1") == first
        assert rundir.trees() == [first]
    assert list(place.iterdir()) == []


def test_find_by_the_beginning(place):
    put(place, "a.json", tree="vigiles-10-5-0")
    put(place, "b.json", tree="vigiles-11-5-0")
    put(place, "c.json", tree="vigiles-11-5")
    assert rundir.find("vigiles-10").tree == "vigiles-10-5-0"
    assert rundir.find("vigiles-11-5").tree == "vigiles-11-5"  # all of it, though another begins so
    with pytest.raises(VigilesError, match="more than one tree begins with vigiles-1") as caught:
        rundir.find("vigiles-1")
    assert "vigiles-10-5-0, vigiles-11-5, vigiles-11-5-0" in caught.value.hint
    for nothing in ("", "x", "vigiles-10-5-0 "):
        with pytest.raises(VigilesError, match="is being watched"):
            rundir.find(nothing)


def test_whoever_still_watches_comes_first(place):
    put(place, "a.json", began=1.0, **NOBODY)
    put(place, "b.json", began=2.0)
    assert rundir.find("t").began == 2.0
    assert [info.alive for info in rundir.trees()] == [False, True]


def test_names_of_trees_are_shown_escaped(place):
    put(place, "a.json", tree="a\x1b[31m")
    put(place, "b.json", tree="a\u202e")
    with pytest.raises(VigilesError) as caught:
        rundir.find("a")
    assert "\x1b" not in caught.value.hint and "\u202e" not in caught.value.hint


def test_what_killed_tracers_left_goes_at_the_next_start(place, tmp_path):
    full = tmp_path / "cgroup"
    full.mkdir()
    (full / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    put(place, "gone.json", tree="gone", cgroup=str(tmp_path / "nowhere"), **NOBODY)
    put(place, "attached.json", tree="attached", **NOBODY)
    put(place, "full.json", tree="full", cgroup=str(full), **NOBODY)
    put(place, "reused.json", tree="reused", pid=os.getpid(), start=1)  # the number is somebody else's now
    put(place, "alive.json", tree="alive")
    (place / ".half").write_text("{")
    (place / "later.json").write_text('{"format": 2}')
    with rundir.register("new", None, "run"):
        left = {path.name for path in place.iterdir()}
    assert left == {"full.json", "alive.json", "later.json", "new.json"}


def test_a_name_that_is_taken_over_meanwhile_is_left_alone(place):
    with rundir.register("t", None, "run"):
        (place / "t.json").unlink()
        put(place, "t.json", began=7.0)
    assert rundir.find("t").began == 7.0


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b"[" * 60000, b'{"a":' * 9000, b"\0" * 10, b"9" * 5000,
        *(
            json.dumps(GOOD | wrong).encode()
            for wrong in (
                {"tree": ""}, {"tree": 1}, {"tree": "x" * 256}, {"tree": None}, {"tree": "\ud800"}, {"pid": 0},
                {"pid": -1}, {"pid": 1 << 40}, {"pid": True}, {"pid": "1"}, {"pid": 1.0}, {"start": -1},
                {"start": None}, {"mode": "x"}, {"mode": ["run"]}, {"mode": {}}, {"began": None},
                {"began": "x"}, {"began": float("nan")}, {"began": float("inf")}, {"began": True},
                {"cgroup": "relative"}, {"cgroup": 1}, {"cgroup": "/a\0b"}, {"cgroup": ""}, {"cgroup": "/\udfff"},
            )
        ),
    ],
    ids=map(str, itertools.count()),  # what is in them has our pid
)  # fmt: skip
def test_damaged_files_are_passed_over(place, raw):
    put(place, "good.json")
    (place / "bad.json").write_bytes(raw)
    assert [info.tree for info in rundir.trees()] == ["t"]
    with rundir.register("new", None, "run"):
        assert len(rundir.trees()) == 2


@given(st.binary(max_size=200))
def test_any_bytes_are_read(raw):
    parse(raw)


_KEYS = st.sampled_from(["tree", "pid", "start", "cgroup", "mode", "began", "other"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(_KEYS, _VALUES))
def test_any_json_is_read(said):
    found = parse(json.dumps(GOOD | said).encode())
    assert found is None or (0 < found.pid <= 1 << 22 and found.mode in {"run", "attach"})


@given(st.binary(min_size=1, max_size=255).filter(lambda raw: not set(raw) & {0, 47}))
def test_any_name_that_a_cgroup_can_have(raw):
    """Its name is the tree's, and its user may have chosen it."""
    tree = os.fsdecode(raw)
    info = TreeInfo(tree, 1, 2, Path("/") / tree, "attach", 3.0)
    assert parse(to_bytes(info)) == info
    name = file_name(tree)
    assert name.isascii() and "/" not in name and not name.startswith(".") and len(name) < 230


def test_different_trees_have_different_files():
    names = ["a", "A", "%61", "a/b", "..", ".", "a" * 200, "a" * 201, "é", "%2E"]
    assert len({file_name(name) for name in names}) == len(names)


def test_what_is_no_plain_file_of_ours_is_passed_over(place, tmp_path):
    put(place, "good.json")
    target = put(tmp_path, "target")
    (place / "link.json").symlink_to(target)
    (place / "folder.json").mkdir()
    os.mkfifo(place / "fifo.json")  # would wait for ever
    put(place, "writable.json").chmod(0o666)
    (place / "large.json").write_text(json.dumps(GOOD) + " " * (1 << 16))
    (place / "other.txt").write_text(json.dumps(GOOD))
    assert len(rundir.trees()) == 1
    with rundir.register("fifo", None, "run"):  # whose file's name is taken, by a file then replaced
        assert len(rundir.trees()) == 2


def test_a_directory_in_the_place_of_the_file(place):
    (place / "t.json").mkdir(parents=True)
    place.chmod(0o700)
    with pytest.raises(HostError, match="can't write"), rundir.register("t", None, "run"):
        pass
    assert [path.name for path in place.iterdir()] == ["t.json"]  # and no draft


def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(place, tmp_path):
    place.mkdir(mode=0o700)
    (place / "t.json").symlink_to(tmp_path / "target")
    with rundir.register("t", None, "run"):
        assert not (place / "t.json").is_symlink()
    assert not (tmp_path / "target").exists()


def refused(words: str) -> None:
    for use in (rundir.trees, lambda: rundir.register("t", None, "run").__enter__()):
        with pytest.raises(HostError, match=words):
            use()


def test_a_link_in_the_place_of_the_directory(place, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to(tmp_path / "elsewhere")
    refused("no directory")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_in_the_place_of_the_directory(place):
    place.write_text("")
    refused("no directory")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_directory_that_others_can_write(place, mode):
    place.mkdir()
    place.chmod(mode)
    refused("can be written by others")


def test_a_directory_that_others_can_read_is_closed(place):
    place.mkdir(mode=0o755)
    place.chmod(0o755)
    with rundir.register("t", None, "run"):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.root
def test_a_directory_of_somebody_else(place):
    place.mkdir(mode=0o700)
    os.chown(place, 65534, 65534)
    refused("belongs to somebody else")


@pytest.mark.root
def test_a_file_of_somebody_else(place):
    os.chown(put(place, "a.json"), 65534, -1)
    assert rundir.trees() == []


def test_no_run(monkeypatch, tmp_path):
    monkeypatch.setattr(directory, "DIRECTORY", tmp_path / "run" / "vigiles")
    refused(f"can't open {tmp_path}/run: No such file")


def test_a_run_in_which_others_can_exchange_things(monkeypatch, tmp_path):
    monkeypatch.setattr(directory, "DIRECTORY", tmp_path / "run" / "vigiles")
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    refused("can be written by others")
    (tmp_path / "run").chmod(0o1777)
    with rundir.register("t", None, "run"):
        assert len(rundir.trees()) == 1


def test_a_tree_that_nobody_could_read_again(place):
    for tree, mode in (("", "run"), ("x" * 256, "run"), ("t", "walk")):
        with pytest.raises(HostError, match="can't be listed"), rundir.register(tree, None, mode):
            pass


def test_a_relative_cgroup_is_made_absolute(place, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with rundir.register("t", Path("job.slice"), "attach") as info:
        assert info.cgroup == tmp_path / "job.slice"


def test_a_writer_that_hangs_is_not_waited_for(place, monkeypatch):
    monkeypatch.setattr(directory, "_LOCK_PATIENCE_S", 0.05)
    put(place, "stale.json", tree="stale", **NOBODY)
    (place / ".half").write_text("{")
    with directory.opened(make=True) as other, directory._alone(other) as alone:
        assert alone
        with rundir.register("t", None, "run"):
            assert {info.tree for info in rundir.trees()} == {"t", "stale"}
            assert (place / ".half").exists()  # it may be the other's
    assert [info.tree for info in rundir.trees()] == ["stale"]


COME_AND_GO = """
import sys
from pathlib import Path
from tracer import rundir
from tracer.rundir import directory
directory.DIRECTORY = Path(sys.argv[1])
for n in range(60):
    with rundir.register(f"tree-{n % 3}", None, "run") as info:
        assert info in rundir.trees()
"""


def test_many_at_once(place):
    """Some come and go under the same names while others look: each finds itself, nothing stays."""
    workers = [subprocess.Popen([sys.executable, "-c", COME_AND_GO, str(place)]) for _ in range(4)]
    while None in [worker.poll() for worker in workers]:
        assert len(rundir.trees()) <= 8  # a list read while names change hands may have one twice
    assert [worker.returncode for worker in workers] == [0] * 4
    assert list(place.iterdir()) == []


REMAINS = {
    "maps": {"control": 7},
    "programs": {"on_task": 8},
    "knowledge": [64, 5, 1],
    "missing": {},
    "by_lineage": False,
}


def test_what_is_left_of_a_tracer_names_its_layout():
    def read(**more):
        found = parse(json.dumps(GOOD | {"remains": REMAINS | more}).encode())
        return found.remains

    assert read(layout="abc").layout == "abc"
    assert read().layout == "", "older versions did not say"
    assert read(layout=7) is read(layout="x" * 65) is None
    info = TreeInfo("t", 1, 2, None, "run", 1.5, read(layout="abc"))
    assert parse(to_bytes(info)) == info


def test_tasks_that_another_version_describes():
    class Iterates:
        @contextmanager
        def iterate(self, name):
            reading, writing = os.pipe()
            os.write(writing, self.told)
            os.close(writing)
            yield reading
            os.close(reading)

    probes = Iterates()
    probes.told = b"x" * (schema.TASK.itemsize + 8)
    tree = Tree(probes)
    assert not tree.is_empty()
    with pytest.raises(LoadError, match="another version"):
        tree.identities()
    probes.told = b""
    assert tree.is_empty() and tree.identities() == []


def test_a_fingerprint_is_of_what_is_shared():
    assert len(schema.fingerprint()) == 32
    assert schema.fingerprint() == schema.fingerprint()
