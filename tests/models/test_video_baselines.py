"""The video baselines: one input for all, sizes as stated, and frames that are masked do not exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from shortcast.errors import CheckpointError
from shortcast.models.video_baselines import VIDEO_NETWORKS, VideoConfig, VideoRegressor, evenly, letterbox, sample_frames

SMALL = VideoConfig("small3d", frames=4, height=24, width=24)
TINY_INPUT = {
    "small3d": SMALL,
    "r3d_18": VideoConfig("r3d_18", frames=4, height=24, width=24),
    "swin3d_t": VideoConfig("swin3d_t", frames=4, height=32, width=32),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def new_model(config: VideoConfig = SMALL, *, weights: Path | None = None, seed: int = 0) -> VideoRegressor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VideoRegressor(config, weights=weights)


@pytest.fixture(scope="module", params=VIDEO_NETWORKS)
def model(request: pytest.FixtureRequest) -> VideoRegressor:
    return new_model(TINY_INPUT[request.param])


def made_frames(batch: int, frames: int = 10, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (batch, frames, 40, 24, 3), dtype=torch.uint8, generator=generator)


def test_one_score_for_a_clip_and_finite_gradients(model: VideoRegressor) -> None:
    model.train()
    scores = model(made_frames(2), torch.ones(2, 10))
    assert scores.shape == (2,)
    assert scores.dtype == torch.float32
    scores.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert any(parameter.grad.abs().max() > 0 for parameter in model.parameters() if parameter.grad is not None)
    model.zero_grad(set_to_none=True)


def test_masked_frames_never_change_the_output_and_real_ones_do(model: VideoRegressor) -> None:
    model.eval()
    frames, mask = made_frames(2), torch.ones(2, 10)
    mask[0, [0, 3, 9]] = 0
    mask[1] = 0  # a clip without one real frame
    others = torch.where(mask[:, :, None, None, None] > 0, frames, 255 - frames)
    with torch.no_grad():
        before, after = model(frames, mask), model(others, mask)
        changed = model(255 - frames, mask)
    assert torch.isfinite(before).all()
    assert torch.equal(before, after)
    assert changed[0] != before[0]


def test_a_score_does_not_depend_on_the_clips_beside_it(model: VideoRegressor) -> None:
    model.eval()
    frames, mask = made_frames(3), torch.ones(3, 10)
    with torch.no_grad():
        torch.testing.assert_close(model(frames[:1], mask[:1]), model(frames, mask)[:1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("network", "torchvision_with_400_classes", "features"), [("r3d_18", 33_371_472, 512), ("swin3d_t", 28_158_070, 768)]
)
def test_torchvisions_networks_are_whole_but_for_the_head(network: str, torchvision_with_400_classes: int, features: int) -> None:
    with torch.device("meta"):
        model = VideoRegressor(VideoConfig(network))
    found = sum(parameter.numel() for parameter in model.parameters())
    assert found == torchvision_with_400_classes - (features + 1) * 400 + (features + 1)


def test_the_small_network_costs_what_is_stated() -> None:
    model = new_model(VideoConfig("small3d"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 292_209
    frames = torch.zeros(1, 16, 160, 96, 3, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(frames, torch.ones(1, 16))
    assert round(counter.get_total_flops() / 1e6) == 434


@pytest.mark.parametrize(
    ("mask", "count", "at", "expected"),
    [
        ([1] * 8, 4, 0.5, [1, 3, 5, 7]),
        ([1] * 8, 4, 0.0, [0, 2, 4, 6]),
        ([0, 1, 1, 0, 1, 1], 4, 0.5, [1, 2, 4, 5]),
        ([0, 1, 0, 1], 4, 0.5, [1, 1, 3, 3]),
        ([1] * 4, 4, 0.999, [0, 1, 2, 3]),
        ([0, 0, 0], 2, 0.5, [0, 0]),
    ],
)
def test_frames_are_taken_evenly_from_the_real_ones(mask: list[int], count: int, at: float, expected: list[int]) -> None:
    np.testing.assert_array_equal(evenly(np.array(mask, dtype=bool), count, at=at), expected)


def test_every_clip_is_sampled_by_its_own_mask() -> None:
    frames = torch.arange(12, dtype=torch.uint8).reshape(2, 6, 1, 1, 1).expand(2, 6, 1, 1, 3)
    mask = torch.tensor([[1.0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0]])
    assert sample_frames(frames, mask, 2)[..., 0].flatten(1).tolist() == [[1, 4], [8, 9]]


def test_a_picture_is_letterboxed_whole() -> None:
    boxed = letterbox(torch.ones(1, 3, 160, 96), 112, 112)
    assert boxed.shape == (1, 3, 112, 112)
    seen = boxed[0, 0].mean(dim=0)
    assert seen[:22].abs().max() == seen[89:].abs().max() == 0
    torch.testing.assert_close(seen[22:89], torch.ones(67))
    torch.testing.assert_close(letterbox(torch.ones(1, 3, 24, 24), 24, 24), torch.ones(1, 3, 24, 24))


def test_local_weights_are_taken_but_for_the_head(tmp_path: Path) -> None:
    saved = new_model(seed=1)
    tensors = {name: tensor.clone() for name, tensor in saved.backbone.state_dict().items() if not name.startswith("head.")}
    save_file(tensors | {"head.weight": torch.zeros(400, 128), "head.bias": torch.zeros(400)}, tmp_path / "weights.safetensors")
    fresh, loaded = new_model(seed=2), new_model(seed=2, weights=tmp_path / "weights.safetensors")
    for name, tensor in loaded.backbone.state_dict().items():
        expected = fresh if name.startswith("head.") else saved
        assert torch.equal(tensor, expected.backbone.state_dict()[name]), name


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file({"0.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    for name, message in (("other", "not those of this network"), ("text", "cannot be read"), ("absent", "cannot be read")):
        with pytest.raises(CheckpointError, match=message):
            new_model(weights=tmp_path / f"{name}.safetensors")


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(CheckpointError, match="r3d_18"):
        VideoConfig("i3d")
    with pytest.raises(CheckpointError, match="at least 1"):
        VideoConfig(frames=0)
