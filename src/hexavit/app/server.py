"""Serves the page on the loopback interface of this machine alone.

Gradio's analytics are off, and every response has a content security policy under which a browser loads nothing from
another server. Requests whose `Host` is another name are rejected, so that no web site reaches the page by a name of
its own that it resolves to 127.0.0.1. Events may name no file but an upload.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hexavit.app.pictures import MAX_UPLOAD
from hexavit.app.sources import Sources
from hexavit.errors import HexavitError

HOST = "127.0.0.1"
PORT = 7860
_TRIED = 20  # ports from `PORT` on
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Of the content; Gradio's own scripts are inline, and its plots compile theirs."""
_MAX_BODY = 2**20  # bytes of an event
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


def serve(given: Sequence[str | Path] = (), *, port: int | None = None, open_browser: bool = False) -> None:
    """Serve the page until it is interrupted, and print its address.

    Args:
        given: as of :class:`hexavit.app.sources.Sources`.
        port: on 127.0.0.1; by default the first free one from 7860 on.
        open_browser: open the page in the browser.

    Raises:
        HexavitError: something given is no model, run or study; the port is taken; or Gradio is missing.
    """
    with bound(port) as listening, application(given) as app:
        import uvicorn

        address = f"http://{HOST}:{listening.getsockname()[1]}/"
        print(f"hexavit app: {address} (Ctrl-C ends it)", flush=True)
        if open_browser:
            import webbrowser

            webbrowser.open(address)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _exit)  # uvicorn raises the signal again; without this, uploads would stay
        # An open page keeps a connection, which is cut after a second; uvicorn would log that as an error.
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[listening])


def _exit(*_: object) -> None:
    sys.exit(143)


@contextmanager
def bound(port: int | None) -> Iterator[socket.socket]:
    """A socket that listens on the loopback interface.

    Raises:
        HexavitError: the port is taken.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        for number in range(PORT, PORT + _TRIED) if port is None else (port,):
            try:
                listening.bind((HOST, number))
                listening.listen(128)  # before the address is printed
                break
            except (OSError, OverflowError) as error:
                reason = error
        else:
            which = f"no port from {PORT} to {PORT + _TRIED - 1} is" if port is None else f"port {port} is not"
            raise HexavitError(f"{which} free on {HOST} ({reason}): choose another with --port") from reason
        yield listening
    finally:
        listening.close()


@contextmanager
def application(given: Sequence[str | Path] = ()) -> Iterator[Any]:
    """The page as an ASGI application. Uploads are in a folder of their own, which is removed at the end.

    Raises:
        HexavitError: something given is no model, run or study; or Gradio is missing.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    sources = Sources(given)
    with tempfile.TemporaryDirectory(prefix="hexavit-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            import gradio as gr
        except ImportError as error:
            raise HexavitError("hexavit app needs Gradio: pip install 'hexavit[app]'") from error
        from fastapi import FastAPI
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from hexavit.app.views import page

        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
        app.add_middleware(_Guard, folder=folder)
        blocks = page.build_page(sources)
        blocks.has_launched = blocks.is_running = True  # without these, Gradio does not check the files of events
        yield gr.mount_gradio_app(
            app, blocks, path="/", server_name=HOST, footer_links=[], run_history=False,
            allowed_paths=[], max_file_size=MAX_UPLOAD, ssr_mode=False, show_error=False, enable_monitoring=False,
            pwa=False, mcp_server=False, theme=page.theme(), css_paths=page.STYLE,
        )  # fmt: skip


class _Guard:
    """Middleware that adds the headers to every response, and rejects events that name a file outside the uploads.

    Gradio takes a file of an event by its path, and a page that is mounted in an application does not check the path:
    a forged request could make the page read any image of the disk, or fetch an address.

    Args:
        app: the application.
        folder: of the uploads.
    """

    def __init__(self, app: Any, folder: str) -> None:
        self._app = app
        self._folder = Path(folder).resolve()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        if scope["type"] == "http" and scope["method"] == "POST" and not scope["path"].endswith("/upload"):
            body = await _body(receive)
            if body is None or not self._allowed(body):
                await with_headers({"type": "http.response.start", "status": 403, "headers": []})
                await send({"type": "http.response.body", "body": b"this request names a file that was not uploaded"})
                return
            receive = _replay(body, receive)
        await self._app(scope, receive, with_headers)

    def _allowed(self, body: bytes) -> bool:
        """Whether every `path` in a JSON body is that of an upload."""
        try:
            waiting = [json.loads(body)] if body.strip() else []
        except (ValueError, RecursionError):
            return False
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                waiting += value.values()
                path = value.get("path", self._folder)
                if not isinstance(path, str | Path) or not self._is_upload(path):
                    return False
            elif isinstance(value, list):
                waiting += value
        return True

    def _is_upload(self, path: str | Path) -> bool:
        try:
            return Path(path).is_absolute() and Path(path).resolve().is_relative_to(self._folder)
        except (OSError, ValueError, RuntimeError):  # such as a null byte, or a loop of links
            return False


async def _body(receive: Any) -> bytes | None:
    """The body of a request; None if it is larger than any event of the page, or if the client has gone."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if message["type"] != "http.request" or len(body) > _MAX_BODY:
            return None
        if not message.get("more_body"):
            return body


def _replay(body: bytes, receive: Any) -> Any:
    """A `receive` that gives the body first."""
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
