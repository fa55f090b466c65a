# SPDX-License-Identifier: Apache-2.0
"""Programs that a policy names by the file itself, and users of the GPU below others."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tracer.cli.policy import policy as group
from tracer.errors import PolicyError
from tracer.policy import apply_policy
from tracer.policy.files import identify
from tracer.policy.parse import parse
from tracer.policy.unfit import Unfit
from tracer.rules import RuleSet
from tracer.rules.numbers import inode_range
from tracer.rules.users import read_user


def under(text: str) -> RuleSet:
    parsed = parse(text, "f.toml")
    assert not parsed.errors, parsed.errors
    return apply_policy(parsed.policy, RuleSet((), ()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "tool"
    made.write_text("one")
    return made


def test_a_name_and_a_link_are_the_same_file(file: Path):
    found = identify(str(file))
    renamed = file.rename(file.with_name("other"))
    os.link(renamed, file)
    file.with_name("link").symlink_to(renamed)
    assert {identify(str(path)) for path in (renamed, file, file.with_name("link"))} == {found}
    major, minor, inode = (int(part) for part in found.place.split(":"))
    assert (major, minor, inode) == (
        os.major(file.stat().st_dev),
        os.minor(file.stat().st_dev),
        file.stat().st_ino,
    )


def test_what_is_written_is_another_state_and_a_copy_another_file(file: Path):
    found = identify(str(file))
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    os.utime(copy, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    assert identify(str(copy)).place != found.place
    file.write_text("two")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    changed = identify(str(file))
    assert changed.place == found.place
    assert changed.content != found.content
    assert inode_range(changed.content) != inode_range(found.content)
    first, last = inode_range(found.place)
    assert all(first <= inode_range(text)[0] <= last for text in (found.content, changed.content))


@pytest.mark.parametrize(("path", "why"), [("/no/such/file", "No such file"), ("/usr", "no ordinary file")])
def test_what_is_not_there_is_a_mistake(path: str, why: str):
    with pytest.raises(Unfit, match=why):
        identify(path)
    policy = f'[exec]\nallow = ["file:{path}"]\n'
    with pytest.raises(PolicyError, match=why) as caught:
        under(policy)
    assert caught.value.line == 2
    with pytest.raises(PolicyError, match=why) as caught:
        under(f'[gpu]\naction = "kill"\nusers = ["a", "file:{path}"]\n')
    assert caught.value.line == 3


def test_allowed_is_the_file_as_it_is_and_forbidden_whatever_is_in_it(file: Path):
    rules = under(f'[exec]\nallow = ["file:{file}", "bash"]\ndeny = ["file:{file}"]\n')
    groups = {found.id: found for found in rules.groups}
    found = identify(str(file))
    assert groups["policy-exec-allow-range"].values == (found.content,)
    assert groups["policy-exec-deny-range"].values == (found.place,)
    assert groups["policy-exec-allow-range"].where == ("inode",)
    names = {name for rule in rules.rules for a in rule.alternatives for name in (*a.any, *a.none)}
    assert names == {"policy-exec-allow-range", "policy-exec-allow-file", "policy-exec-deny-range"}


def test_who_may_use_the_gpu(file: Path):
    users = f'["train.py", {{ program = "file:{file}", below = "torchrun" }}, "a below file:{file}"]'
    found = under(f"[gpu]\nusers = {users}\n").terms.gpu_users
    inode = f"inode:{identify(str(file)).content}"
    assert found == ("train.py", f"{inode} below torchrun", f"a below {inode}")
    who, below = read_user(found[1])
    assert (who.is_file, who.text) == (True, identify(str(file)).content)
    assert below is not None and (below.is_file, below.text) == (False, "torchrun")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[exec]\nallow = ["file:git"]', "names no file"),
        ('[exec]\nallow = ["file:/usr/bin/*"]', "names no file"),
        ('[gpu]\nusers = ["file:"]', "names no file"),
        ('[gpu]\nusers = [{ program = "a" }]', "'below' must be one program"),
        ('[gpu]\nusers = [{ program = "a below b", below = "c" }]', "'program' must be one program"),
        ('[gpu]\nusers = [{ program = "a", under = "b" }]', "under"),
        ('[gpu]\nusers = ["a below "]', "names no program"),
        (
            '[[exceptions]]\nrule = "net.*"\nreason = "r"\nuntil = 2027-01-31\nexe = "file:/usr/bin/git"',
            "has a path",
        ),
    ],
)
def test_mistakes(text: str, message: str):
    parsed = parse(text + "\n", "f.toml")
    assert any(message in str(error) for error in parsed.errors), parsed.errors


def test_check_and_explain_say_it(tmp_path: Path, file: Path):
    path = tmp_path / "job.toml"
    path.write_text(
        f'[gpu]\nusers = [{{ program = "train.py", below = "torchrun" }}]\n'
        f'[exec]\nallow = ["file:{file}", "file:{sys.executable}"]\n'
    )
    checked = CliRunner().invoke(group, ["check", str(path)])
    assert checked.exit_code == 0, checked.output
    assert "warning" not in checked.output
    said = " ".join(CliRunner().invoke(group, ["explain", str(path)]).output.split())
    assert "May use it: train.py below torchrun." in said
    assert f"file:{file}" in said
    assert "that very file, whatever it is called" in said
