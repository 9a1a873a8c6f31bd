"""The published weights: key names, refusals, and equality with the published outputs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from featherface.errors import ModelError
from featherface.models.build import build_model
from featherface.models.public_v1 import public_v1_state_dict

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "teacher"
needs_shared = pytest.mark.skipif(
    not (SHARED / "featherface_v1.safetensors").is_file(),
    reason="the research data is not beside the project",
)
BGR_MEAN = torch.tensor((104.0, 117.0, 123.0)).reshape(3, 1, 1)


def test_a_key_of_another_network_is_named_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"unknown key 'layer1\.0\.conv1\.weight' among 1") as caught:
        public_v1_state_dict({"layer1.0.conv1.weight": torch.zeros(1)})
    assert "\n" not in str(caught.value)


def test_a_part_of_the_weights_is_refused() -> None:
    with pytest.raises(ModelError, match=r"entries are missing, such as 'backbone\."):
        public_v1_state_dict({"body.stage1.0.0.weight": torch.zeros(8, 3, 3, 3)})


@pytest.mark.shared
@needs_shared
def test_the_published_weights_give_the_published_outputs() -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    model = build_model("v1")
    state = safetensors.load_file(SHARED / "featherface_v1.safetensors")
    model.load_state_dict(public_v1_state_dict(state), strict=True)
    probe = np.load(SHARED / "probe_v1.npz")
    with torch.no_grad():
        outputs = model.eval()((torch.from_numpy(probe["bgr_uint8"]).float() - BGR_MEAN)[None])
    for name, output in outputs._asdict().items():
        torch.testing.assert_close(output[0], torch.from_numpy(probe[name]), rtol=0, atol=1e-4)


@pytest.mark.shared
@needs_shared
def test_a_published_weight_of_another_shape_is_refused() -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    state = safetensors.load_file(SHARED / "featherface_v1.safetensors")
    state["ClassHead.0.conv1x1.bias"] = torch.zeros(6)
    with pytest.raises(ModelError, match=r"'head\.cls\.0\.bias' has shape \(6,\), needed is \(4,\)"):
        public_v1_state_dict(state)
