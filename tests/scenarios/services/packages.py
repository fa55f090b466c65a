# SPDX-License-Identifier: Apache-2.0
"""stand-in packages PORT: an index of Python packages and a registry of npm's, with one package each: corpus-package."""

import base64
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME, VERSION = "corpus-package", "1.0"
WHEEL = "corpus_package-1.0-py3-none-any.whl"


def wheel() -> bytes:
    info = "corpus_package-1.0.dist-info"
    files = {
        "corpus_package.py": "ANSWER = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: corpus\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


def tarball() -> bytes:
    files = {
        "package.json": json.dumps(
            {"name": NAME, "version": "1.0.0", "scripts": {"postinstall": "node index.js"}}
        ),
        "index.js": "module.exports = 42\n",
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def metadata(host: str, content: bytes) -> dict:
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    dist = {"tarball": f"http://{host}/{NAME}/-/package.tgz", "integrity": integrity}
    scripts = {"postinstall": "node index.js"}
    one = {"name": NAME, "version": "1.0.0", "dist": dist, "scripts": scripts, "hasInstallScript": True}
    return {"name": NAME, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": one}}


class Packages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wheel, tarball = wheel(), tarball()

    def do_GET(self) -> None:
        pages = {
            f"/simple/{NAME}/": ("text/html", f'<a href="/files/{WHEEL}">{WHEEL}</a>'.encode()),
            f"/files/{WHEEL}": ("application/zip", self.wheel),
            f"/{NAME}": (
                "application/json",
                json.dumps(metadata(self.headers["Host"], self.tarball)).encode(),
            ),
            f"/{NAME}/-/package.tgz": ("application/octet-stream", self.tarball),
        }
        kind, content = pages.get(self.path, ("text/plain", b""))
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Packages).serve_forever()
