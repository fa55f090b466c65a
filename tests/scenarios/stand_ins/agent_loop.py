# SPDX-License-Identifier: Apache-2.0
"""agent_loop.py MODEL FOLDER: asks the model, runs the tool of FOLDER that it wants, each in a span; once through all."""

import http.client
import json
import ssl
import subprocess
import sys
from pathlib import Path

import tracer

host, folder = sys.argv[1:]
tools = sorted(Path(folder).iterdir())
model = http.client.HTTPSConnection(host, 443, context=ssl._create_unverified_context())
model.connect()
history: list[dict] = []


def turn() -> None:
    model.request("POST", "/v1/messages", json.dumps(history))
    said = json.loads(model.getresponse().read())
    tool = tools[said["tool"] % len(tools)]
    done = subprocess.run(["bash", "-eu", tool], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{tool}: {done.stdout}{done.stderr}")
    history.extend([said, {"role": "user", "content": done.stdout[:2000]}])


for step in range(len(tools)):
    with tracer.span(tool="bash", step=step):
        turn()
with tracer.span(tool="end"):
    pass
