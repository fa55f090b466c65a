# SPDX-License-Identifier: Apache-2.0
"""``tracer.span`` as programs use it, against a stand-in for the kernel: and where nobody traces them."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.kernel import schema
from tracer.marks import api
from tracer.marks import channel as channels
from tracer.marks.channel import CALL, LEVEL, Channel
from tracer.marks.text import TEXT_MAX, _encode_slowly, encode

ROOT = Path(__file__).parent.parent.parent
NOBODY = errno.EOPNOTSUPP


@dataclass
class Kernel:
    """What probes/span.bpf.c does with the calls of one process. ``answer``: its errno; 0: it takes them."""

    answer: int = 0
    calls: int = 0
    open: dict[int, tuple[int, dict[str, str]]] = field(default_factory=dict)
    now: dict[int, int] = field(default_factory=dict)

    def take(self, op: int, data: bytes) -> int:
        self.calls += 1
        if self.answer:
            return self.answer
        _, token, above, _, _ = CALL.unpack(data[: CALL.size])
        tid = threading.get_native_id()
        if op == channels.BEGIN:
            assert token
            assert above == 0 or above in self.open
            pairs = data[CALL.size :].decode().split("\0")[:-1]
            self.open[token] = above, dict(pair.split("=", 1) for pair in pairs)
            self.now[tid] = token
        elif op == channels.END:
            del self.open[token]
            if self.now.get(tid) == token:
                self.now[tid] = above
        else:
            assert token == 0 or token in self.open
            self.now[tid] = token
        return 0

    def tool(self) -> str | None:
        """The tool whose span the calling thread is in."""
        token = self.now.get(threading.get_native_id(), 0)
        return self.open[token][1].get("tool") if token else None

    def act(self) -> str | None:
        """Do something that the kernel sees; in whose span?"""
        api.MARKS.align()
        return self.tool()


@pytest.fixture
def kernel(monkeypatch):
    """Spans of a program that is traced by a stand-in."""
    kernel = Kernel()
    monkeypatch.setattr(Channel, "_send", lambda self, op, data: kernel.take(op, data))
    marks = api.Marks(Channel())
    monkeypatch.setattr(api, "MARKS", marks)
    yield kernel
    assert marks.failures == 0


def test_python_and_c_agree_on_the_call():
    call = schema.BTF.dtype("span_call")
    assert call.names == ("secret", "token", "above", "flags", "up")
    assert call.itemsize == CALL.size
    packed = CALL.pack(*range(1, 6))
    assert [int(number) for number in np.frombuffer(packed, call)[0]] == [1, 2, 3, 4, 5]
    operations = schema.BTF.enum("span_op")
    numbers = [operations[f"SPAN_OP_{name}"] for name in ("BEGIN", "END", "SWITCH")]
    assert numbers == [channels.BEGIN, channels.END, channels.SWITCH]
    assert schema.SPAN_FLAG["SPAN_CUT"] == channels.CUT
    header = (ROOT / "probes" / "span_call.h").read_text()
    assert f"#define SPAN_LEVEL {LEVEL:#x}".upper() in header.upper()
    assert schema.SPAN_TEXT == TEXT_MAX
    assert f"#define SPAN_TEXT {TEXT_MAX}" in (ROOT / "probes" / "events.h").read_text()


def test_nested_spans_and_what_lies_between(kernel):
    assert kernel.act() is None
    with api.span(tool="outer", step=1):
        assert kernel.act() == "outer"
        with api.span(tool="inner", note=None, more="x"):
            assert kernel.act() == "inner"
            assert list(kernel.open.values())[1][1] == {"tool": "inner", "more": "x"}
        assert kernel.act() == "outer"
    assert kernel.act() is None
    assert kernel.open == {}
    assert kernel.calls == 4  # no more than begin and end: one thread, one after the other


def test_tasks_of_asyncio(kernel):
    seen = []

    async def call(name: str, turns: int) -> None:
        async with api.span(tool=name):
            for _ in range(turns):
                await asyncio.sleep(0)
                seen.append((name, kernel.act()))
            with api.span(tool=f"{name}'s"):
                await asyncio.sleep(0)
                seen.append((f"{name}'s", kernel.act()))

    async def other() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
            seen.append((None, kernel.act()))

    async def main() -> None:
        await asyncio.gather(call("a", 3), call("b", 2), other(), call("c", 4))

    asyncio.run(main())
    assert len(seen) == 17
    assert all(wanted == found for wanted, found in seen)
    assert kernel.open == {}


def test_threads_have_their_own(kernel):
    seen = []
    ready = threading.Barrier(4)

    def work(name: str) -> None:
        with api.span(tool=name):
            ready.wait()
            seen.append((name, kernel.act()))
            ready.wait()

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(f"t{n}", f"t{n}") for n in range(4)]
    assert kernel.open == {}


def test_as_a_decorator(kernel):
    @api.span(tool="sync", step=3)
    def plain(depth: int) -> list[str | None]:
        """Doc."""
        return [kernel.act(), *(plain(depth - 1) if depth else [])]

    @api.span(tool="async")
    async def coroutine() -> str | None:
        await asyncio.sleep(0)
        return kernel.act()

    assert plain(2) == ["sync"] * 3
    assert plain.__doc__ == "Doc."

    async def both() -> list[str | None]:
        return list(await asyncio.gather(coroutine(), coroutine()))

    assert asyncio.run(both()) == ["async"] * 2
    assert kernel.open == {}
    with pytest.raises(TypeError, match="generator"):
        api.span(tool="x")(lambda: (yield))


def test_the_body_may_fail_and_the_end_may_come_from_elsewhere(kernel):
    with pytest.raises(ZeroDivisionError), api.span(tool="x"):
        1 / 0  # noqa: B018
    assert kernel.open == {}
    one = api.span(tool="y")
    contextvars.copy_context().run(one.__enter__)
    one.__exit__(None, None, None)  # in another context than it was entered in
    assert kernel.open == {}
    one.__exit__(None, None, None)  # once too often
    assert kernel.act() is None


def test_nobody_traces_it(kernel, monkeypatch):
    kernel.answer = NOBODY
    now = [100.0]
    monkeypatch.setattr(channels.time, "monotonic", lambda: now[0])
    for _ in range(50):
        with api.span(tool="x"):
            kernel.act()
    assert kernel.calls == 1  # and then the answer is known
    now[0] += channels.RETRY_S
    for _ in range(50):
        with api.span(tool="x"):
            kernel.act()
    assert kernel.calls == 2
    assert api.MARKS.channel.failures == 0


def test_a_tracer_comes_goes_and_comes_again(kernel, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(channels.time, "monotonic", lambda: now[0])
    kernel.answer = NOBODY
    with api.span(tool="outer"), api.span(tool="inner"):
        assert kernel.open == {}
        kernel.answer = 0
        now[0] += channels.RETRY_S
        assert kernel.act() == "inner"  # both are told then
        assert [said["tool"] for _, said in kernel.open.values()] == ["outer", "inner"]
        kernel.answer = NOBODY
        with api.span(tool="unseen"):
            pass
        kernel.answer = 0
        kernel.open.clear()  # another tracer, which has been told nothing
        kernel.now.clear()
        assert kernel.act() is None
        now[0] += channels.RETRY_S
        assert kernel.act() == "inner"
        assert [said["tool"] for _, said in kernel.open.values()] == ["outer", "inner"]
    assert kernel.open == {}


def test_refusals_are_counted_and_stop_nothing(kernel):
    with api.span(tool="x"):
        kernel.answer = errno.EPERM
        with api.span(tool="y"):
            pass
        kernel.answer = 0
        assert kernel.act() == "x"
    assert api.MARKS.channel.failures == 1


@pytest.mark.parametrize("broken", ["enter", "leave"])
def test_a_mistake_of_ours_does_not_fail_the_job(monkeypatch, broken):
    marks = api.Marks(Channel())

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(marks, broken, fail)
    monkeypatch.setattr(api, "MARKS", marks)
    with api.span(tool="x"):
        pass
    assert marks.failures == 1
    marks.channel.close()


def test_a_forked_child_has_none_of_its_parents(kernel):
    with api.span(tool="parent's"):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                entered, undo = api.MARKS.enter({"tool": "child's"})
                status = int(kernel.open[entered.token][0] != 0)  # in what the child was born in
                api.MARKS.leave(entered, undo)
                status |= int(api.MARKS.channel.failures)
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("taken", [False, True])
def test_descriptors_that_are_closed_behind_its_back(taken):
    channel = Channel()
    data = bytes(CALL.size)
    assert channel._send(channels.SWITCH, data) == NOBODY
    fd = channel._socket.fileno()
    os.close(fd)
    if taken:
        assert os.open("/dev/null", os.O_RDONLY) == fd
    assert channel._send(channels.SWITCH, data) == (errno.ENOTSOCK if taken else errno.EBADF)
    seen = []
    send = channel._send
    channel._send = lambda op, data: seen.append(send(op, data)) or seen[-1]
    assert not channel.call(channels.SWITCH, 0)
    assert seen == [errno.ENOTSOCK if taken else errno.EBADF, NOBODY]
    if taken:
        os.close(fd)
    assert channel.failures == 0
    assert channel._socket is None  # the next one is made in the cgroup that we are in by then


TEXT = st.text(max_size=300)


@given(
    st.dictionaries(TEXT, st.none() | TEXT | st.integers(), max_size=8)
    | st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3)
)
def test_whatever_is_said_becomes_pairs(said):
    text, cut = encode(said)
    assert (text, cut) == _encode_slowly(said)
    assert len(text) <= TEXT_MAX
    pairs = text.split(b"\0")
    assert pairs.pop() == b""
    text.decode()
    assert all(b"=" in pair for pair in pairs)
    there = [value for value in said.values() if value is not None]
    assert len(pairs) == len(there) or cut


def test_characters_are_not_cut_in_two():
    text, cut = encode({"tool": "é" * 300, "step": 1, "lone": "\ud800"})
    assert cut
    assert text == b"tool=" + "é".encode() * 100 + b"\0step=1\0lone=\\ud800\0"
    assert encode({"a": "x" * 512, "b": 1}) == (b"a=" + b"x" * 200 + b"\0b=1\0", True)


def run(*argv: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *argv], check=False, capture_output=True, text=True, cwd=ROOT, **more
    )


def test_it_costs_nothing_until_it_is_used():
    script = (
        "import sys; before = set(sys.modules); import tracer; mine = set(sys.modules) - before\n"
        "assert mine == {'tracer'}, mine\n"
        "tracer.span; mine = {m.partition('.')[0] for m in set(sys.modules) - before}\n"
        "assert not mine & {'numpy', 'numba', 'click', 'elftools', 'asyncio', 'inspect', 'subprocess'}, mine\n"
        "print(tracer.span(tool='x').__class__.__name__, tracer.__version__)"
    )
    done = run("-I", "-c", f"import sys, __future__; sys.path.insert(0, {str(ROOT)!r})\n" + script)
    assert done.stderr == ""
    assert done.stdout.startswith("span ")


def test_its_own_words_are_the_standard_librarys():
    """It is imported into other people's programs."""
    allowed = set(sys.stdlib_module_names) | {"tracer"}
    for path in (ROOT / "tracer" / "marks").glob("*.py"):
        with tokenize.open(path) as file:
            for line in file:
                words = line.split()
                if words[:1] in (["import"], ["from"]):
                    assert words[1].partition(".")[0] in allowed, line
                    assert not words[1].startswith("tracer.") or words[1].startswith("tracer.marks"), line


