"""A local hub: folders served with the protocol of huggingface_hub."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """The repository OWNER/NAME holds the files `root/OWNER/NAME/*`; `asked` lists requests by method and path."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[tuple[str, str]] = []
        self.broken_after: int | None = None  # bytes of a body after which the connection is closed, once


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._respond(body=False)

        def do_GET(self) -> None:
            self._respond(body=True)

        def _respond(self, body: bool) -> None:
            hub.asked.append((self.command, self.path))
            owner, name, resolve, _, *rest = [*self.path.strip("/").split("/"), "", "", "", ""]
            folder, file = hub.root / owner / name, hub.root / owner / name / "/".join(each for each in rest if each)
            if resolve != "resolve" or not folder.is_dir() or not file.is_file():
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound" if folder.is_dir() else "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = file.read_bytes()
            whole, start = len(data), 0
            if asked := self.headers.get("Range"):
                start = int(asked.removeprefix("bytes=").split("-")[0])
                data = data[start:]
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(file.read_bytes()).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if body:
                if hub.broken_after is not None:
                    data, hub.broken_after = data[: hub.broken_after], None
                    self.close_connection = True
                self.wfile.write(data)

    return Handler


@contextlib.contextmanager
def serving(root: Path) -> Iterator[tuple[Hub, str]]:
    """A running hub and its URL."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
