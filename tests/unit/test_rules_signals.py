# SPDX-License-Identifier: Apache-2.0
"""What the packs make of what was found out: groups and facts, on whatever they are judged."""

from __future__ import annotations

import numpy as np
import pytest
from command_lines import fired, rows

from tracer.detect.facts import WORD_BITS, WORDS
from tracer.rules import RuleSet, Sample, load_rules
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON

# What a flow or a file must have for a rule to hold: names of groups, and @facts.
WIRE = """
net.metadata-secrets high       metadata-addresses metadata-secrets @http @internal
net.metadata-secrets -          metadata-addresses metadata-secrets @http @internal cloud-sdks
net.metadata-secrets -          metadata-secrets @http @external
miner.stratum critical          json-beginnings stratum-requests
miner.stratum critical          json-beginnings stratum-orders @loopback
miner.stratum critical          @stratum @internal
miner.stratum high              @stratum-v2
miner.stratum critical          @json-rpc-mining @external
miner.stratum medium            @json-rpc-mining @loopback
miner.stratum -                 json-beginnings @external
miner.stratum -                 stratum-requests @http
miner.node medium               @coin-node
miner.pool-name high            pool-domains @tls
miner.pool-name low             pool-domains @tls @tls-http-alpn
miner.pool-name medium          pool-domains @socks4
miner.pool-name medium          pool-domains @socks5
miner.pool-name medium          pool-domains @http-connect
miner.pool-name low             pool-domains @dns
miner.pool-name -               @tls @external
tunnel.wire high                @dns @dns-null-type
tunnel.wire medium              @dns @dns-long-name @dns-high-entropy
tunnel.wire -                   @dns @dns-long-name
tunnel.wire medium              @yamux
tunnel.wire medium              @websocket-unmasked @external
tunnel.wire -                   @websocket-unmasked @internal
tunnel.ssh-wire high            @ssh @external
tunnel.ssh-wire -               @ssh @external @by-ssh
tunnel.ssh-wire high            @ssh @external @accepted @by-ssh
tunnel.ssh-wire medium          @ssh @accepted @loopback
tunnel.ssh-wire medium          @ssh @internal
tunnel.ssh-wire medium          @ssh @by-ssh @protocol-on-foreign-port
tunnel.proxy medium             @socks4
tunnel.proxy medium             @socks5
tunnel.proxy medium             @http-connect
tunnel.proxy medium             @stratum @proxied
tunnel.service-name high        tunnel-services @tls
tunnel.service-name medium      tunnel-services @tls @tls-http-alpn
tunnel.service-name medium      tunnel-services @ssh
tunnel.service-name low         tunnel-services @dns
net.anonymous-tls medium        @tls @tls-without-sni @tls-without-alpn @external @unresolved
net.anonymous-tls -             @tls @tls-without-sni @tls-without-alpn @external @unresolved @accepted
net.anonymous-tls -             @tls @tls-without-sni @tls-without-alpn @internal @unresolved
net.anonymous-tls -             @tls @tls-without-alpn @external @unresolved
net.unexpected low              @unexpected-on-port @external
net.unexpected -                @unexpected-on-port @internal
shell.session high              @shell @external
shell.session medium            @shell @loopback
"""
TUNNELS_SPOKEN = """
chisel frp ngrok cloudflared rathole bore gost wstunnel gsocket nps pagekite teleport dev-tunnel ziti sshuttle iodine
dnscat2 dns2tcp icmp-tunnel wireguard openvpn tailscale zerotier nebula tor tls-tunnel-alpn
"""
CONNECTS = """
tunnel.ssh-pivot high           @ssh-pivot @by-ssh
tunnel.ssh-pivot medium         @ssh-pivot
tunnel.ssh-pivot -              @ssh-pivot @by-ssh @datagrams
tunnel.ssh-pivot -              @by-ssh @internal
net.metadata low                metadata-addresses @internal
net.metadata -                  metadata-addresses @internal @datagrams
net.metadata -                  metadata-addresses dns-port @external
net.kube-api medium             kubelet-ports @internal
net.kube-api -                  kubelet-ports @loopback
net.kube-api low                runtime-api-ports @loopback
net.kube-api -                  runtime-api-ports @external
net.kube-api low                kube-names @internal
"""
SHELLS = """
shell.behind medium             @behind-flow
shell.behind -                  shells @stdin-pipe
shell.reverse high              shells @stdin-network @stdout-network
shell.reverse medium            shells @stdin-network @stdout-network @shell-command
shell.reverse medium            shells @stdin-network
shell.reverse -                 shells @stdout-network
shell.reverse medium            interpreters @stdin-network @stdout-network
shell.reverse -                 interpreters @stdin-network @stdout-network @script
exec.preload high @preloads @preloads-memory @audits
exec.preload medium @preloads @preloads-temporary
exec.preload medium @preloads @audits
exec.preload - @preloads
"""
FILES = """
exec.miner-binary critical      xmrig-strings xmrig-settings pow-names stratum-methods
exec.miner-binary high          cpuminer-strings miner-products stratum-schemes
exec.miner-binary high          @pow-functions hash-rates
exec.miner-binary high          @pow-kernels pool-talk
exec.miner-binary medium        pow-names stratum-schemes
exec.miner-binary medium        @pow-functions
exec.miner-binary medium        @pow-kernels
exec.miner-binary -             stratum-methods hash-rates pool-talk
exec.tunnel-binary high         @go-program tunnel-go-programs
exec.tunnel-binary high         @rust-program tunnel-rust-programs
exec.tunnel-binary medium       @go-program tunnel-go-libraries
exec.tunnel-binary medium       @go-anonymous tunnel-go-garbled
exec.tunnel-binary low          tunnel-c-programs
exec.tunnel-binary -            tunnel-go-programs tunnel-rust-programs tunnel-go-libraries tunnel-go-garbled
exec.packed medium              @packed
exec.packed medium              @packed @upx
exec.packed -                   @upx
"""
TAMPERING = """
tamper.signal high              @signals-tracer
tamper.signal high              @signals-tracer @uncatchable
tamper.signal high              @signals-tracer @uncatchable @to-group
tamper.signal low               @signals-tracer @to-group
tamper.signal -                 @leaves-cgroup
tamper.left-cgroup high         @leaves-cgroup
tamper.left-cgroup high         @leaves-cgroup @by-outsider
tamper.tracer-cgroup high       @moves-tracer
tamper.tracer-cgroup high       @freezes-tracer
tamper.tracer-memory high       @traces-tracer
tamper.bpf high                 @uses-bpf @at-watch
tamper.bpf-used -               @uses-bpf @at-watch
tamper.bpf-used medium          @uses-bpf
tamper.bpf -                    @uses-bpf
tamper.perf-used low            @uses-perf
tamper.mounts high              @changes-mounts
tamper.files high               @changes-files
tamper.module critical          @loads-module
tamper.module -                 @signals-tracer
tamper.flood medium             @floods
"""
SCANS = """
net.scan high                   @scans-addresses
net.scan high                   @scans-ports @by-descendants @by-shell
net.scan -                      @scans-ports @by-descendants
net.scan-below high             @scans-ports @by-descendants
net.scan-below -                @scans-ports @by-descendants @by-shell
net.scan high                   @scans-block @scans-addresses
net.scan medium                 @scans-itself
net.scan -                      @by-descendants
"""
RELAYS = """
tunnel.relay high               @relays-inward
tunnel.relay high               @relays-inward @late-relay @by-relatives
tunnel.relay medium             @relays-inward @for-outsiders
tunnel.relay medium             @relays-outward
tunnel.relay -                  @late-relay @by-relatives
"""
EFFORTS = """
miner.behaviour high            @new-file @few-calls @thin-flow
miner.behaviour medium          @new-file @few-calls @thin-flow @by-interpreter
miner.behaviour medium          @new-file @thin-flow
miner.behaviour medium          @new-file @few-calls @thin-flow-inside
miner.behaviour medium          @huge-pages @few-calls @thin-flow
miner.behaviour low             @few-calls @thin-flow
miner.behaviour low             @few-calls @thin-flow @by-interpreter
miner.behaviour -               @new-file @few-calls @huge-pages
miner.behaviour -               @new-file @few-calls @thin-flow-inside @by-interpreter
miner.behaviour -               @few-calls @thin-flow-inside
miner.behaviour -               @thin-flow
"""
SESSIONS = """
shell.led high                  @runs-when-told @shells-when-told @unresolved
shell.led medium                @runs-when-told @shells-when-told
shell.led medium                @runs-when-told @unresolved
shell.led medium                @connects-when-told @unresolved
shell.led low                   @connects-when-told
shell.led -                     @unresolved
"""
BEACONS = """
tunnel.beacon medium            @checks-in @connects-anew @unresolved
tunnel.beacon low               @checks-in @connects-anew
tunnel.beacon low               @checks-in @unresolved
tunnel.beacon -                 @checks-in @unresolved @keep-alive
tunnel.beacon -                 @connects-anew @unresolved
"""
NAMES = """
tunnel.dns-data high            @names-carry-data @odd-types
tunnel.dns-data medium          @names-carry-data @long-labels
tunnel.dns-data -               @names-carry-data
tunnel.dns-data -               @odd-types @long-labels
"""
FOOTHOLDS = """
foothold.ssh-keys high          @writes-keys
foothold.ssh-keys high          @writes-keys @packaged
foothold.schedule high          @writes-cron
foothold.schedule low           @writes-cron @packaged
foothold.schedule high          @writes-cron @packaged @linked
foothold.service high           @writes-service
foothold.service low            @writes-service @packaged @linked
foothold.startup medium         @writes-startup
foothold.startup low            @writes-startup @packaged
foothold.preload critical       @writes-preload
foothold.account high           @writes-account
foothold.account low            @writes-account @packaged
foothold.preload -              @writes-startup
"""
LOCAL = """
net.runtime-socket medium       runtime-sockets
net.runtime-socket -            @abstract
net.ssh-agent medium ssh-agents
net.ssh-agent medium ssh-agent-folders ssh-agent-names
net.ssh-agent - ssh-agent-folders
net.ssh-agent - ssh-agents @by-ssh
"""
CLIENTS = """
gpu.new-program high @gpu-new-program @gpu-listed @gpu-in-tool-call
gpu.new-program medium @gpu-new-program @gpu-listed
gpu.new-program low @gpu-new-program @gpu-first-client
gpu.new-program - @gpu-new-program @gpu-other-executable
gpu.tool-call medium @gpu-in-tool-call
gpu.tool-call - @gpu-in-tool-call @gpu-listed
gpu.tool-call - @gpu-in-tool-call @gpu-tunes
gpu.tool-call - @gpu-in-tool-call @gpu-other-script
gpu.borrowed medium @gpu-borrowed
gpu.borrowed - @gpu-borrowed @gpu-not-listed
gpu.tuning low @gpu-tunes
gpu.tuning medium @gpu-tunes @gpu-in-tool-call
gpu.tuning medium @gpu-tunes @gpu-new-program
gpu.goes-on medium @gpu-job-idle
gpu.goes-on medium @gpu-forked-on
"""
SIGNALS_ALONE = {
    "flow": WIRE,
    "connect": CONNECTS,
    "exec": SHELLS,
    "file": FILES,
    "tamper": TAMPERING,
    "scan": SCANS,
    "relay": RELAYS,
    "effort": EFFORTS,
    "session": SESSIONS,
    "beacon": BEACONS,
    "dns": NAMES,
    "foothold": FOOTHOLDS,
    "local": LOCAL,
    "gpu": CLIENTS,
}
# What everyday work has on the wire; of it nothing worse than medium is told.
EVERYDAY = """
@tls @tls-http-alpn @external
@tls @tls-without-alpn @external @unresolved
@tls @tls-http-alpn pool-domains @external
@tls @tls-http-alpn tunnel-services @external
@dns pool-domains @internal @datagrams
@dns tunnel-services @internal @datagrams
@dns @dns-txt-type @dns-long-label @datagrams
@http @external json-beginnings
@ssh @external @by-ssh
@ssh @external @by-ssh @protocol-on-foreign-port
@http-connect @internal @proxied
@json-rpc-mining @loopback
@quic @external @datagrams
@websocket @external
@postgres @internal
@icmp @external @datagrams
"""


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return load_rules()


