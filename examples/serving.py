"""A classifier behind HTTP: LitServe over `hexavit.load_predictor`. It needs pip install 'hexavit[serve]'.

    python examples/serving.py runs/flowers                        # or model.onnx, model.xml, model.pt2
    curl -F file=@rose.jpg localhost:8000/predict                  # a form with one file
    curl -H 'Content-Type: image/jpeg' --data-binary @rose.jpg 'localhost:8000/predict?top=3'
    curl -H 'Content-Type: application/json' -d '{"image": "BASE64", "top": 3}' localhost:8000/predict
    curl localhost:8000/health                                     # 200 once the model is loaded, else 503

The response is {"top": [{"class": "rose", "probability": 0.97}, ...]}, and "classes" for several classes per image. An
error is {"detail": "one sentence"} with the status 400 (no image), 408 (too slow), 413 (too large), 415 (another type)
or 503 (too many requests). Run it behind a proxy for TLS and authentication.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import io
import json
import os
import signal
from typing import Any
from urllib.parse import parse_qs

import litserve
from fastapi.responses import JSONResponse
from PIL import Image
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import hexavit
from hexavit.errors import DataError, HexavitError
from hexavit.images.decode import decode_image

SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF")
"""First bytes of JPEG, PNG, GIF, BMP and WebP, the types that are accepted."""


class Uploads:
    """ASGI middleware: reads a request's image under limits, and passes it on as JSON with base64.

    Args:
        app: what serves the request.
        path: of the requests with images; others pass as they are.
        max_bytes: largest request.
        seconds: time for the request to arrive.
    """

    def __init__(self, app: ASGIApp, path: str = "/predict", max_bytes: int = 2**23, seconds: float = 30.0) -> None:
        self.app, self.path, self.max_bytes, self.seconds = app, path, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self.path or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self.seconds):
                body = await self._read(scope, receive)
            text = json.dumps(await self._image(scope, body)).encode()
        except TimeoutError:
            await _error(408, f"the request did not arrive within {self.seconds:g} seconds")(scope, receive, send)
            return
        except HTTPException as error:
            await _error(error.status_code, error.detail)(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
        await self.app({**scope, "headers": headers}, _replay(text, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """The body, of which no more than the limit is held in memory."""
        too_large = HTTPException(413, f"a request has at most {self.max_bytes} bytes")
        given = Request(scope).headers.get("content-length", "0")
        if not given.isdecimal() or int(given) > self.max_bytes:
            raise too_large
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "the request is incomplete")
            parts.append(message.get("body", b""))
            size, more = size + len(parts[-1]), message.get("more_body", False)
            if size > self.max_bytes:
                raise too_large
        return b"".join(parts)

    async def _image(self, scope: Scope, body: bytes) -> dict[str, Any]:
        """The image in base64 and the number of classes, from a form, from JSON or from the body itself."""
        kind = Request(scope).headers.get("content-type", "").partition(";")[0].strip().lower()
        top: Any = (parse_qs(scope["query_string"].decode("latin-1")).get("top") or ["3"])[-1]
        if kind == "multipart/form-data":
            try:
                async with Request(scope, _replay(body)).form(max_files=1, max_fields=8) as form:
                    file = next((each for each in form.values() if isinstance(each, UploadFile)), None)
                    data, top = b"" if file is None else await file.read(), form.get("top", top)
            except Exception:  # the parser raises several types for forms that are cut off or have no boundary
                raise HTTPException(400, "the form cannot be read") from None
            if file is None:
                raise HTTPException(400, "the form has no file")
        elif kind == "application/json":
            try:
                given = json.loads(body)
                data, top = base64.b64decode(given["image"], validate=True), given.get("top", top)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
                raise HTTPException(400, 'the body is not JSON with an "image" in base64') from None
        elif kind.startswith("image/") or kind == "application/octet-stream":
            data = body
        else:
            raise HTTPException(415, "send a form with a file, JSON with an image in base64, or an image")
        if not data.startswith(SIGNATURES):
            raise HTTPException(415, "the file is not a JPEG, PNG, GIF, BMP or WebP image")
        if not str(top).isdecimal() or not 1 <= int(str(top)[:9]) <= 1000:
            raise HTTPException(400, "top is a whole number from 1 to 1000")
        return {"image": base64.b64encode(data).decode(), "top": int(str(top))}


def _replay(body: bytes, after: Receive | None = None) -> Receive:
    """An ASGI `receive` with a whole body."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if waiting:
            return waiting.pop()
        return {"type": "http.disconnect"} if after is None else await after()

    return receive


