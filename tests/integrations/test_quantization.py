"""Other people's converters take every model as it is: torchao's int8 weights, OpenVINO's tracing."""

import pytest
import torch
from tests.slow import few_nanos

import hexavit


def images(model: hexavit.Backbone) -> torch.Tensor:
    return torch.randn(2, 3, *model.default_cfg["input_size"][1:], generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", hexavit.list_models("*_nano"))
def test_torchao_quantises_the_weights(name: str) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    torch.manual_seed(0)
    model = hexavit.create_model(name).eval()
    x = images(model)
    with torch.no_grad():
        exact = model(x)
        quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
        assert any(type(p.data).__module__.startswith("torchao") for p in model.parameters())
        error = (model(x) - exact).abs().max() / exact.abs().max()
    assert 0 < error < 0.05  # a weight is rounded to 1 / 254 of the largest of its row


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", few_nanos())
def test_openvino_converts_a_model_in_the_default_gradient_mode(name: str) -> None:
    openvino = pytest.importorskip("openvino")
    torch.manual_seed(0)
    model = hexavit.create_model(name).eval()
    x = images(model)
    compiled = openvino.compile_model(
        openvino.convert_model(model, example_input=x), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found = torch.from_numpy(compiled(x.numpy())[0])
    with torch.no_grad():
        exact = model(x)
    torch.testing.assert_close(found, exact, rtol=0, atol=2e-5 * exact.abs().max().item())