@pytest.mark.parametrize(
    ("fact", "severity"),
    [("gpu-not-listed", "high"), ("gpu-other-executable", "high"), ("gpu-other-script", "medium")],
)
def test_gpu(rules: RuleSet, fact: str, severity: str):
    event = Sample(facts=frozenset({fact}), on="gpu")
    assert fired(rules, event) == {"gpu.unexpected-client": severity}
    assert fired(rules, Sample(on="gpu")) == {}


def holding(rules: RuleSet, on: str, names: str) -> dict[str, str]:
    """The rules that hold where these groups and facts are."""
    signals = np.zeros(WORDS, np.int64)
    for name in names.split():
        word, bit = divmod(rules.numbers[name], WORD_BITS)
        signals[word] |= 1 << bit
    places = np.zeros(len(rules.rules), np.int64)
    count = evaluate(ON[on], signals, rules.table, places)
    return {rule.id: severity for rule, severity in map(rules.alternative_rule.__getitem__, places[:count])}


@pytest.mark.parametrize(
    ("on", "rule", "severity", "names"),
    [(on, *row) for on, text in SIGNALS_ALONE.items() for row in rows(text, 3)],
)
def test_signals_alone(rules: RuleSet, on: str, rule: str, severity: str, names: str):
    assert holding(rules, on, names).get(rule, "-") == severity


@pytest.mark.parametrize("name", TUNNELS_SPOKEN.split())
def test_tunnels_that_are_spoken(rules: RuleSet, name: str):
    assert holding(rules, "flow", f"@{name} @loopback")["tunnel.wire"] == "high"


@pytest.mark.parametrize("names", EVERYDAY.strip().splitlines())
def test_everyday_flows(rules: RuleSet, names: str):
    assert not {"high", "critical"} & set(holding(rules, "flow", names).values())


def test_every_rule_about_flows_and_files_has_a_sample(rules: RuleSet):
    tried = {
        rule for text in SIGNALS_ALONE.values() for rule, severity, _ in rows(text, 3) if severity != "-"
    }
    packs = ("wire.toml", "shells.toml", "files.toml", "net.toml")
    assert {rule.id for rule in rules.rules if rule.source.endswith(packs)} <= tried
