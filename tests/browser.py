# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium over its DevTools protocol: as much of it as a page on disk needs."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_ARGUMENTS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
_PATIENCE_S = 60.0


class Browser:
    """``complaints``: errors and warnings of pages; ``requests``: all that a page asked for."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM
        self._stack = ExitStack()
        self._process = subprocess.Popen(
            [PROGRAM, *_ARGUMENTS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(self._end)
        try:
            self._begin(folder / "DevToolsActivePort")
        except BaseException:
            self._stack.close()
            raise

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _begin(self, port_file: Path) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not port_file.exists() or "\n" not in port_file.read_text():
            assert time.monotonic() < deadline and self._process.poll() is None, "Chromium did not start"
            time.sleep(0.05)
        port, place = port_file.read_text().split("\n")[:2]
        self._socket = self._stack.enter_context(connect(f"ws://127.0.0.1:{port}{place}", max_size=None))
        self._count = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._events: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one command; events on the way are noted."""
        self._count += 1
        said: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            said["sessionId"] = self._session
        self._socket.send(json.dumps(said))
        while True:
            heard = json.loads(self._socket.recv(timeout=_PATIENCE_S))
            if heard.get("id") == self._count:
                assert "error" not in heard, heard
                return heard["result"]
            self._note(heard)

    def _note(self, heard: dict[str, Any]) -> None:
        method, said = heard.get("method", ""), heard.get("params", {})
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            self.complaints.append(said["exceptionDetails"]["exception"].get("description", "?"))
        elif method == "Runtime.consoleAPICalled" and said["type"] in {"error", "warning"}:
            self.complaints.append(str(said["args"]))
        elif method == "Log.entryAdded" and said["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(said["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])

    def open(self, page: Path) -> None:
        self._events.clear()
        self.ask("Page.navigate", url=page.as_uri())
        while "Page.loadEventFired" not in self._events:
            self._note(json.loads(self._socket.recv(timeout=_PATIENCE_S)))

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, **text)

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
