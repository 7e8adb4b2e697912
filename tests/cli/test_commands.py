import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from tests.using import CLASSES, digits_folder, trained

import hexavit
from hexavit.cli import COMMANDS, main
from hexavit.data import ImageFolder
from hexavit.inference import Run


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(each) for each in arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    printed = ask(capsys, "--help")
    assert printed == ask(capsys)
    for name, text in COMMANDS.items():
        assert f"  {name:<11}{text}\n" in printed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = ask(capsys, name, "--help")
    assert f"usage: hexavit {name} " in printed
    assert "--import MODULE" in printed
    assert all(len(line) <= 80 for line in printed.splitlines())
    assert not any(jargon in printed for jargon in ("type:", "default: null", "SUPPRESS", "Literal"))


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "list").split() == hexavit.list_models()
    assert json.loads(ask(capsys, "list", "cvt_*", "--json")) == hexavit.list_models("cvt_*")


def test_list_by_weights(capsys: pytest.CaptureFixture[str]) -> None:
    asked = "--license", "apache-2.0", "--trained-on", "imagenet-22k"
    assert ask(capsys, "list", *asked).split() == ["cvt_13", "cvt_21", "cvt_w24"]
    printed = json.loads(ask(capsys, "list", "--weights", "cvt_w*", "--json"))
    assert printed == ["cvt_w24.in22k_ft_in1k_384"]


