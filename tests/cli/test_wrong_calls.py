"""A wrong call prints one sentence to standard error and exits with status 2."""

import shutil
from pathlib import Path

import pytest
from tests.using import digits_folder, trained

from hexavit.cli import main

WRONG = {
    "trian": "there is no command 'trian': did you mean 'train'?",
    "--verison": "there is no option '--verison': did you mean '--version'?",
    "train --epocs 3": "hexavit train has no option '--epocs': did you mean '--epochs'?",
    "train --epochs ten": "--epochs takes a whole number, not 'ten'",
    "train --epochs": "--epochs needs a value",
    "train --augment much": "--augment takes one of auto, none, mirror, shift, flip, crop, rand, not 'much'",
    "train --model cvt_nano": "training needs data: pass --data",
    "train --model cvt_nano --data digits --lr -1": "lr is above 0, not -1.0",
    "train --model cvt_nan --data digits --out OUT": "there is no model 'cvt_nan': did you mean 'cvt_nano'?",
    "train --model cvt_nano --data nowhere --out OUT": "nowhere: this data is neither 'digits' nor a folder",
    "train --model cvt_nano --data digits --out RUN": "RUN: this folder holds a finished run; --overwrite replaces it",
    "train --model cvt_nano --data digits --out OUT --in-chans 2": "the model takes 2 channels, and this image has 1",
    "train --resume": "--resume needs --out",
    "train --resume --out OUT": "OUT: there is no run to resume",
    "train --resume --out RUN": "RUN: this run has finished",
    "train --config OUT.yaml": "OUT.yaml: this recipe cannot be read",
    "train DATA --config nothing": "there is no recipe 'nothing': choose from cait-imagenet",
    "train DATA --optimizer sgd": "the automatic learning rate is of adamw and for the batch: give --lr",
    "train DATA --lr-batch 256": "the automatic learning rate is of adamw and for the batch: give --lr",
    "train DATA --find-lr --out OUT": "--find-lr writes no run: leave --out, --resume and --overwrite out",
    "recipes nothing": "there is no recipe 'nothing': choose from cait-imagenet",
    "train extra": "extra: this data is neither 'digits' nor a folder",
    "train extra more": "hexavit train does not take another argument 'more'",
    "train digits --data RUN": "hexavit train takes one data set, not 'digits' and 'RUN'",
    "train digits --from cvt_31 --out OUT": "there is no such run folder, file or model to start from: did you mean",
    "train": "training needs data: pass --data",
    "demo --out RUN": "RUN: this folder holds a finished run; --overwrite replaces it",
    "show cvt_nan": "there is no model 'cvt_nan': did you mean 'cvt_nano'?",
    "show": "hexavit show needs MODEL",
    "show cvt_nano --set nonsense": "nonsense",
    "profile cvt_nano --img-size": "--img-size needs a value",
    "profile cvt_nano --img-size 8 8 8": "img_size is a side or (H, W) in pixels, not (8, 8, 8)",
    "profile cvt_nano --img-size 99999999999999999999": "--img-size takes whole numbers of at most 64 bits",
    "profile cvt_nano --img-size 2147483648": "img_size is at most 1000000 pixels per side, not 2147483648",
    "data check DATA --model cvt_nano": "--model, --img-size and --augment describe the sheet: give --sheet too",
    "profile cvt_nano --set stages.0.depth=1000000000": "a stage has at most 10000 blocks, not depth=1000000000",
    "profile --img-size big cvt_nano": "--img-size takes a whole number, not 'big'",
    "profile cvt_nano --set stages.0.dim=1000000000": "there is no memory for weights of these sizes",
    "train --img-size 32 DATA --mix-token=maybe": "--mix-token takes true or false, not 'maybe'",
    "train --mix-token OUT": "OUT: this data is neither 'digits' nor a folder",
    "train DATA --lr 1e400": "lr is a finite number, not inf",
    "train --data digits --config RUN/config.yaml --device cpu --precision float16 --out OUT": "float16 is for GPUs",
    "train DATA --in-chans 0": "in_chans is at least 1, not 0",
    "show cvt_nano --json cvt_nan": "there is no model 'cvt_nan': did you mean 'cvt_nano'?",
    "parts attention.conv": "did you mean 'attention.conv_bottleneck'?",
    "data check DATA --workers -1": "the number of workers must be 0 or more, not -1",
    "data check DATA --val-fraction 2": "the validation fraction must be between 0 and 1, not 2",
    "data check DATA --sheet OUT.jpg": "OUT.jpg: this file is written as .png, not as '.jpg'",
    "data fetch cifar10:": "cifar10:: published data has the form NAME:FOLDER, such as cifar10:data",
    "runs RUN --plot OUT.txt": "OUT.txt: this file is written as .png, not as '.txt'",
    "evaluate RUN --data DATA --report OUT.jpg": "OUT.jpg: this file is written as .html or .htm, not as '.jpg'",
    "evaluate RUN --data DATA --workers -1": "the number of workers must be 0 or more, not -1",
    "evaluate RUN --data DATA --model cvt_nano": "RUN: this run knows its model",
    "predict RUN DATA --out OUT.jpg": "OUT.jpg: predictions are written as .csv",
    "predict RUN DATA --threads -1": "threads is at least 0, not -1",
    "list cvt_nan": "no model is named 'cvt_nan': did you mean 'cvt_nano'?",
    "data": "hexavit data needs ACTION and DATA",
    "data chekc digits": "takes one of check, fetch, not 'chekc'",
    "data fetch cifr10:OUT": "cifr10:OUT: published data has the form NAME:FOLDER, such as cifar10:data; did you mean",
    "data fetch imagenet:OUT": "imagenet:OUT: this data set cannot be downloaded freely",
    "data check cifar10:OUT": "cifar10:OUT: torchvision finds no complete copy there",
    "demo extra": "hexavit demo does not take another argument 'extra'",
    "demo --out DATA --overwrite": "DATA: this folder holds other files than those of a run; choose another folder",
    "demo --seed 1.5": "--seed takes a whole number, not '1.5'",
    "parts attention global": "hexavit parts does not take another argument 'global'",
    "runs RUN --csv --json": "--csv and --json exclude each other: give one of them",
    "runs OUT": "OUT: there is no such folder",
    "convert RUN OUT.pth --to nonsense": "there is no layout 'nonsense'",
    "convert OUT.pth OUT.safetensors --to authors": "OUT.pth cannot be read: No such file or directory",
    "convert RUN OUT --to authors": "OUT: files of the layout 'authors' are .pth, .safetensors, not a folder",
    "convert DATA OUT.pth --to authors": "DATA: it is a folder with none of model.safetensors",
    "profile cvt_nano --set stages.0.tokens.kernel=99999999999": "there is no memory for weights of these sizes",
    "profile cvt_nano --set stages.0.feedforward.ratio=1e300": "there is no memory for weights of these sizes",
    "profile cvt_nano --set stages.0.tokens.padding=1000000000": "cvt_nano cannot take an image of 32x32",
    "profile cvt_nano --set stages.0.attention=global(heads=[1])": "stages.0.attention.heads takes a whole number",
    "profile cvt_nano --img-size 1": "an image of (1, 1) is too small",
    "probe RUN --data DATA --val-fraction -0.1": "the validation fraction must be between 0 and 1, not -0.1",
    "probe RUN --data DATA --val-fraction nan": "the validation fraction must be between 0 and 1, not nan",
    "probe RUN --data DATA --k 100000": "k is at most the number of training images, 24, not 100000",
    "probe RUN --data DATA --cache OUT.txt": "OUT.txt: features are kept in an .npz file",
    "data check nowhere.csv": "nowhere.csv: this table cannot be read",
    "data check nowhere": "nowhere: this data is neither 'digits' nor a folder",
    "list --license gpl": "no weights have license 'gpl': ",
    "list cvt_n* --trained-on ImageNet-1k": "no model 'cvt_n*' has such published weights",
    "predict cvt_nano DATA": "cvt_nano was never trained",
    "predict cvt_13.in2k DATA": "cvt_13 has no weights under the tag 'in2k': did you mean 'in1k'?",
    "predict nowhere.pth DATA --model cvt_nano": "nowhere.pth: there is no such file of weights",
    "evaluate RUN": "hexavit evaluate needs --data",
    "evaluate OUT --data digits": "OUT: there is no such run folder",
    "evaluate DATA --data digits": "DATA: this is not a run folder",
    "evaluate RUN --data digits": "digits: the model knows no class '0'",
    "probe RUN": "hexavit probe needs --data",
    "probe RUN --data DATA --k 0": "k is at least 1, not 0",
    "probe RUN --data DATA --c -1": "C is above 0, not -1",
    "probe RUN --data DATA --batch-size 0": "the batch size is at least 1, not 0",
    "probe RUN --data nowhere": "nowhere: this data is neither 'digits' nor a folder",
    "evaluate RUN --data DATA --among all": "--among takes one of model, data, not 'all'",
    "predict": "hexavit predict needs MODEL and IMAGES",
    "predict RUN": "hexavit predict needs IMAGES",
    "predict RUN nowhere.png": "nowhere.png: there is no such file or folder",
    "predict RUN DATA --top 0": "top is at least 1, not 0",
    "predict RUN https://example.org/a.jpg": "https://example.org/a.jpg: nothing is fetched; download it and name",
    "predict RUN DATA/*.gif": "*.gif: this pattern matches no image",
    "predict RUN DATA --features OUT.csv": "OUT.csv: features are written as .npy or .parquet, not as '.csv'",
    "predict RUN DATA --format xml": "--format takes one of table, csv, jsonl, not 'xml'",
    "predict RUN DATA --json --format csv": "--json and --format csv contradict each other",
    "predict RUN DATA --null": "- means the list of paths on standard input and may be given once",
    "predict RUN - -": "- means the list of paths on standard input and may be given once",
    "predict RUN DATA --out DATA/zero/0000.png/a.csv": "a.csv: this file cannot be written",
    "predict RUN DATA --device tpu": "--device takes one of auto, cpu, cuda, mps, not 'tpu'",
}


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_call(call: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"OUT": str(tmp_path / "out")}
    if "RUN" in call or "DATA" in call:
        names |= {"RUN": str(trained().path), "DATA": str(digits_folder())}

    def filled(text: str) -> str:
        for name, value in names.items():
            text = text.replace(name, value)
        return text

    assert main(filled(call).split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert filled(WRONG[call]) in printed.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["architecture.json", "classes.json", "input.json", "split.json"])
@pytest.mark.parametrize("content", ["3", "[3]", "{}", "{"])
def test_a_damaged_run_is_named(file: str, content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(trained().path, tmp_path / "run")
    (run / file).write_text(content)
    assert main(["evaluate", str(run), "--data", str(digits_folder()), "--device", "cpu"]) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith(f"error: {run / file}: ")
    assert sentence.count("\n") == 1


def test_mix_token_needs_one_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = f"train {digits_folder()} --model cvt_nano --img-size 32 --epochs 1 --batch-size 8 --device cpu --workers 0"
    out = tmp_path / "out"
    assert main([*call.split(), "--set", "head=token_labels", "--mix-token", "--out", str(out)]) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("error: mix_token needs a model whose first and last grid are the same")
    assert sentence.endswith("are 8 x 8 and 2 x 2\n")
    assert not out.exists()
