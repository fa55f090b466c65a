# SPDX-License-Identifier: Apache-2.0
"""What miners and pools send first."""

from __future__ import annotations

from typing import Any

from wire_bytes import (
    LOGIN,
    SUBSCRIBE,
    Sample,
    noise,
)


def stratum() -> list[Sample]:
    def lines(text: str, traits: str, software: bytes = b"", **more: Any) -> Sample:
        return Sample("stratum", text.encode(), traits=traits, software=software, **more)

    job = '{"blob":"0e0e","job_id":"1","target":"b88d0600","height":3,"seed_hash":"ab","algo":"rx/0"}'
    return [
        Sample(
            "stratum",
            LOGIN,
            traits="mining-login",
            software=b"XMRig/6.26.0 (Linux x86_64) libuv/1.51.0 gcc/13.2.1",
        ),
        Sample("stratum", SUBSCRIBE, traits="mining-subscribe", software=b"ccminer/2.3.1"),
        lines(
            '{"method": "login", "params": {"login": "w", "pass": "x", "agent": "ccminer/2"}, "id": 1}',
            "mining-login",
            b"ccminer/2",
        ),
        lines('{"id":2,"method":"mining.authorize","params":["w.r","x"]}', "mining-login"),
        lines('{"params":["w.r","x"],"method" :\t"mining.authorize","id":2}', "mining-login"),
        lines('{"id":1,"method":"mining.configure","params":[["version-rolling"],{}]}', "mining-subscribe"),
        lines(
            '{"id":1,"method":"mining.subscribe","params":["ethminer 0.19","EthereumStratum/1.0.0"]}',
            "mining-subscribe",
            b"ethminer 0.19",
        ),
        lines(
            '{"id":0,"method":"mining.hello","params":{"agent":"ethminer","host":"h","port":"bb8",'
            '"proto":"EthereumStratum/2.0.0"}}',
            "mining-subscribe",
            b"ethminer",
        ),
        lines(
            '{"id":1,"jsonrpc":"2.0","worker":"r","method":"eth_submitLogin","params":["0xabc"]}',
            "mining-login",
        ),
        lines('{"id":5,"method":"eth_getWork","params":[]}', "mining-subscribe"),
        lines('{"id":1,"method":"ckb_submitLogin","params":["w"]}', "mining-login"),
        lines('{"id":1,"method":"getjobtemplate","jsonrpc":"2.0"}', "mining-subscribe"),
        lines('{"method":"login","api_key":"ab","id":"login","jsonrpc":"2.0"}', "mining-login"),
        lines('{"id":7,"method":"mining.submit","params":{"plain_proof":"AA="}}', "mining-submit"),
        lines(
            '{"id":4,"jsonrpc":"2.0","method":"submit","params":{"id":"1","job_id":"2","nonce":"ab","result":"c"}}',
            "mining-submit",
        ),
        lines('{"id":9,"jsonrpc":"2.0","method":"keepalived","params":{"id":"a"}}', ""),
        lines(r'{"id":1,"method":"mining\u002esubscribe","params":[]}', "mining-subscribe"),
        lines(r'{"id":1,"\u006dethod":"mining.subscribe","params":[]}', "mining-subscribe"),
        lines('\n  {"id":1,"method":"mining.subscribe","params":[]}', "mining-subscribe"),
        lines('[{"id":1,"method":"mining.subscribe","params":[]}]', "mining-subscribe"),
        # pools
        lines('{"id":null,"method":"mining.notify","params":["1","ab"]}', "mining-job", received=True),
        lines(
            '{"id":1,"result":[[["mining.set_difficulty","1"],["mining.notify","1"]],"08",4],"error":null}',
            "mining-job",
            received=True,
        ),
        lines('{"id":1,"jsonrpc":"2.0","result":{"id":"a","job":' + job + "}}", "mining-job", received=True),
        lines('{"jsonrpc":"2.0","method":"job","params":' + job + "}", "mining-job", received=True),
        lines(
            '{"id":0,"jsonrpc":"2.0","result":["' + '","'.join(["0x" + "ab" * 32] * 3) + '"]}',
            "mining-job",
            received=True,
        ),
        Sample(
            "stratum",
            b'{"id":1,"jsonrpc":"2.0","error":null,"result":true}\n',
            received=True,
            look={"OTHER_PROTOCOL": 15},
        ),
        Sample("stratum-v2", noise(64), look={"OTHER_FIRST": 234}),
        Sample("stratum-v2", noise(234), received=True, look={"OTHER_FIRST": 64, "OTHER_SPOKE_FIRST": 1}),
        Sample(
            "stratum-v2",
            bytes.fromhex("000000 2a0000 00 0200 0200 00000000 09")
            + b"localhost"
            + b"\x42\x87"
            + b"\4a\4bb\0",
        ),
    ]
