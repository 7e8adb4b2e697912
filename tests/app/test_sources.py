from pathlib import Path

import pytest
from tests.using import trained

import hexavit
from hexavit.app.sources import Sources
from hexavit.errors import HexavitError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_is_a_model_and_a_run(tmp_path: Path) -> None:
    run = trained()
    sources = Sources([run.path, "deit_nano"])
    assert list(sources.models) == [str(run.path), "deit_nano"]
    assert sources.labels()[:2] == [str(run.path), "deit_nano"]
    assert sorted(sources.labels()[1:]) == sorted(hexavit.list_models())
    assert sources.run(str(run.path)).path == run.path
    shown = sources.load(str(run.path))
    assert not shown.random
    assert shown.loaded.classes == ("one", "two", "zero")
    assert sources.load(str(run.path)) is shown
    assert sources.architecture(str(run.path)).num_classes == 3


def test_a_folder_of_runs_gives_each(tmp_path: Path) -> None:
    run = trained()
    (tmp_path / "runs").mkdir()
    for name in ("a", "b"):
        (tmp_path / "runs" / name).symlink_to(run.path)
    link = tmp_path / "one"
    link.symlink_to(run.path.parent)
    sources = Sources([link])
    assert list(sources.runs) == [f"{link}/run"]


def test_random_weights_are_named_and_always_the_same() -> None:
    first, again = Sources().load("cvt_nano"), Sources().load("cvt_nano")
    assert first.random
    assert "Random weights" in first.note
    assert "mean nothing" in first.note
    for one, other in zip(first.loaded.model.parameters(), again.loaded.model.parameters(), strict=True):
        assert one.equal(other)


def test_a_name_that_was_not_given_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("a download was begun")

    monkeypatch.setattr("hexavit.hub.download.fetch", fail, raising=False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    monkeypatch.setattr("torch.hub.download_url_to_file", fail)
    shown = Sources().load("deit_tiny_patch16_224")
    assert shown.random
    assert "start hexavit app with deit_tiny_patch16_224" in shown.note


def test_only_what_was_given_is_read(tmp_path: Path) -> None:
    sources = Sources()
    for label in (str(trained().path), "../../etc/passwd", "/etc", "", "cvt_13/../cvt_13"):
        for function in (sources.load, sources.architecture, sources.run, sources.study):
            with pytest.raises(HexavitError, match=r"there is no model|was given"):
                function(label)


@pytest.mark.parametrize("given", ["cvt_l3", "cvt_13.nothing", "no/such/folder"])
def test_something_else_is_an_error(given: str) -> None:
    with pytest.raises(HexavitError, match=r"neither a model name|no weights under the tag"):
        Sources([given])


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HexavitError, match="there is no run in or below this folder"):
        Sources([tmp_path])


def test_two_models_stay_in_memory() -> None:
    sources = Sources()
    first = sources.load("cvt_nano")
    sources.load("pvt_v2_nano")
    sources.load("deit_nano")
    assert sources.load("cvt_nano") is not first
