# SPDX-License-Identifier: Apache-2.0
"""Files that are made now and written later, where others may write, too."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from tracer.errors import VigilesError
from tracer.newfile import UNFINISHED, NewFile


def test_it_is_made_at_once_and_whole_in_the_end(tmp_path: Path):
    umask = os.umask(0o777)
    try:
        file = NewFile(tmp_path / "job.toml", group=os.getegid())
    finally:
        os.umask(umask)
    with file:
        assert (tmp_path / "job.toml").read_bytes() == UNFINISHED
        with pytest.raises(tomllib.TOMLDecodeError):
            tomllib.loads(UNFINISHED.decode())
        file.write(b"a = 1\n")
        assert file.read() == b"a = 1\n"
        file.write(b"a = 1\n" * 100)
        assert file.read() == b"a = 1\n" * 100
    assert (tmp_path / "job.toml").read_bytes() == b"a = 1\n" * 100
    assert (tmp_path / "job.toml").stat().st_mode & 0o777 == 0o640


def test_half_of_it_can_t_be_read(tmp_path: Path, monkeypatch):
    def full(fd: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "ftruncate", full)
    with NewFile(tmp_path / "a") as file:
        with pytest.raises(VigilesError, match="No space left"):
            file.write(b"a = 1\n" * 100)
        with pytest.raises(tomllib.TOMLDecodeError):
            tomllib.loads((tmp_path / "a").read_text())
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_alone(tmp_path: Path):
    (tmp_path / "job.toml").write_text("mine")
    with pytest.raises(VigilesError, match="there already") as failed:
        NewFile(tmp_path / "job.toml")
    assert failed.value.hint == "--force replaces it"
    with NewFile(tmp_path / "job.toml", replace=True) as file:
        file.write(b"new")
    assert (tmp_path / "job.toml").read_text() == "new"


def test_links_are_not_followed(tmp_path: Path):
    victim, link = tmp_path / "shadow", tmp_path / "job.toml"
    victim.write_text("root:x")
    link.symlink_to(victim)
    with pytest.raises(VigilesError, match="there already"):
        NewFile(link)
    with NewFile(link, replace=True) as file:
        file.write(b"new")
    assert victim.read_text() == "root:x"
    assert not link.is_symlink() and link.read_text() == "new"


def test_what_others_put_in_its_place_stays(tmp_path: Path):
    victim, path = tmp_path / "shadow", tmp_path / "job.toml"
    victim.write_text("root:x")
    with NewFile(path) as file:
        assert file.is_in_place()
        path.unlink()
        assert not file.is_in_place()
        path.symlink_to(victim)
        assert not file.is_in_place()
    assert path.is_symlink() and victim.read_text() == "root:x"


def test_what_can_t_be_is_said_at_once(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "no" / "job.toml", Path("/"), Path("/proc/job.toml")):
        with pytest.raises(VigilesError, match=r"can't write|there already"):
            NewFile(path)
    with pytest.raises(VigilesError, match="can't write"):
        NewFile(tmp_path / "folder", replace=True)
