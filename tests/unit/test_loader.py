# SPDX-License-Identifier: Apache-2.0
"""Which loader is taken, where bcc comes from, and what is said when it can't be had."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tracer.errors import HostError
from tracer.kernel import bcc, host, libbpf, loader


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    monkeypatch.setattr(loader, "_taken", None)


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    """Where the distribution would have put bcc, and nobody else's is found."""
    monkeypatch.setattr(bcc, "_places", lambda: iter([tmp_path]))
    return tmp_path


def put(folder: Path, version: str, *files: str) -> None:
    (folder / "bcc").mkdir()
    for name in ("__init__.py", *files):
        (folder / "bcc" / name).touch()
    (folder / "bcc" / "version.py").write_text(f"__version__ = '{version}'\n")


@pytest.fixture
def described(monkeypatch, tmp_path) -> Path:
    """The kernel's own BTF: not there until it is made."""
    file = tmp_path / "vmlinux"
    monkeypatch.setattr(host, "BTF_FILE", file)
    return file


def test_the_kernels_own_types_are_preferred(described):
    described.touch()
    taken = loader.choose()
    assert (taken.name, taken.types) == ("libbpf", None)
    assert "BTF" in taken.why
    assert taken.path.name.count(".") == 3
    assert loader.taken() is taken


def test_without_them_bcc_is_asked(described, monkeypatch):
    monkeypatch.setattr(bcc, "kernel_types", lambda: Path("/types"))
    taken = loader.choose("auto")
    assert (taken.name, taken.types) == ("bcc", Path("/types"))
    assert "no BTF" in taken.why
    assert ".plain.bpf.o" in taken.path.name


def test_what_is_asked_for_is_taken(described, monkeypatch):
    monkeypatch.setattr(bcc, "kernel_types", lambda: Path("/types"))
    with pytest.raises(HostError, match="no BTF") as caught:
        loader.choose("libbpf")
    assert "--loader bcc" in caught.value.hint
    described.touch()
    assert loader.choose("bcc").why == "asked for"


def test_a_file_of_types_stands_for_the_kernels_own(described, monkeypatch, tmp_path):
    monkeypatch.setattr(libbpf, "describes_a_kernel", lambda path: path == str(types))
    types = tmp_path / "types.btf"
    with pytest.raises(HostError, match="there is no file"):
        loader.choose("auto", types)
    types.touch()
    taken = loader.choose("auto", types)
    assert (taken.name, taken.types, taken.plain) == ("libbpf", types, True)
    described.touch()
    taken = loader.choose("auto", types)
    assert (taken.types, taken.plain) == (None, False)
    assert "is not needed" in taken.why
    assert loader.choose("libbpf", types).types == types, "as it was asked for"
    with pytest.raises(HostError, match="takes no --btf"):
        loader.choose("bcc", types)


def test_what_does_not_describe_a_kernel_is_refused(described, tmp_path):
    """Neither text, nor a program that says nothing of types."""
    text = tmp_path / "text"
    text.write_text("no BTF")
    for file in (text, Path(sys.executable)):
        with pytest.raises(HostError, match="does not describe a kernel's types") as caught:
            loader.choose("auto", file)
        assert "BTFHub" in caught.value.hint


def test_bcc_is_found_with_its_version(folder):
    put(folder, "0.26.0+ds-1", "libbcc.py")
    assert bcc.find() == (folder, (0, 26))


def test_another_project_of_that_name_is_not_taken_for_it(folder):
    put(folder, "0.1.10")
    with pytest.raises(HostError, match="not installed") as caught:
        bcc.find()
    assert "python3-bpfcc" in caught.value.hint


@pytest.mark.parametrize("version", ["0.9.0", "unknown"])
def test_one_that_is_too_old_is_named(folder, version):
    put(folder, version, "libbcc.py")
    with pytest.raises(HostError, match=r"is too old: 0\.18 or later"):
        bcc.find()


def test_a_child_that_fails_is_quoted(folder, monkeypatch, tmp_path):
    child = tmp_path / "child.py"
    child.write_text("import sys; sys.exit('Unable to find kernel headers. Try …')")
    monkeypatch.setattr(bcc, "_CHILD", child)
    with pytest.raises(HostError, match="can't compile against the headers") as caught:
        bcc._compile(folder, tmp_path / "made.o")
    assert "linux-headers" in caught.value.hint
    assert "Unable to find" in caught.value.detail
