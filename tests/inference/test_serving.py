"""examples/serving.py: right predictions, one sentence for whatever else is sent, and limits."""

import asyncio
import base64
import contextlib
import importlib.util
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from tests.using import digits_folder, trained

import hexavit

pytest.importorskip("litserve", reason="the example needs hexavit[serve]")
EXAMPLE = Path(__file__).parents[2] / "examples" / "serving.py"
LIMIT = 20_000


@pytest.fixture(scope="module")
def serving() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serving_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["serving_example"] = module  # annotations are looked up here
    spec.loader.exec_module(module)
    return module


def png(number: int = 0) -> bytes:
    return sorted(digits_folder().rglob("*.png"))[number].read_bytes()


def bomb() -> bytes:
    """A small file of ten thousand times ten thousand pixels."""
    file = io.BytesIO()
    Image.new("L", (10_000, 10_000)).save(file, "PNG")
    return file.getvalue()


def form(content: bytes, field: str = "file", name: str = "a.png") -> tuple[str, bytes]:
    head = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return "multipart/form-data; boundary=b", head.encode() + content + b"\r\n--b--\r\n"


def as_json(content: bytes, **values: object) -> tuple[str, bytes]:
    return "application/json", json.dumps({"image": base64.b64encode(content).decode(), **values}).encode()


HOSTILE: dict[str, tuple[Callable[[], tuple[str, bytes]], int]] = {
    "empty": (lambda: ("image/png", b""), 415),
    "text": (lambda: ("text/plain", b"hello"), 415),
    "no type": (lambda: ("", png()), 415),
    "html in a form": (lambda: form(b"<html>"), 415),
    "svg": (lambda: ("image/svg+xml", b"<svg/>"), 415),
    "tiff": (lambda: ("image/tiff", b"II*\x00" + bytes(40)), 415),
    "pickle": (lambda: form(b"\x80\x04cos\nsystem\n(S'true'\ntR."), 415),
    "form without a file": (lambda: ("multipart/form-data; boundary=b", b"--b--\r\n"), 400),
    "form without a boundary": (lambda: ("multipart/form-data", b"--b--\r\n"), 400),
    "broken form": (lambda: ("multipart/form-data; boundary=b", b"\x00" * 50), 400),
    "not JSON": (lambda: ("application/json", b"{"), 400),
    "JSON list": (lambda: ("application/json", b"[1]"), 400),
    "JSON null": (lambda: ("application/json", b"null"), 400),
    "deep JSON": (lambda: ("application/json", b"[" * 19_000), 400),
    "not base64": (lambda: ("application/json", b'{"image": "%%%"}'), 400),
    "number for an image": (lambda: ("application/json", b'{"image": 3}'), 400),
    "negative top": (lambda: as_json(png(), top=-1), 400),
    "top is a list": (lambda: as_json(png(), top=[1]), 400),
    "too large": (lambda: ("image/png", png() + bytes(LIMIT)), 413),
}
BROKEN: dict[str, Callable[[], bytes]] = {
    "cut off": lambda: png()[:80],
    "only a signature": lambda: b"\x89PNG\r\n\x1a\n",
    "a JPEG of zeros": lambda: b"\xff\xd8\xff" + bytes(500),
    "a wave file": lambda: b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100),
}


def sent(serving: ModuleType, kind: str, body: bytes, query: str = "", **options: Any) -> tuple[int, Any]:
    """The status and the JSON that the middleware answers with, or 200 and what it passes on."""
    passed: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(json.loads((await receive())["body"]))

    replies: list[Any] = []
    chunks = [body[i : i + 4096] for i in range(0, len(body), 4096)] or [b""]

    async def receive() -> Any:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message: Any) -> None:
        replies.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": query.encode(),
        "http_version": "1.1",
    }
    scope["headers"] = [(b"content-type", kind.encode())]
    asyncio.run(serving.Uploads(app, max_bytes=LIMIT, **options)(scope, receive, send))
    if passed:
        return 200, passed[0]
    return replies[0]["status"], json.loads(replies[1]["body"])


def test_every_form_of_a_request_holds_the_same_image(serving: ModuleType) -> None:
    expected = base64.b64encode(png()).decode()
    for kind, body in (form(png()), as_json(png()), ("image/png", png()), ("application/octet-stream", png())):
        assert sent(serving, kind, body) == (200, {"image": expected, "top": 3})
    assert sent(serving, "image/png", png(), "top=7")[1]["top"] == 7
    assert sent(serving, *as_json(png(), top=2))[1]["top"] == 2


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_image_is_one_sentence(serving: ModuleType, name: str) -> None:
    make, expected = HOSTILE[name]
    status, reply = sent(serving, *make())
    assert status == expected, reply
    assert "\n" not in reply["detail"]


