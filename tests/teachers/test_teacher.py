from pathlib import Path

import pytest
import torch
from tests.using import CLASSES, digits_folder, interrupt_at, silent, tiny, train_by_command, trained

import hexavit
from hexavit.errors import HexavitError
from hexavit.inference import InputSpec, LoadedModel, Run
from hexavit.teachers.teacher import Teacher, load_teacher
from hexavit.training import resume, train

SPEC = InputSpec((32, 32), 3, (0.5,) * 3, (0.5,) * 3, "bilinear", 0.9, "center")


def untrained(classes: tuple[str, ...], spec: InputSpec = SPEC) -> LoadedModel:
    torch.manual_seed(0)
    model = hexavit.create_model("cvt_nano", num_classes=len(classes), in_chans=spec.channels, img_size=spec.size)
    return LoadedModel(classes, spec, "best", model=model)


def test_logits_are_in_the_order_of_the_data() -> None:
    loaded = untrained(("c", "a", "b"))
    images = torch.randn(2, 3, 32, 32)
    found = Teacher(loaded, ("a", "b", "c"), SPEC, "it")(images)
    torch.testing.assert_close(found, loaded.model(images)[:, [1, 2, 0]].detach())
    assert not found.requires_grad
    few = Teacher(loaded, ("c", "b"), SPEC, "it")(images)
    torch.testing.assert_close(few, loaded.model(images)[:, [0, 2]].detach())
    with pytest.raises(HexavitError, match="it: the teacher has no class 'd', which the data has"):
        Teacher(loaded, ("a", "d"), SPEC, "it")


def test_classes_without_names_are_matched_by_index() -> None:
    loaded = untrained(("class 0", "class 1"))
    assert Teacher(loaded, ("x", "y"), SPEC, "it").columns.tolist() == [0, 1]
    with pytest.raises(HexavitError, match="has no class 'x'"):
        Teacher(loaded, ("x", "y", "z"), SPEC, "it")


def test_images_are_preprocessed_for_the_teacher() -> None:
    own = InputSpec((48, 48), 1, (0.3,), (0.2,), "bicubic", 0.9, "center")
    loaded = untrained(("a", "b"), own)
    seen: list[torch.Tensor] = []
    loaded.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    Teacher(loaded, ("a", "b"), SPEC, "it")((torch.full((2, 3, 32, 32), 0.8) - 0.5) / 0.5)
    assert seen[0].shape == (2, 1, 48, 48)
    torch.testing.assert_close(seen[0], torch.full_like(seen[0], (0.8 - 0.3) / 0.2), rtol=1e-3, atol=1e-3)
    grey = InputSpec((32, 32), 1, (0.5,), (0.5,), "bilinear", 0.9, "center")
    seen.clear()
    colour = untrained(("a", "b"))
    colour.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    Teacher(colour, ("a", "b"), grey, "it")(torch.zeros(2, 1, 32, 32))
    assert seen[0].shape == (2, 3, 32, 32)


def test_a_teacher_from_a_file(tmp_path: Path) -> None:
    spec = trained().input_spec()
    images = torch.randn(2, 3, 32, 32)
    by_run, by_file = (load_teacher(str(s), CLASSES, spec) for s in (trained().path, trained().weights("best")))
    assert by_file.columns.tolist() == by_run.columns.tolist() == [0, 1, 2]
    assert by_file(images).shape == by_run(images).shape


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "more", [[], ["--distillation", "soft", "--distillation-alpha", 0.1, "--distillation-tau", 3, "--mixup", 0.5]]
)
def test_distillation_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    called = Teacher.__call__

    def counted(self: Teacher, images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return called(self, images)

    monkeypatch.setattr(Teacher, "__call__", counted)
    printed = train_by_command(capsys, tmp_path / "run", "--model", "deit_nano", "--teacher", trained().path, *more)
    assert "validation accuracy" in printed
    assert asked == [12, 12]
    run = Run.open(tmp_path / "run")
    assert f"teacher: {trained().path}" in run.config.read_text()
    assert not any("teacher" in key for key in torch.load(run.checkpoint, weights_only=True)["model"])


@pytest.mark.usefixtures("one_thread")
def test_a_distilled_run_resumes_with_its_teacher(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = "--model", "deit_nano", "--teacher", trained().path, "--epochs", 2
    train_by_command(capsys, tmp_path / "whole", *arguments)
    with monkeypatch.context() as patched:
        interrupt_at(patched, 1, 1)
        train_by_command(capsys, tmp_path / "parts", *arguments)
    resume(tmp_path / "parts")
    assert Run(tmp_path / "parts").weights("last").read_bytes() == Run(tmp_path / "whole").weights("last").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--model", "lvvit_nano", "--teacher", "RUN"],
            "a teacher needs a model with head=two_heads, such as deit_nano, or with one output, and lvvit_nano has",
        ),
        (["--model", "deit_nano", "--teacher", "timm:resnet_18"], "timm has no such model: did you mean 'resnet18'"),
        (["--model", "deit_nano", "--teacher-cache", "c"], "teacher_cache is of teacher, which is not given"),
        (["--model", "deit_nano", "--teacher", "nowhere"], "nowhere: there is no such run folder, file or model"),
        (["--model", "deit_nano", "--teacher", "RUN", "--distillation-alpha", 2], "distillation_alpha is between 0"),
        (["--model", "deit_nano", "--teacher", "RUN", "--distillation-tau", 0], "distillation_tau is above 0"),
    ],
)
def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[object], sentence: str) -> None:
    printed = train_by_command(
        capsys,
        tmp_path / "run",
        *(trained().path if each == "RUN" else each for each in arguments),
    )
    assert sentence in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_replaced_by_its_own_student() -> None:
    with pytest.raises(HexavitError, match="a run cannot be its own teacher"):
        train(tiny(digits_folder(), teacher=str(trained().path)), trained().path, overwrite=True, console=silent())
    assert trained().weights("best").is_file()
