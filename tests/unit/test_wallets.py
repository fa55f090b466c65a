# SPDX-License-Identifier: Apache-2.0
"""Wallet addresses in arguments: those that are published as examples, and all that only looks like one."""

from __future__ import annotations

import base64
import hashlib
import sys
import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracer.detect.execfacts import facts_of
from tracer.detect.wallets import KINDS, NO_WALLET, wallet_span

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_facts

XMR = "48edfHu7V9Z84YzzMa6fUueoELZ9ZRXq9VetWzYGzKt52XU5xvqgzYnDK9URnRoJMk1j8nLwEVsaSWJ4fhdUyZqfjJgaY6Z"
BTC = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"
ETH = "0xde0B295669a9FD93d5F28D9Ec85E40f4cb697BAe"
ADDRESSES = {
    XMR[:95]: "CryptoNote",
    "8" + XMR[1:95]: "CryptoNote",
    XMR[:95] + "1" * 11: "CryptoNote",
    BTC: "base58check",
    "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy": "base58check",
    "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq": "bech32",
    "bc1p5d7rjq7g6rdk2yhzks9smlaqtedr4dekq08ge8ztwac72sfr9rusxg3297": "bech32",
    "ltc1qhzjptwpym9afcdjhs7jcz6fd0jma0l0rc0e5yr": "bech32",
    "LM2WMpR1Rp6j3Sa59cMXMs1SPzj9eXpGc1": "base58check",
    "DH5yaieqoZN36fDVciNyRueRGvGLR3mr7L": "base58check",
    "t1VpYecBW4UudbGcy4ufh61eWxQCoFaUrPs": "base58check",
    "TJRabPrwbZy45sbavfcjinPJC18kjpRTv8": "base58check",
    ETH: "Ethereum",
    "kaspa:qqkqkzjvr7zwxxmjxjkmxxdwju9kjs6e9u82uh59z07vgaks6gg62v8707g73": "prefixed",
    "cfx:aatktb2te25ub7dmyag3p8bbdgr31vrbeackztm2rj": "prefixed",
    "EQDtFpEwcFAEcRe5mLVh2N6C0x-_hJEM7W61_JLnSF74p4q2": "TON",
    "9hPZKvu48kKkPAwrhDukwVxmNrTAa1vXdSsbDijXVsEEYaUt3x5": "Ergo",
    "1DrDyTr9RpRsQnDnXo2YRiPzPW4ooHX5LLoqXrqfMrpQH": "Alephium",
    "ak_2swhLkgBPeeADxVTAVCJnZLY5NZtCFiM93JxsEaMuC59euuFRQ": "base58check",
    "prl1p" + naive_facts.BECH32 + "qpzry9x8gf2tvdw0s3jn5": "bech32",
    "XOLYVWIXQCBOAWHGHDMTCEJBUZXMBHBZNNUTOBKPZLJRSTHHOJSHVKUAGKGA": "Qubic",
}
IDS = list(ADDRESSES)


def found(args: bytes) -> tuple[str, bytes | None]:
    """What the kernel finds in arguments that have an address cut off on either side of them."""
    around = XMR.encode()
    data = np.frombuffer(bytearray(around + args + around), np.uint8)
    out = np.zeros(2, np.int64)
    kind = wallet_span(data, len(around), len(around) + len(args), out)
    assert kind == NO_WALLET or len(around) <= out[0] < out[1] <= len(around) + len(args)
    return KINDS[kind], bytes(data[out[0] : out[1]]) if kind else None


def joined(*argv: str | bytes) -> bytes:
    return b"".join((text.encode() if isinstance(text, str) else text) + b"\0" for text in argv)


@pytest.mark.parametrize("address", IDS)
@pytest.mark.parametrize(
    "form",
    ["{}", "-u{}", "--user={}", "{}.rig1", "{}/rig1", "{}+5000", "stratum+tcp://{}.rig:x@pool:3333", "COIN:{}#ref",
     '{{"user":"{}"}}', "u={},p=x", "{} -p x"],
)  # fmt: skip
def test_every_form(address, form):
    assert found(joined("-o", form.format(address), "-p", "x")) == (ADDRESSES[address], address.encode())


@pytest.mark.parametrize("address", IDS)
@pytest.mark.parametrize(
    "form", ["a{}", "{}b", "x-{}", "x_{}", "{}-x", "{}_x", "x.{}", "{}=", "%{}", "~{}", "{}{}"]
)
def test_a_part_of_something_else(address, form):
    if ":" in address and not form.startswith("{}"):
        return  # it begins with the coin's name, wherever that stands
    assert found(joined(form.replace("{}", address)))[0] == ""