def test_show(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    printed = ask(capsys, "show", "cvt_13", "--set", "head=pool")
    model = hexavit.create_model("cvt_13", overrides=["head=pool"])
    assert model.architecture.table() in printed
    assert "4.5 G" in printed
    assert "4.547 G" in printed  # without the class token in stage 2
    assert "without your overrides" in printed
    read = json.loads(ask(capsys, "show", "cvt_13", "--json"))
    assert (
        hexavit.Architecture.from_json(json.dumps(read["architecture"])) == hexavit.create_model("cvt_13").architecture
    )
    assert read["counted"]["parameters"] == 19_997_480
    assert read["published"][0]["gflops"] == 4.5
    assert read["weights"][1]["hub_id"] == "microsoft/cvt-13-384"
    assert "weights     cvt_13.in1k_384: apache-2.0; ImageNet-1k; microsoft/cvt-13-384\n" in printed


@pytest.mark.parametrize("arguments", [("show", "swin_nano"), ("show", "cvt_nano"), ("parts",), ("parts", "position")])
def test_tables_keep_to_a_narrow_terminal(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    printed = ask(capsys, *arguments)
    assert all(len(line) <= 80 for line in printed.splitlines()[1:])  # the first is a model's sentence
    assert "relative_bias" in printed or arguments[-1] == "cvt_nano"


def test_profile(capsys: pytest.CaptureFixture[str]) -> None:
    counted = hexavit.profile(hexavit.create_model("cvt_nano", img_size=(32, 64)))
    assert json.loads(ask(capsys, "profile", "cvt_nano", "--img-size", 32, 64, "--json"))["macs"] == counted.macs
    assert ask(capsys, "profile", "cvt_nano", "--img-size", 32, 64) == counted.table() + "\n"


def test_train_takes_a_recipe_and_the_command_line_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: cvt_nano\ndata: {digits_folder()}\nepochs: 3\nbatch_size: 8\nimg_size: 32\nworkers: 0\n")
    printed = ask(capsys, "train", "--config", recipe, "--epochs", 1, "--out", tmp_path / "run", "--set", "head=pool")
    assert re.fullmatch(
        rf"validation accuracy \d+\.\d\d% in epoch 1 of 1, the best; run folder {tmp_path / 'run'}",
        printed.splitlines()[-1],
    )
    run = Run.open(tmp_path / "run")
    assert printed.splitlines()[-1].startswith("validation accuracy ")
    assert len(run.history.read_text().splitlines()) == 2
    assert (
        run.build().architecture
        == hexavit.create_model(
            "cvt_nano", num_classes=3, in_chans=1, img_size=32, overrides=["head=pool"]
        ).architecture
    )


def test_train_chooses_what_is_not_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = "--epochs", 1, "--device", "cpu"
    opened: list[object] = []
    opens = ImageFolder.__init__
    monkeypatch.setattr(ImageFolder, "__init__", lambda self, path: opened.append(path) or opens(self, path))
    printed = ask(capsys, "train", digits_folder(), *given).splitlines()
    assert len(opened) == 1  # for all of it: a large folder takes minutes
    assert printed[0] == "settings chosen automatically; override any with the option of the same name:"
    assert printed[1].startswith("model cvt_nano, img_size 32 x 32: 24 images of about 8 pixels")
    run = Run.open("runs/digits-cvt_nano")
    monkeypatch.setenv("LOCAL_RANK", "1")  # only rank 0 prints it
    assert not any("chosen" in line for line in ask(capsys, "train", digits_folder(), *given).splitlines())
    monkeypatch.delenv("LOCAL_RANK")
    again = ask(capsys, "train", "--config", run.config).splitlines()
    assert not any("chosen" in line for line in again)
    assert Run.open("runs/digits-cvt_nano-3").config.read_text() == run.config.read_text()


def test_evaluate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    read = json.loads(ask(capsys, "evaluate", trained().path, "--data", digits_folder(), "--json"))
    assert read["accuracy"] == json.loads(trained().metrics.read_text())["accuracy"]
    printed = ask(capsys, "evaluate", trained().path, "--data", digits_folder())
    assert f"accuracy  {read['accuracy']:.2%} (95 % CI " in printed
    assert {"top5", "interval", "ece", "macro_f1", "confused"} < set(read)
    ask(capsys, "evaluate", trained().path, "--data", digits_folder(), "--report", tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert all(f"\n{name:<5}       2" in printed for name in CLASSES)


def test_data_check(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = tmp_path / "sheet.png"
    printed = ask(capsys, "data", "check", digits_folder(), "--sheet", sheet, "--img-size", 32, 32)
    monkeypatch.chdir(digits_folder().parent)
    assert ask(capsys, "data", "check", digits_folder()).startswith(f"{digits_folder().name}: 30 images")
    assert f"{digits_folder()}: 30 images in 3 classes; split: automatic" in printed
    assert sheet.is_file()
    read = json.loads(ask(capsys, "data", "check", digits_folder(), "--json"))
    assert read["classes"]["zero"] == {"train": 8, "val": 2}


def test_predict(capsys: pytest.CaptureFixture[str]) -> None:
    image = digits_folder() / "zero" / "0000.png"
    printed = ask(capsys, "predict", trained().path, image, "--top", 2)
    (read,) = map(json.loads, ask(capsys, "predict", trained().path, image, "--top", 2, "--json").splitlines())
    assert read["image"] == str(image)
    cells = [f"{e['class']} {e['probability']:.2%}" for e in read["top"]]
    assert printed.splitlines()[1] == "  ".join([str(image), *cells])


def test_predict_with_a_saved_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = digits_folder() / "zero" / "0000.png"
    place = hexavit.save_pretrained(trained().model(), tmp_path / "saved", class_names=CLASSES)
    config = json.loads((place / "config.json").read_text())
    config["pretrained_cfg"]["crop_pct"] = trained().input_spec().crop_pct
    (place / "config.json").write_text(json.dumps(config))
    assert ask(capsys, "predict", place, image) == ask(capsys, "predict", trained().path, image)


def test_predict_with_untrained_weights_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    image = digits_folder() / "zero" / "0000.png"
    assert main(["predict", "cvt_nano", str(image), "--untrained"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1].startswith(f"{image}  ")
    assert printed.err == "note: cvt_nano is untrained: its predictions are random\n"


def test_an_interrupt_is_no_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hexavit, "list_models", interrupted)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "two\nlines.pth"]) == 2
    assert capsys.readouterr().err.startswith("error: two\\nlines.pth")


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "a.pth")

    monkeypatch.setattr(hexavit, "list_models", full)
    assert main(["list"]) == 2
    assert capsys.readouterr().err == "error: a.pth: No space left on device\n"


def test_the_installed_command() -> None:
    (entry,) = (each for each in entry_points(group="console_scripts") if each.name == "hexavit")
    assert entry.load() is main


def test_it_starts_as_a_process() -> None:
    code = "import sys; from hexavit.cli import main; sys.exit(main())"
    call = [sys.executable, "-W", "error", "-c", code, "list", "cvt_n*"]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("cvt_nano\n", "")
