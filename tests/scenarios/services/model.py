# SPDX-License-Identifier: Apache-2.0
"""stand-in model PORT [--websocket]: a model's API that asks for tools, by server-sent events or --websocket."""

import asyncio
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CALLS = ["uname -a", "ls -la", "echo $((6 * 7)) >answer", "cat answer"]


def event(command: str) -> str:
    call = {"type": "tool_use", "name": "bash", "input": {"command": command}}
    return json.dumps({"type": "content_block_start", "content_block": call})


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for command in CALLS:
            self.wfile.write(f"event: content_block_start\ndata: {event(command)}\n\n".encode())
            self.wfile.flush()
            time.sleep(0.1)
        self.wfile.write(b'event: message_stop\ndata: {"type": "message_stop"}\n\n')
        self.close_connection = True


async def websocket(port: int) -> None:
    from websockets.asyncio.server import serve

    async def talk(connection) -> None:
        async for _ in connection:
            for command in CALLS:
                await connection.send(event(command))
                await connection.recv()
            await connection.close()

    async with serve(talk, "0.0.0.0", port):
        await asyncio.Future()


if __name__ == "__main__":
    where = int(sys.argv[1])
    if sys.argv[2:] == ["--websocket"]:
        asyncio.run(websocket(where))
    ThreadingHTTPServer(("0.0.0.0", where), Model).serve_forever()
