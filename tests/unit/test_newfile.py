# SPDX-License-Identifier: Apache-2.0
"""Files that appear as a whole where others may write, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tracer.errors import VigilesError
from tracer.newfile import NewFile


def test_it_is_there_in_the_end(tmp_path: Path):
    file = NewFile(tmp_path / "job.toml")
    assert not list(tmp_path.iterdir())
    umask = os.umask(0o777)
    try:
        assert file.write(b"text", group=os.getegid()) == tmp_path / "job.toml"
    finally:
        os.umask(umask)
        file.close()
    assert (tmp_path / "job.toml").read_bytes() == b"text"
    assert (tmp_path / "job.toml").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["job.toml"]


def test_what_is_there_is_left_alone(tmp_path: Path):
    (tmp_path / "job.toml").write_text("mine")
    with pytest.raises(VigilesError, match="there already") as failed:
        NewFile(tmp_path / "job.toml")
    assert failed.value.hint == "--force replaces it"
    file = NewFile(tmp_path / "job.toml", replace=True)
    file.write(b"new")
    file.close()
    assert (tmp_path / "job.toml").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["job.toml"]


@pytest.mark.parametrize("replace", [False, True])
def test_links_are_not_followed(tmp_path: Path, replace: bool):
    """Neither one that is there, nor one that somebody makes during the run."""
    victim, link = tmp_path / "shadow", tmp_path / "job.toml"
    victim.write_text("root:x")
    link.symlink_to(victim)
    if not replace:
        with pytest.raises(VigilesError, match="there already"):
            NewFile(link)
        link.unlink()
    file = NewFile(link, replace=replace)
    if not replace:
        link.symlink_to(victim)
    place = file.write(b"new")
    file.close()
    assert victim.read_text() == "root:x"
    assert not place.is_symlink() and place.read_text() == "new"
    assert (place == link) == replace
    assert place.parent == tmp_path


def test_a_folder_that_has_been_moved(tmp_path: Path):
    """The file goes where the folder is, not to what has its name now."""
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    there.mkdir()
    elsewhere.mkdir()
    file = NewFile(there / "job.toml")
    there.rename(tmp_path / "moved")
    there.symlink_to(elsewhere)
    file.write(b"new")
    file.close()
    assert not list(elsewhere.iterdir())
    assert (tmp_path / "moved" / "job.toml").exists()


def test_what_can_t_be_is_said_at_once(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    for path, words in (
        (tmp_path / "no" / "job.toml", "No such file"),
        (tmp_path / "folder", "is a folder"),
        (Path("/"), "no name of a file"),
        (Path("/proc/job.toml"), "can't"),
    ):
        with pytest.raises(VigilesError, match=words):
            NewFile(path).write(b"")