def test_a_request_that_does_not_arrive_ends(serving: ModuleType) -> None:
    replies: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        replies.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": []}
    asyncio.run(serving.Uploads(None, seconds=0.05)(scope, receive, send))
    assert replies[0]["status"] == 408


@pytest.mark.usefixtures("one_thread")
def test_a_broken_image_does_not_affect_its_batch(serving: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    api = serving.Classifier(str(trained().path), "torch", max_pixels=10**7, max_batch_size=8)
    api.setup("cpu")
    contents = [png(), *(make() for make in BROKEN.values()), bomb(), png(15)]
    requests = [api.decode_request({"image": base64.b64encode(each).decode(), "top": 2}) for each in contents]
    first, *errors, last = map(api.encode_response, api.unbatch(api.predict(api.batch(requests))))
    predictor = hexavit.load_predictor(trained().path, engine="torch")
    for reply, content in ((first, png()), (last, png(15))):
        expected = predictor(Image.open(io.BytesIO(content)), top=2).as_dict()["top"]
        assert [each["class"] for each in reply["top"]] == [each["class"] for each in expected]
    assert [each.status_code for each in errors] == [400] * 5
    assert b"decompression bomb" in errors[-1].body


def request(port: int, kind: str, body: bytes) -> tuple[int, Any]:
    """Status and JSON of a request to the server; a connection that it closes early counts as 413."""
    headers = {"Content-Type": kind} if kind else {}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, headers)
    try:
        with urllib.request.urlopen(asked, timeout=120) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    except (urllib.error.URLError, ConnectionError):
        return 413, {"detail": "closed"}


def resident(process: int) -> int:
    """Bytes of a process and those below it."""
    below = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    own = int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return own + sum(resident(int(each)) for each in below)


def members(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of_group = place.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                found.append(int(place.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux's /proc")
def test_sixteen_clients_and_hostile_ones() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    limits = ["--max-bytes", str(LIMIT), "--max-pixels", "10000000", "--engine", "torch"]
    call = [sys.executable, str(EXAMPLE), str(trained().path), "--port", str(port), *limits]
    server = subprocess.Popen(call, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.5)
        predictor = hexavit.load_predictor(trained().path, engine="torch")
        expected = [each.top[0][0] for each in predictor(sorted(digits_folder().rglob("*.png")))]
        kinds = (form, as_json, lambda content: ("image/png", content))
        good = [(*kinds[n % 3](png(n % 30)), expected[n % 30]) for n in range(160)]
        with ThreadPoolExecutor(16) as pool:
            for (status, reply), (_, _, name) in zip(
                pool.map(lambda g: request(port, *g[:2]), good), good, strict=True
            ):
                assert (status, reply["top"][0]["class"]) == (200, name)
            before = resident(server.pid)
            bad = [(*make(), status) for make, status in HOSTILE.values()]
            bad += [("image/png", make(), 400) for make in BROKEN.values()]
            bad += [("image/png", bytes(50 * LIMIT), 413), (*form(bytes(50 * LIMIT)), 413)]
            mixed = [each for n in range(4) for pair in zip(bad, good[n * 25 :], strict=False) for each in pair]
            replies = list(pool.map(lambda each: request(port, *each[:2]), mixed))
            for (status, reply), (*_, wanted) in zip(replies, mixed, strict=True):
                if isinstance(wanted, str):
                    assert (status, reply["top"][0]["class"]) == (200, wanted)
                else:
                    assert status == wanted
            assert resident(server.pid) - before < 200 * 2**20
        assert request(port, *form(png()))[0] == 200
        assert server.poll() is None
        server.terminate()
        server.wait(120)
        for _ in range(100):
            if not members(server.pid):
                break
            time.sleep(0.2)
        assert members(server.pid) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def test_the_image_is_built_from_files_that_are_there() -> None:
    root = EXAMPLE.parents[1]
    lines = (EXAMPLE.parent / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [
        name for line in lines if line.startswith("COPY ") and "--from" not in line for name in line.split()[1:-1]
    ]
    assert "pyproject.toml" in copied
    assert not [name for name in copied if not (root / name).exists()]
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (installed,) = (re.search(r"whl\)\[([\w,]+)\]", line)[1] for line in lines if "hexavit-*.whl" in line)
    assert set(installed.split(",")) <= set(extras)
