"""Uploads, against a stub of `huggingface_hub.HfApi`."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch

import hexavit
from hexavit.errors import HexavitError


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict]]:
    """Recorded calls; uploaded files are copied to `tmp_path / "uploaded"`."""
    calls: list[tuple[str, dict]] = []

    class Stub:
        def __init__(self, **options: object) -> None:
            calls.append(("api", options))

        def create_repo(self, repo_id: str, **options: object) -> None:
            huggingface_hub.utils.validate_repo_id(repo_id)
            calls.append(("create_repo", {"repo_id": repo_id, **options}))

        def upload_folder(self, *, folder_path: str, **options: object) -> SimpleNamespace:
            if options["repo_id"] == "full/up":
                raise ConnectionError("the line\nis cut")
            shutil.copytree(folder_path, tmp_path / "uploaded")
            calls.append(("upload_folder", options))
            return SimpleNamespace(commit_url="https://hub/commit/1", pr_url="https://hub/discussions/1")

    monkeypatch.setattr(huggingface_hub, "HfApi", Stub)
    return calls


def test_a_model_is_pushed(api: list[tuple[str, dict]], tmp_path: Path) -> None:
    model = hexavit.create_model("cvt_nano", num_classes=2)
    url = hexavit.push_to_hub(model, "me/nano", class_names=("a", "b"), license="mit", private=True, token="secret")
    assert url == "https://hub/commit/1"
    assert [name for name, _ in api] == ["api", "create_repo", "upload_folder"]
    assert api[0][1]["token"] == "secret"
    assert api[1][1] == {"repo_id": "me/nano", "private": True, "exist_ok": True}
    assert api[2][1]["commit_message"] == "Add a hexavit model"
    back = hexavit.from_pretrained(tmp_path / "uploaded")
    assert torch.equal(back.head.fc.weight, model.head.fc.weight)
    assert back.pretrained_cfg["label_names"] == ("a", "b")
    assert all(b"secret" not in file.read_bytes() for file in (tmp_path / "uploaded").iterdir())


def test_a_pull_request(api: list[tuple[str, dict]]) -> None:
    model = hexavit.create_model("cvt_nano", num_classes=2)
    assert hexavit.push_to_hub(model, "me/nano", create_pr=True) == "https://hub/discussions/1"
    assert api[-1][1]["create_pr"] is True


def test_error_messages(api: list[tuple[str, dict]]) -> None:
    model = hexavit.create_model("cvt_nano", num_classes=2)
    with pytest.raises(HexavitError, match="'m e/n!' is not the name of a repository"):
        hexavit.push_to_hub(model, "m e/n!")
    with pytest.raises(HexavitError, match=r"full/up could not be uploaded to the hub \(the line is cut\)"):
        hexavit.push_to_hub(model, "full/up")
