"""examples/ray_data.py on a Ray of this machine: the predictions of `load_predictor`, in order."""

import importlib.util
import sys
from pathlib import Path

import pytest
from tests.inference.exported import exported
from tests.using import digits_folder

import hexavit

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_data.py"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_blocks_are_predicted_by_workers(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="the example needs ray[data]")
    pytest.importorskip("ray.data", reason="the example needs ray[data]")
    spec = importlib.util.spec_from_file_location("ray_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    sys.modules["ray_example"] = example
    spec.loader.exec_module(example)
    ray.cloudpickle.register_pickle_by_value(example)  # the workers cannot import it from this test
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    paths = [*map(str, sorted(digits_folder().rglob("*.png"))), str(broken)]
    predictor = hexavit.load_predictor(exported(".onnx"))
    expected = predictor(paths[:-1], top=1)
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}}
    )
    try:
        rows = example.predict(predictor, paths, workers=2, block=8).take_all()
    finally:
        ray.shutdown()
    assert [row["path"] for row in rows] == paths
    assert [row["class"] for row in rows[:-1]] == [each.top[0][0] for each in expected]
    assert [row["probability"] for row in rows[:-1]] == pytest.approx([each.top[0][1] for each in expected], abs=1e-5)
    assert str(broken) in rows[-1]["error"]
    assert not any(row["error"] for row in rows[:-1])
