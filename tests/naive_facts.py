# SPDX-License-Identifier: Apache-2.0
"""The plainest Python for what the kernels of tracer.detect find in an exec: written from manuals and
specifications, not from the kernels, and never fast.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence

from naive_ssh import ssh


def words(text: str) -> set[str]:
    return set(text.split())


# Interpreters: which options take a value, which a program, which end the options.

SHELLS = words("ash bash csh dash fish hush ksh ksh93 lksh mksh oksh posh rbash rksh rzsh sh tcsh yash zsh")
INLINE = {
    "python": ("c", "", "WXQ", "", "", "m"),
    "perl": ("eE", "", "I", "", "CDFMVimx:", ""),
    "ruby": ("e", "", "CEIXr", "", "FKTWix", ""),
    "node": ("", "ep", "", "rC", "", ""),
    "php": ("rBRE", "", "cdzt", "", "", "fFS"),
    "lua": ("e", "", "l", "", "jO", "b"),
}
ALIASES = {"nodejs": "node", "pypy": "python", "luajit": "lua", "bun": "node"}
LONG_CODE = {"node": {"eval", "print"}, "php": {"run", "process-begin", "process-code", "process-end"}}
LONG_VALUE = {
    "python": {"check-hash-based-pycs"},
    "ruby": {"encoding", "external-encoding", "internal-encoding", "enable", "disable", "parser"},
    "node": {
        "require", "import", "loader", "experimental-loader", "conditions", "env-file", "title", "input-type"
    },
    "php": {"define"},
}  # fmt: skip


def program(path: str) -> str:
    name = path.rpartition("/")[2].removeprefix("-")
    return name if name in SHELLS or name in INLINE else re.sub(r"[0-9.]+$", "", name)


def shell_command(argv: list[str]) -> bool:
    rest = argv[1:]
    command = False
    while rest and len(rest[0]) > 1 and rest[0][0] in "-+":
        word = rest.pop(0)
        if word[1] == "-":
            name, equals, _ = word[2:].partition("=")
            if word == "--":
                break
            if name == "command":
                return True
            if name in {"rcfile", "init-file", "init-command"} and not equals:
                del rest[:1]
            continue
        command |= word[0] == "-" and "c" in word[1:]
        del rest[: sum(word[1:].count(letter) for letter in "oOC")]
    return command


def inline_code(kind: str, argv: list[str]) -> bool:
    code, code_next, value, value_next, attached, stop = INLINE[kind]
    rest = argv[1:]
    while rest and len(rest[0]) > 1 and rest[0][0] == "-":
        word = rest.pop(0)
        if word == "--":
            return False
        if word[1] == "-":
            name, equals, _ = word[2:].partition("=")
            if name in LONG_CODE.get(kind, ()):
                return True
            if name in LONG_VALUE.get(kind, ()) and not equals:
                del rest[:1]
            continue
        for at, letter in enumerate(word[1:], 2):
            if letter in code or letter in code_next:
                return True
            if letter in stop:
                return False
            if letter in attached:
                break
            if letter in value:
                if at == len(word):
                    del rest[:1]
                break
            if letter in value_next:
                del rest[:1]
    return False


# Wallets and pools.

ALNUM = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
B58 = f"[{BASE58}]"
SHAPES = [
    rf"4[0-9AB]{B58}{{93}}", rf"4[0-9AB]{B58}{{104}}", rf"8[0-9AB]{B58}{{93}}", rf"W[Wo]{B58}{{95}}",
    rf"X{B58}{{96}}", rf"ZEPH{B58}{{93,108}}", r"0x[0-9a-fA-F]{40}", rf"prl1[{BECH32}]{{38,}}",
]  # fmt: skip
WEAK_SHAPES = [rf"9{B58}{{50}}", rf"1{B58}{{44}}", r"(?=.*[JO])[A-Z]{60}"]
NAMED = {
    "kaspa karlsen spectre pyrin pyipad nautilus bugna hoosat sedra waglayla": rf"[{BECH32}]{{61,63}}",
    "nexa": rf"[{BECH32}]{{47,63}}",
    "xel": rf"[{BECH32}]{{58,64}}",
    "cfx": r"[0-9a-hjkmnp-z]{42}",
    "bitcoincash ecash": rf"[{BECH32}]{{42}}",
}
HUMAN_PARTS = words("bc ltc dgb vtc grs btg mona sys via zil xch zs ckb aleo xel")


def base58check(text: str) -> int:
    value = 0
    for letter in text:
        if letter not in BASE58:
            return 0
        value = value * 58 + BASE58.index(letter)
    data = bytes(len(text) - len(text.lstrip("1"))) + value.to_bytes((value.bit_length() + 7) // 8, "big")
    check = hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()[:4]
    return len(data) if 5 <= len(data) <= 40 and data[-4:] == check else 0


def bech32(text: str) -> bool:
    """As in BIP 173 and BIP 350."""
    human, one, rest = text.rpartition("1")
    if not one or set(rest) - set(BECH32) or human not in HUMAN_PARTS or len(rest) < 38:
        return False
    values = (
        [ord(c) >> 5 for c in human] + [0] + [ord(c) & 31 for c in human] + [BECH32.index(c) for c in rest]
    )
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    return check in (1, 0x2BC830A3)


def ton(text: str) -> bool:
    if not re.fullmatch(r"[EU]Q[A-Za-z0-9_-]{46}", text):
        return False
    data = base64.urlsafe_b64decode(text)
    return binascii.crc_hqx(data[:34], 0) == int.from_bytes(data[34:], "big")


def is_wallet(text: str, weak: bool) -> bool:
    if not 26 <= len(text) <= 128:
        return False
    if len(text) <= 36:
        return base58check(text) in (25, 26)
    if any(re.fullmatch(shape, text) for shape in SHAPES) or bech32(text) or ton(text):
        return True
    if text.startswith("ak_") and 50 <= len(text) <= 54:
        return base58check(text[3:]) == 36
    return weak and any(re.fullmatch(shape, text) for shape in WEAK_SHAPES)


def wallet(args: bytes) -> bytes | None:
    text = args.decode("latin-1")
    for run in re.finditer(r"[A-Za-z0-9_-]{26,}", text):
        start, end = run.span()
        before, after = text[start - 1 : start], text[end : end + 1]
        if after not in "\0./+:@,;\"' \t\n\r)]}>&#?|\\":
            continue
        if before in ("", "\0") and re.match("-[^-]", run[0]):
            start += 2
        if before not in "\0=:,\"' \t/@;([{<&?#|\n\r":
            continue
        if before == ":" and end - start >= 26:
            name = re.search(r"[A-Za-z0-9]*$", text[: start - 1])
            assert name
            options = [name[0]] + ([name[0][1:]] if text[: name.start()].endswith("-") else [])
            found = False
            for option in options:
                for names, rest in NAMED.items():
                    if option.lower() in names.split() and re.fullmatch(rest, text[start:end]):
                        return text[start - 1 - len(option) : end].encode("latin-1")
                found |= any(option.lower() in names.split() for names in NAMED)
                if found:
                    break
        weak = before in "\0=:,\"' \t" or text[:start].endswith("//")
        if is_wallet(text[start:end], weak):
            return text[start:end].encode("latin-1")
    return None


SCHEMES = words(
    "stratum stratum1 stratum2 stratum3 stratums stratumss stratumtcp ethproxy ethstratum ethstratum1 ethstratum2 "
    "nicehash nicehash1 alphstratum zmp kawpow ethash etchash autolykos2 octopus progpow firopow beamhash equihash "
    "zhash cuckatoo verushash xelishash kheavyhash"
)
SCHEMES_WITH_TRANSPORT = SCHEMES | words("daemon solo node zil getwork xnp sv2 mallob")
TRANSPORTS = words("tcp tcp4 tcp6 tcps udp ssl tls tls12 tls13 ws wss http https")
HOST_PORT = re.compile(r"(?:\[[0-9a-fA-F:.%]*\]|[A-Za-z0-9._-]+):([0-9]+)")


def host_port(text: str, at: int) -> int | None:
    match = HOST_PORT.match(text, at)
    return match.end() if match and 0 < int(match[1]) < 65536 else None


def pool(args: bytes) -> bytes | None:
    text = args.decode("latin-1")
    for mark in re.finditer("://", text):
        run = re.search(r"[A-Za-z0-9+]*$", text[: mark.start()])
        assert run
        starts = [run.start()]
        if re.search(r"(^|\0)-$", text[: run.start()]):
            starts.append(run.start() + 1)
        for start in starts:
            scheme, plus, transport = text[start : mark.start()].lower().partition("+")
            if (transport in TRANSPORTS and scheme in SCHEMES_WITH_TRANSPORT) if plus else scheme in SCHEMES:
                break
        else:
            continue
        word = re.match(r"[^\0 \t\r\n\"'`,;<>|]*", text[mark.end() : mark.end() + 400])
        assert word
        end = host_port(text, mark.end())
        behind = "@" if end is not None else "@/"
        for at, byte in enumerate(word[0], mark.end() + 1):
            if byte in behind and (found := host_port(text, at)) is not None:
                end = found
        if end is not None:
            return text[start:end].encode("latin-1")
    return None


def facts(argv: Sequence[bytes]) -> frozenset[str]:
    """Of an exec of ``argv``, argv[0] being its path and the name it is called by as well."""
    line = [argument.decode("latin-1") for argument in argv]
    found: set[str] = set()
    first = line[0].rpartition("/")[2] if line else ""
    if first in {"busybox", "toybox"} and len(line) > 1:
        line = line[1:]
    name = program(line[0]) if line else ""
    name = ALIASES.get(name, name)
    if name in SHELLS and shell_command(line):
        found.add("shell-command")
    if name in INLINE and inline_code(name, line):
        found.add("inline-code")
    if name in {"ssh", "slogin"}:
        found |= ssh([word.encode("latin-1") for word in line])
    rest = b"".join(word.encode("latin-1") + b"\0" for word in line[1:])
    if wallet(rest) is not None:
        found.add("wallet")
    if pool(rest) is not None:
        found.add("pool-address")
    return frozenset(found)
