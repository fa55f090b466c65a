# SPDX-License-Identifier: Apache-2.0
"""Command lines that look like what the packs have rules for, and are everyday work.

A first word without a slash stands for the file of that name in /usr/bin.
"""

from __future__ import annotations

XMR = "48edfHu7V9Z84YzzMa6fUueoELZ9ZRXq9VetWzYGzKt52XU5xvqgzYnDK9URnRoJMk1j8nLwEVsaSWJ4fhdUyZijBGUicoD"
ETH = "0x52908400098527886E0F7030069857D2E4169EE7"
REMOTE = "ssh.example.org"

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

# By rule: it does not hold for these, whatever others do.
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