def _error(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status)


class Classifier(litserve.LitAPI):
    """Predicts batches of images. One image that cannot be decoded does not affect the others of its batch.

    Args:
        source: a run, an exported file, or a model name.
        engine: as in `load_predictor`.
        max_pixels: largest image; a small file may unpack to many.
        options: of LitAPI, such as `max_batch_size` and `batch_timeout`.
    """

    def __init__(self, source: str, engine: str = "auto", max_pixels: int = 50_000_000, **options: Any) -> None:
        super().__init__(**options)
        self.source, self.engine, self.max_pixels = source, engine, max_pixels

    def setup(self, device: str) -> None:
        """Load the model, in the process that computes."""
        Image.MAX_IMAGE_PIXELS = self.max_pixels
        self.predictor = hexavit.load_predictor(self.source, engine=self.engine)  # type: ignore[arg-type]
        for sentence in self.predictor.notes:
            print(sentence, flush=True)
        if self.predictor.info.input_spec.of_pictures:
            self.predictor(Image.new("RGB", (64, 64)))  # opens the engine before the first request

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe takes a type for one of a parameter
        """The decoded image, or the error, and the number of classes."""
        try:
            picture: Any = decode_image(io.BytesIO(base64.b64decode(request["image"])), "the file", keep_16_bits=True)
        except DataError as error:
            picture = error
        return picture, request["top"]

    def batch(self, inputs: list[Any]) -> list[Any]:
        """A list: images differ in size."""
        return inputs

    def predict(self, x: list[Any]) -> list[Any]:
        """The predictions, or errors."""
        pictures = {i: picture for i, (picture, _) in enumerate(x) if not isinstance(picture, DataError)}
        errors: list[HexavitError] = []
        top = max((top for _, top in x), default=1)
        places = list(pictures)
        found = {
            places[int(str(each.image))]: each
            for each in self.predictor.stream(pictures.values(), top=top, on_error=errors.append, threads=1)
        }
        return [self._response(i, x[i], found) for i in range(len(x))]

    def _response(self, number: int, given: Any, found: dict[int, hexavit.inference.Prediction]) -> Any:  # type: ignore[name-defined]
        picture, top = given
        if number not in found:
            return _error(400, str(picture) if isinstance(picture, DataError) else "the model cannot take this image")
        values = found[number].as_dict()
        return {name: value[:top] if name == "top" else value for name, value in values.items() if name != "image"}

    def unbatch(self, output: list[Any]) -> list[Any]:
        """The same list."""
        return output


def make_server(source: str, asked: argparse.Namespace) -> litserve.LitServer:
    """The server of a model."""
    api = Classifier(
        source, asked.engine, asked.max_pixels, max_batch_size=asked.batch_size, batch_timeout=asked.batch_seconds
    )
    uploads = (Uploads, {"max_bytes": asked.max_bytes, "seconds": asked.upload_seconds})
    return litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=asked.workers,
        timeout=60,
        middlewares=[uploads],
        restart_workers=True,
    )


def _stop_at_sigterm() -> None:
    """End all processes of the server after a SIGTERM, too: LitServe does so after an interrupt alone."""
    own = os.getpid()

    def stop(*_: object) -> None:
        if os.getpid() == own:
            raise KeyboardInterrupt
        os._exit(143)  # a process that was forked from this one

    signal.signal(signal.SIGTERM, stop)


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description="Serve a classifier over HTTP.")
    parser.add_argument("source", help="run folder, exported file (.onnx, .xml, .pt2) or model name")
    parser.add_argument("--engine", default="auto", choices=["auto", "torch", "onnxruntime", "openvino"])
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 to be reached from other machines")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--batch-size", type=int, default=8, help="largest batch")
    parser.add_argument("--batch-seconds", type=float, default=0.005, help="time that a batch waits to be filled")
    parser.add_argument("--workers", type=int, default=1, help="processes that compute")
    parser.add_argument("--max-bytes", type=int, default=2**23, help="largest request")
    parser.add_argument("--max-pixels", type=int, default=50_000_000, help="largest image")
    parser.add_argument("--max-requests", type=int, default=64, help="requests at once; more get the status 503")
    parser.add_argument("--upload-seconds", type=float, default=30.0, help="time for a request to arrive")
    asked = parser.parse_args()
    _stop_at_sigterm()
    server = make_server(asked.source, asked)
    server.run(
        host=asked.host,
        port=asked.port,
        num_api_servers=1,
        generate_client_file=False,
        limit_concurrency=asked.max_requests,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
