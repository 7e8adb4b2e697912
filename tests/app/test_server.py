"""What the page may read and send, tried with forged requests."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.app.serving import needs_gradio, served
from tests.app.test_pictures import jpeg
from tests.using import trained

from hexavit.app.server import HOST, bound
from hexavit.cli import main
from hexavit.errors import HexavitError

Reply = tuple[int, bytes, dict[str, str]]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(trained().path) as found:
        yield found


def ask(address: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    """Send a request; the path goes as it is, with dots."""
    connection = http.client.HTTPConnection(HOST, urllib.parse.urlparse(address).port, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", path, body, named)
        reply = connection.getresponse()
        return reply.status, reply.read(), {name.lower(): value for name, value in reply.getheaders()}
    finally:
        connection.close()


def event(address: str, data: list[object], session: str) -> tuple[int, str]:
    """Run the event of the upload field: the status, and what the page would show."""
    config = json.loads(ask(address, "/config")[1])
    (upload,) = (each["id"] for each in config["components"] if each["props"].get("elem_id") == "upload")
    (number,) = (each["id"] for each in config["dependencies"] if [upload, "change"] in each["targets"])
    body = json.dumps({"data": data, "fn_index": number, "session_hash": session}).encode()
    status, text, _ = ask(address, "/gradio_api/queue/join", body, content_type="application/json")
    if status != 200:
        return status, text.decode()
    return status, ask(address, f"/gradio_api/queue/data?session_hash={session}")[1].decode()


def upload(address: str, name: str, content: bytes) -> Reply:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="' + name.encode() + b'"\r\n'
        b"Content-Type: image/png\r\n\r\n" + content + b"\r\n--x--\r\n"
    )
    return ask(address, "/gradio_api/upload", body, content_type="multipart/form-data; boundary=x")


@needs_gradio
@pytest.mark.slow
def test_no_file_of_the_disk_is_served(address: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    config = trained().config
    targets = [
        str(secret),
        str(config),
        "/etc/passwd",
        "/proc/self/environ",
        os.path.relpath(secret),
        str(Path(__file__)),
    ]
    prefixes = (
        "/gradio_api/file=",
        "/gradio_api/file/",
        "/file=",
        "/static/",
        "/assets/",
        "/static/../../../../../../..",
    )
    for target in targets:
        for prefix in prefixes:
            for path in (target, urllib.parse.quote(target, safe=""), "../../../../../../.." + target):
                status, body, _ = ask(address, prefix + path)
                assert status in (403, 404), (prefix, path)
                assert b"root:" not in body
                assert secret.read_bytes() not in body
    for path in ("/gradio_api/file=http://127.0.0.1:1/", "/gradio_api/proxy=http://127.0.0.1:1/", "/monitoring"):
        assert ask(address, path)[0] >= 400


@needs_gradio
@pytest.mark.slow
def test_an_event_names_no_other_file(address: str, tmp_path: Path) -> None:
    """The file field takes a path from the request: it must be that of an upload."""
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    label = str(trained().path)
    meta = {"meta": {"_type": "gradio.FileData"}}
    folder = Path(json.loads(upload(address, "a.jpg", jpeg())[1])[0]).parent.parent
    link = folder / "link.png"
    link.symlink_to(secret)
    hostile = [
        str(secret),
        "secret.png",
        f"{folder}/../{secret}",
        str(link),
        "http://127.0.0.1:1/a.png",
        "a\0b",
        3,
        None,
    ]
    for number, path in enumerate(hostile):
        status, text = event(address, [{"path": path, **meta}, label], f"hostile{number}")
        assert (status, text) == (403, "this request names a file that was not uploaded"), path
    assert event(address, [[{"a": {"path": str(secret), **meta}}], label], "nested")[0] == 403
    assert ask(address, "/gradio_api/queue/join", b"[" * 100_000)[0] == 403
    assert ask(address, "/gradio_api/queue/join", b"x" * 2**21)[0] == 403
    link.unlink()


@needs_gradio
@pytest.mark.slow
def test_uploads(address: str) -> None:
    label = str(trained().path)
    status, body, _ = upload(address, "../../../../tmp/escaped.png", jpeg())
    (path,) = json.loads(body)
    assert status == 200
    assert Path(path).name == "escaped.png"
    assert not Path("/tmp/escaped.png").exists()
    assert "hexavit-app-" in path
    status, text = event(address, [{"path": path, "meta": {"_type": "gradio.FileData"}}, label], "good")
    assert status == 200
    assert "hx-bars" in text
    # What was uploaded comes back as a download, or cannot run scripts.
    (page,) = json.loads(upload(address, "page.html", b"<script>alert(1)</script>")[1])
    _, _, headers = ask(address, f"/gradio_api/file={page}")
    assert "attachment" in headers.get("content-disposition", "")
    assert headers["x-content-type-options"] == "nosniff"
    assert upload(address, "big.png", b"x" * (33 * 2**20))[0] == 413


@needs_gradio
@pytest.mark.slow
def test_thirty_uploads_at_once(address: str) -> None:
    label, replies = str(trained().path), {}

    def visit(number: int) -> None:
        content = jpeg() if number % 2 else b"no image"
        (path,) = json.loads(upload(address, f"{number}.jpg", content)[1])
        replies[number] = event(address, [{"path": path, "meta": {"_type": "gradio.FileData"}}, label], f"many{number}")

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert len(replies) == 30
    for number, (status, text) in replies.items():
        assert status == 200
        assert ("hx-bars" if number % 2 else "this is not an image that can be read") in text
    assert ask(address, "/")[0] == 200


@needs_gradio
@pytest.mark.slow
def test_the_loopback_interface_alone(address: str) -> None:
    port = urllib.parse.urlparse(address).port
    status, _, headers = ask(address, "/")
    assert status == 200
    assert "default-src 'self'" in headers["content-security-policy"]
    assert ask(address, "/", Host="evil.example")[0] == 400
    others = {each[4][0] for each in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)} - {HOST}
    for other in others:
        if not other.startswith("127."):
            with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
                socket.create_connection((other, port), timeout=2)


def test_a_port_that_is_taken_is_an_error() -> None:
    with bound(0) as listening:
        again = bound(listening.getsockname()[1])
        with pytest.raises(HexavitError, match=r"is not free on 127\.0\.0\.1 .*: choose another with --port"):
            again.__enter__()


@needs_gradio
@pytest.mark.slow
def test_uploads_are_removed_at_the_end() -> None:
    with served("cvt_nano") as address:
        (path,) = json.loads(upload(address, "a.jpg", jpeg())[1])
        assert Path(path).is_file()
    assert not Path(path).parent.parent.exists()


@pytest.mark.slow
def test_without_gradio_the_command_names_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    program = "import sys; sys.modules['gradio'] = None; from hexavit.cli import main; sys.exit(main(['app']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: hexavit app needs Gradio: pip install 'hexavit[app]'\n"
    assert main(["app", "no_such_model"]) == 2
    assert "neither a model name" in capsys.readouterr().err
