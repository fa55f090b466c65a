#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One session on a host with an NVIDIA card, in less than ten minutes: what CUDA programs ask of the driver, whether all of it
# has a name, what a training step costs with the tracer and without, and whether a second program on the card is told.
#
#   bench/gpu_session.sh [--dry-run] [--wheels DIR] FOLDER    as root; the results go to FOLDER
#   bench/gpu_session.sh --pack DIR                           beforehand, where there is a network: the wheels it needs
#
# --dry-run: on /dev/full, which stands in for a card. It needs this repository, and .venv (make build) or the wheels.
set -euo pipefail

cd "$(dirname "$0")/.."
die() { printf 'gpu_session: %s\n' "$*" >&2; exit 1; }

dry='' wheels=bench/wheels folder='' rounds=3 steps=300
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry=yes steps=100 rounds=1 ;;
        --wheels) wheels=${2:?}; shift ;;
        --pack)
            "${PYTHON:-python3}" -m pip wheel -q --wheel-dir "${2:?}" .
            exit ;;
        -*) die "no such option: $1" ;;
        *) folder=$1 ;;
    esac
    shift
done
[ -n "$folder" ] || die 'where are the results to go?'
[ "$(id -u)" = 0 ] || die 'needs root, for the probes'
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
rm -f "$folder"/{run.vgl*,alerts.jsonl,phases,steps-*,programs}

if [ -x .venv/bin/vigiles ]; then
    bin=$PWD/.venv/bin
else
    [ -d "$wheels" ] || die "there is neither .venv nor $wheels"
    # those of the host are seen as well: PyTorch may be there
    "${PYTHON:-python3}" -m venv --system-site-packages "$folder/venv"
    "$folder/venv/bin/python" -m pip install -q --no-index --find-links "$wheels" vigiles
    bin=$folder/venv/bin
fi

stand_in=() watch=()
if [ -n "$dry" ]; then
    stand_in=(--stand-in /dev/full)
    watch=(--gpu-device /dev/full)
elif ! grep -q nvidia /proc/devices; then
    die 'no NVIDIA driver is loaded here (--dry-run does without)'
fi
programs=$PWD/bench/gpu_programs.py
{
    uname -a
    cat /proc/driver/nvidia/version 2>/dev/null || true
    "$bin/vigiles" doctor || true
} >"$folder/host.txt" 2>&1
"$bin/vigiles" warm

# A step, untraced and traced, in turns: what else goes on in the meantime hits both alike.
for _ in $(seq "$rounds"); do
    "$bin/python" "$programs" train --steps "$steps" "${stand_in[@]}" --result "$folder/steps-untraced"
    "$bin/vigiles" run --quiet --user root "${watch[@]}" -- \
        "$bin/python" "$programs" train --steps "$steps" "${stand_in[@]}" --result "$folder/steps-traced"
done

# The session itself. The second program is another executable: a copy of the interpreter.
home=$("$bin/python" -c 'import sys; print(sys.base_prefix)')
cp "$(readlink -f "$bin/python")" "$folder/kworker"
cat >"$folder/job.sh" <<END
"$bin/python" "$programs" train --steps $steps ${stand_in[*]} --phases "$folder/phases" --result "$folder/programs" &
trainer=\$!
until grep -q steps "$folder/phases" 2>/dev/null; do kill -0 \$trainer || exit 1; sleep 0.1; done
"$bin/python" "$programs" gauges ${stand_in[*]} --result "$folder/programs"
PYTHONHOME="$home" "$folder/kworker" "$programs" rogue ${stand_in[*]} --result "$folder/programs"
wait \$trainer
END
"$bin/vigiles" run --quiet --user root "${watch[@]}" --record "$folder/run.vgl" --alerts "$folder/alerts.jsonl" -- \
    bash "$folder/job.sh"
"$bin/vigiles" gpu "$folder/run.vgl" >"$folder/gpu.txt"
"$bin/python" bench/gpu_results.py "$folder"