@pytest.mark.parametrize(
    "address", [text for text in IDS if ADDRESSES[text] in ("base58check", "bech32", "TON")]
)
def test_checksum(address):
    if address.startswith("prl1"):
        return  # its kind of checksum is not published
    wrong = address[:-3] + ("A" if address[-3] != "A" else "B") + address[-2:]
    assert found(joined(wrong))[0] == ""


@pytest.mark.parametrize(
    "address", [text for text in IDS if ADDRESSES[text] in ("Ergo", "Alephium", "Qubic")]
)
def test_weak_shapes_need_clear_bounds(address):
    for form in ("/srv/{}/data", "https://h/{}", "({})", "@{}"):
        assert found(joined(form.format(address)))[0] == ""


@pytest.mark.parametrize(
    "text",
    [
        hashlib.sha256(b"").hexdigest(),
        "sha256:" + hashlib.sha256(b"x").hexdigest(),
        "python@sha256:" + hashlib.sha256(b"y").hexdigest(),
        "0x" + hashlib.sha256(b"transaction").hexdigest(),
        hashlib.sha1(b"commit").hexdigest(),
        hashlib.md5(b"").hexdigest(),
        hashlib.sha512(b"").hexdigest(),
        "1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs",  # files of Google Drive
        "1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgVE2upms",
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKtnqT",  # IPFS
        "5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ",  # a private key
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "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",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
        "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kudmxjjhsvzpqxj",
        "MKTAYIAKQRQISFVKSHFSRQLEERHSQISKSHFVKLGAVIKMWPETGSDRNCHVYSQI"[:60],  # a protein
        "ACGT" * 15,
        "--gradient-accumulation-steps=4",
        "/usr/lib/python3/dist-packages/torch/lib/libtorch_cuda_linalg.so",
        "1" * 34,
        "bc1q" + "q" * 38,
        "",
    ],
)
def test_look_alikes(text):
    assert found(joined(text))[0] == ""


@given(
    st.binary(max_size=200),
    st.sampled_from([base64.b64encode, base64.urlsafe_b64encode, bytes.hex, base64.b32encode]),
)
def test_encoded_bytes(data, encode):
    text = encode(data)
    assert found(joined(text))[0] == ""


@given(st.uuids() | st.uuids(version=4))
def test_uuids(value: uuid.UUID):
    assert found(joined(str(value), value.hex, value.urn))[0] == ""


PIECES = st.one_of(
    st.sampled_from([text.encode() for text in IDS]),
    st.sampled_from([text.encode()[:-1] for text in IDS]),
    st.sampled_from(list(b"\0./+:@,;\"' \t\n()[]{}<>&#?|\\-_=%x14")).map(lambda byte: bytes([byte])),
    st.sampled_from([b"//", b"kaspa:", b"-u", b"\0-u", b"0x", b"bc1q", b"q" * 38, b"stratum+tcp://"]),
    st.binary(max_size=60),
    st.text(alphabet=naive_facts.BASE58, min_size=24, max_size=60).map(str.encode),
)


@settings(max_examples=600)
@given(st.lists(PIECES, max_size=8).map(b"".join))
@example(b"-ukaspa:" + b"q" * 61)
@example(b"-u" + BTC.encode())
@example(b"x\0-u" + b"0x" + b"0" * 40)
def test_agrees_with_the_plain_twin(args):
    assert found(args)[1] == naive_facts.wallet(args)


@given(st.binary(min_size=20, max_size=22), st.booleans())
def test_base58check_of_any_payload(payload, sound):
    """Version and hash of 21 or 22 bytes with a checksum are an address, whatever the coin."""
    check = hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]
    if not sound:
        check = bytes([check[0] ^ 1]) + check[1:]
    whole = payload + check
    value, text = int.from_bytes(whole, "big"), ""
    while value:
        value, digit = divmod(value, 58)
        text = naive_facts.BASE58[digit] + text
    text = "1" * (len(whole) - len(whole.lstrip(b"\0"))) + text
    expected = sound and len(whole) in (25, 26) and 26 <= len(text) <= 36
    assert (found(joined(text))[0] == "base58check") == expected


@pytest.mark.parametrize("cut", range(0, 140, 3))
def test_cut_anywhere(cut):
    args = joined("-o", "stratum+tcp://pool:3333", "-u", XMR[:95] + ".rig", "-p", "x")
    whole = args.index(b".rig")
    # one that ends with the bytes is taken for whole
    assert (found(args[:cut])[0] != "") == (cut >= whole)


def test_fact():
    assert facts_of([b"xmrig", b"-u", ETH.encode()]) == {"wallet"}
    assert facts_of([ETH.encode()]) == frozenset()  # the program's own name
