# SPDX-License-Identifier: Apache-2.0
"""SHA-256, HMAC, HKDF and AES against the standards' own examples and Python's."""

from __future__ import annotations

import hashlib
import hmac as python_hmac
import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.detect.wire.crypto import aes_block, aes_keys, expand_label, hmac, sha256

sys.path.insert(0, str(Path(__file__).parent.parent))
import naive_quic


def array(data: bytes, size: int = 0) -> np.ndarray:
    padded = np.full(max(size, len(data)) + 1, 0xA5, np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    return padded


def hashed(message: bytes) -> bytes:
    digest = np.zeros(32, np.uint8)
    sha256(array(message), len(message), digest)
    return bytes(digest)


def encrypted(key: bytes, block: bytes) -> bytes:
    data = array(block)
    aes_block(aes_keys(array(key)), data)
    return bytes(data[:16])


def test_sha256_of_the_standard():
    assert hashed(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hashed(b"").hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_sha256_of_all_lengths():
    message = bytes(range(256))
    for size in range(256):
        assert hashed(message[:size]) == hashlib.sha256(message[:size]).digest()


@settings(max_examples=50)
@given(st.binary(max_size=64), st.binary(max_size=192))
def test_hmac(key, message):
    digest = np.zeros(32, np.uint8)
    hmac(array(key), len(key), array(message), len(message), digest)
    assert bytes(digest) == python_hmac.digest(key, message, "sha256")


def test_expand_label_of_rfc_9001():
    """Appendix A.1."""
    secret = bytes.fromhex("c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea")
    expected = {
        b"quic key": "1f369613dd76d5467730efcbe3b1a22d",
        b"quic iv": "fa044b2f42a3fd3b46fb255c",
        b"quic hp": "9f50449e04a0e810283a1e9933adedd2",
    }
    for label, digits in expected.items():
        digest = np.zeros(32, np.uint8)
        size = len(digits) // 2
        name = np.array(list(label), np.uint8)
        name.flags.writeable = False
        expand_label(array(secret), name, size, digest)
        assert bytes(digest[:size]).hex() == digits


def test_aes_of_the_standard():
    """FIPS 197, appendices B and C.1."""
    key, block = "2b7e151628aed2a6abf7158809cf4f3c", "3243f6a8885a308d313198a2e0370734"
    assert encrypted(bytes.fromhex(key), bytes.fromhex(block)).hex() == "3925841d02dc09fbdc118597196a0b32"
    key, block = bytes(range(16)), bytes.fromhex("00112233445566778899aabbccddeeff")
    assert encrypted(key, block).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"


@settings(max_examples=25)
@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_aes(key, block):
    assert encrypted(key, block) == naive_quic.aes(key, block)
