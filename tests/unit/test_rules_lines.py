# SPDX-License-Identifier: Apache-2.0
"""Where things stand in a TOML file."""

from __future__ import annotations

import tomllib
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.rules.lines import Lines

TEXT = """\
# a comment with [brackets] and "quotes"
[indicators.a]
where = "name" # = "path"
values = [
    "one", # the first
    'two ] "',
    \"\"\"three
    ] and "quotes" \"\"\"\"\",
    { x = 1, "y.z" = [2,
      3] },
]

[rules."miner.x"]
on = "exec"
when = [ { all = ["a"] },
  { any = ["b",
           "c"] } ]
[[rules."miner.y".when]]
any = ["a"]
  [[rules."miner.y".when]]
  any . "deep" = 1979-05-27 07:32:00
[rules."miner.y".when.below]
'k' = '''
raw \\'''
"\\u0041" = inf
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("indicators",), 2),
        (("indicators", "a"), 2),
        (("indicators", "a", "where"), 3),
        (("indicators", "a", "values"), 4),
        (("indicators", "a", "values", 0), 5),
        (("indicators", "a", "values", 1), 6),
        (("indicators", "a", "values", 2), 7),
        (("indicators", "a", "values", 3), 9),
        (("indicators", "a", "values", 3, "x"), 9),
        (("indicators", "a", "values", 3, "y.z", 1), 10),
        (("rules", "miner.x", "on"), 14),
        (("rules", "miner.x", "when", 0, "all", 0), 15),
        (("rules", "miner.x", "when", 1), 16),
        (("rules", "miner.x", "when", 1, "any", 1), 17),
        (("rules", "miner.y", "when", 0), 18),
        (("rules", "miner.y", "when", 0, "any"), 19),
        (("rules", "miner.y", "when", 1), 20),
        (("rules", "miner.y", "when", 1, "any", "deep"), 21),
        (("rules", "miner.y", "when", 1, "below"), 22),
        (("rules", "miner.y", "when", 1, "below", "k"), 23),
        (("rules", "miner.y", "when", 1, "below", "A"), 25),
        # what isn't written stands where its surroundings do
        (("rules", "miner.x", "title"), 13),
        (("indicators", "a", "values", 9), 4),
        (("nothing",), 1),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_of(path: tuple[str | int, ...], line: int, newline: str):
    text = TEXT.replace("\n", newline)
    tomllib.loads(text)
    assert Lines(text).of(path) == line


@st.composite
def documents(draw: st.DrawFn) -> str:
    """TOML in which the n-th key is called k<n>, in every style there is."""
    numbers = count()

    def key() -> str:
        name = f"k{next(numbers)}"
        return draw(st.sampled_from([name, f'"{name}"', f"'{name}'"]))

    def gap() -> str:
        return draw(st.sampled_from(["", " ", "\n", '\n  # ], } or "\n', "\n\n"]))

    def value(depth: int) -> str:
        kind = draw(st.integers(0, 7 if depth else 5))
        if kind == 6:
            items = [gap() + value(depth - 1) + gap() for _ in range(draw(st.integers(0, 3)))]
            return f"[{','.join(items)}{gap()}]"
        if kind == 7:
            pairs = [f" {key()} = {value(depth - 1)} " for _ in range(draw(st.integers(0, 3)))]
            return "{" + ",".join(pairs) + "}"
        return ["1", "true", '"] # \\" }"', "'\\'", '"""\n"", \'\'\' ]\n""""', "'''\n\"\"\" '''"][kind]

    lines = []
    for _ in range(draw(st.integers(1, 6))):
        header = draw(st.sampled_from(["", "[{}]", "[[{}]]", "[{}.{}]", "[ {} . {} ]"]))
        if header:
            lines.append(header.format(key(), key()) + " # here")
        for _ in range(draw(st.integers(0, 3))):
            dotted = ".".join(key() for _ in range(draw(st.integers(1, 2))))
            lines.append(f"{dotted} = {value(2)}")
    return "\n".join(lines)


def paths(data: Any, path: tuple[str | int, ...] = ()):
    """Every path of a document."""
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from paths(value, (*path, key))


@given(documents())
@settings(max_examples=300)
def test_every_key_is_found_where_it_is_written(text: str):
    lines = Lines(text)
    rows = text.split("\n")
    for path in paths(tomllib.loads(text)):
        if path and isinstance(path[-1], str):
            assert path[-1] in rows[lines.of(path) - 1]