SPAN = ("-c", "from tracer.entry import main; main()", "span")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("begin", "--tool", "bash", "key=value"), 0, ""),
        (("begin", "--tool=bash", "--step=3"), 0, ""),
        (("end", "0" * 23 + "1"), 0, ""),
        (("run", "--tool", "x", "--", "sh", "-c", "exit 3"), 3, ""),
        (("run", "--", "no-such-program"), 127, "No such file"),
        (("run", "--", "/"), 126, "Permission denied"),
        (("run", "--tool", "x"), 2, "--"),
        (("run", "--"), 2, "command"),
        (("begin", "--tol", "x"), 2, "no such option"),
        (("begin", "--tool"), 2, "needs a value"),
        (("begin", "word"), 2, "KEY=VALUE"),
        (("begin", "--pid", "x"), 2, "number"),
        (("begin", "--pid", "1"), 2, "no shell"),
        (("end",), 2, "ID"),
        (("end", "xyz"), 2, "ID"),
        (("end", "x" * 24), 2, "no ID"),
        (("stop",), 2, "no such command"),
        ((), 2, ""),
        (("--help",), 0, ""),
        (("begin", "--help"), 0, ""),
    ],
)
def test_the_command_where_nobody_traces(arguments, status, says):
    done = run(*SPAN, *arguments)
    assert done.returncode == status, done
    assert says in done.stderr
    assert (status == 2 and arguments != ()) == bool(done.stderr) or status in (126, 127)
    if arguments[:1] == ("begin",) and status == 0 and arguments[1] != "--help":
        assert len(done.stdout.strip()) == 24
        int(done.stdout, 16)


def test_the_list_of_commands_has_it():
    done = run("-c", "from tracer.cli import main; main()", "span", "begin", "--tool", "x")
    assert (done.returncode, len(done.stdout)) == (0, 25)


def test_the_real_kernel_says_no_at_once():
    """Without a tracer: what the fast way out relies on."""
    for family, kind in ((socket.AF_UNIX, socket.SOCK_DGRAM), (socket.AF_INET, socket.SOCK_STREAM)):
        with socket.socket(family, kind) as one, pytest.raises(OSError) as found:
            one.setsockopt(LEVEL, channels.BEGIN, struct.pack("=QIIII", 0, 1, 0, 0, 0))
        assert found.value.errno in (errno.EOPNOTSUPP, errno.ENOPROTOOPT)
