import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shortcast.errors import CheckpointError
from shortcast.models.convlstm import ConvLSTMCell, ConvLSTMEncoder, EncoderConfig

SMALL = EncoderConfig(
    frames_per_chunk=4, height=32, width=24, stem_channels=(8, 12), hidden_channels=(6, 5), pool_grid=(4, 3), embedding_dim=10
)


@pytest.fixture
def encoder() -> ConvLSTMEncoder:
    torch.manual_seed(0)
    return ConvLSTMEncoder(SMALL).eval()


def pictures(batch: int, steps: int, *, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, steps, SMALL.height, SMALL.width, 3), dtype=torch.uint8, generator=generator)


def macs_per_call(module: nn.Module, *inputs: object) -> int:
    """Multiply-accumulates of all convolutions and linear layers, counted while the module runs."""
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        weights = layer.weight[0].numel()
        total += weights * output.numel()

    handles = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    module(*inputs)
    for handle in handles:
        handle.remove()
    return total


def test_the_default_encoder_stays_inside_its_budget() -> None:
    encoder = ConvLSTMEncoder()
    frames, mask = torch.zeros(1, 16, 160, 96, 3, dtype=torch.uint8), torch.ones(1, 16)
    with torch.no_grad():
        mflop_per_frame = 2 * macs_per_call(encoder, frames, mask, encoder.initial_state()) / 16 / 1e6
    assert sum(p.numel() for p in encoder.parameters()) <= 1_000_000
    assert 50 < mflop_per_frame <= 150


def test_the_counter_counts_a_known_convolution() -> None:
    assert macs_per_call(nn.Conv2d(2, 3, 3, padding=1), torch.zeros(1, 2, 4, 5)) == 2 * 3 * 9 * 4 * 5


def test_the_cell_follows_the_equations_of_shi_2015_without_peepholes() -> None:
    cell = ConvLSTMCell(3, 4)
    x, h, c = torch.randn(2, 3, 6, 5), torch.randn(2, 4, 6, 5), torch.randn(2, 4, 6, 5)
    weight, bias = cell.gates.weight.chunk(4), cell.gates.bias.chunk(4)

    def gate(k: int) -> Tensor:
        return F.conv2d(x, weight[k][:, :3], padding=1) + F.conv2d(h, weight[k][:, 3:], bias[k], padding=1)

    c_expected = gate(1).sigmoid() * c + gate(0).sigmoid() * gate(3).tanh()
    h_expected = gate(2).sigmoid() * c_expected.tanh()
    h_new, c_new = cell(x, h, c)
    torch.testing.assert_close(h_new, h_expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(c_new, c_expected, atol=1e-5, rtol=0)


def test_the_forget_gate_starts_open_and_the_other_biases_at_zero() -> None:
    bias = ConvLSTMCell(3, 4).gates.bias.detach().reshape(4, 4)
    assert bias[1].eq(1).all()
    assert bias[[0, 2, 3]].eq(0).all()


def test_outputs_have_the_configured_shapes(encoder: ConvLSTMEncoder) -> None:
    embedding, state = encoder(pictures(3, 4), torch.ones(3, 4), encoder.initial_state(3))
    assert embedding.shape == (3, 10)
    assert [tuple(s.shape) for s in state] == [(3, 6, 8, 6), (3, 6, 8, 6), (3, 5, 8, 6), (3, 5, 8, 6)]


@torch.no_grad()
def test_a_stream_of_chunks_ends_in_the_state_of_one_long_chunk(encoder: ConvLSTMEncoder) -> None:
    frames, mask = pictures(2, 12), torch.ones(2, 12)
    mask[0, 10:] = 0
    _, whole = encoder(frames, mask, encoder.initial_state(2))
    state = encoder.initial_state(2)
    for start in range(0, 12, 4):
        _, state = encoder(frames[:, start : start + 4], mask[:, start : start + 4], state)
    for a, b in zip(whole, state, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_embedding_depends_on_the_carried_state(encoder: ConvLSTMEncoder) -> None:
    mask = torch.ones(1, 4)
    _, state = encoder(pictures(1, 4, seed=2), mask, encoder.initial_state())
    fresh, _ = encoder(pictures(1, 4), mask, encoder.initial_state())
    carried, _ = encoder(pictures(1, 4), mask, state)
    assert (fresh - carried).abs().max() > 1e-4


@torch.no_grad()
def test_a_masked_step_leaves_the_state_and_its_pixels_never_matter(encoder: ConvLSTMEncoder) -> None:
    frames, mask = pictures(1, 4), torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    short, short_state = encoder(frames[:, :2], mask[:, :2], encoder.initial_state())
    for pad in (0, 255):
        frames[:, 2:] = pad
        embedding, state = encoder(frames, mask, encoder.initial_state())
        torch.testing.assert_close(embedding, short, atol=1e-6, rtol=0)
        for a, b in zip(state, short_state, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_chunk_without_pictures_returns_its_state_bit_for_bit_and_a_finite_embedding(encoder: ConvLSTMEncoder) -> None:
    _, state = encoder(pictures(2, 4), torch.ones(2, 4), encoder.initial_state(2))
    embedding, after = encoder(pictures(2, 4, seed=3), torch.zeros(2, 4), state)
    assert embedding.isfinite().all()
    assert all(torch.equal(a, b) for a, b in zip(state, after, strict=True))


@torch.no_grad()
def test_a_row_of_a_batch_equals_a_batch_of_one(encoder: ConvLSTMEncoder) -> None:
    frames, mask = pictures(3, 4), torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    state = tuple(torch.randn_like(s) * 0.1 for s in encoder.initial_state(3))
    embedding, after = encoder(frames, mask, state)
    for i in range(3):
        alone, alone_after = encoder(frames[i : i + 1], mask[i : i + 1], tuple(s[i : i + 1] for s in state))
        torch.testing.assert_close(embedding[i : i + 1], alone, atol=1e-6, rtol=0)
        for a, b in zip(after, alone_after, strict=True):
            torch.testing.assert_close(a[i : i + 1], b, atol=1e-6, rtol=0)


@torch.no_grad()
def test_motion_reaches_the_embedding_head(encoder: ConvLSTMEncoder) -> None:
    """In a stream that has settled on one picture, holding it moves the change features far less than flickering does."""
    a, b = pictures(1, 1, seed=4), torch.zeros_like(pictures(1, 1))
    _, settled = encoder(a.expand(-1, 20, -1, -1, -1), torch.ones(1, 20), encoder.initial_state())
    seen: list[Tensor] = []
    handle = encoder.head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    for frames in (torch.cat((a, a, a, a), dim=1), torch.cat((a, b, b, a), dim=1)):
        encoder(frames, torch.ones(1, 4), settled)
    handle.remove()
    still, flicker = (x[:, 2 * 5 * 4 * 3 :] for x in seen)
    assert flicker.mean() > 5 * still.mean()


@pytest.mark.parametrize(
    "override", [{"height": 33}, {"width": 26}, {"pool_grid": (3, 3)}, {"pool_grid": (4, 4)}], ids=lambda override: str(override)
)
def test_dimensions_that_do_not_divide_are_refused(override: dict[str, object]) -> None:
    fields = {"height": 32, "width": 24, "stem_channels": (8, 12), "pool_grid": (4, 3)}
    with pytest.raises(CheckpointError, match="divide"):
        EncoderConfig(**{**fields, **override})


def stored_bytes(encoder: ConvLSTMEncoder) -> int:
    """Bytes that one chunk's forward pass keeps for its backward pass, parameters aside."""
    parameters = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    stored: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = encoder(pictures(2, 8), torch.ones(2, 8), encoder.initial_state(2))
    assert output[0].requires_grad
    return sum(stored.values())


def gradients(encoder: ConvLSTMEncoder) -> list[Tensor]:
    mask = torch.ones(2, 8)
    mask[1, 5:] = 0
    embedding, state = encoder(pictures(2, 8), mask, encoder.initial_state(2))
    return list(torch.autograd.grad(embedding.square().sum() + state[-1].square().sum(), list(encoder.parameters())))


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_gradient_checkpointing_gives_the_same_gradients_from_fewer_bytes(encoder: ConvLSTMEncoder, steps: int) -> None:
    encoder.train()
    plain, plain_bytes = gradients(encoder), stored_bytes(encoder)
    encoder.checkpoint_steps = steps
    for found, expected in zip(gradients(encoder), plain, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert stored_bytes(encoder) < 0.4 * plain_bytes


def test_gradient_checkpointing_is_only_for_training(encoder: ConvLSTMEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("checkpointed")

    monkeypatch.setattr("shortcast.models.convlstm.checkpoint", fail)
    encoder.checkpoint_steps = 2
    inputs = (pictures(1, 4), torch.ones(1, 4), encoder.initial_state())
    encoder.eval()(*inputs)
    with torch.no_grad():
        encoder.train()(*inputs)
    with pytest.raises(AssertionError, match="checkpointed"):
        encoder(*inputs)


def test_under_autocast_the_state_stays_float32(encoder: ConvLSTMEncoder) -> None:
    inputs = (pictures(2, 4), torch.ones(2, 4), encoder.initial_state(2))
    expected, _ = encoder(*inputs)
    dtypes: list[torch.dtype] = []
    for cell in encoder.cells:
        cell.gates.register_forward_hook(lambda _, __, output: dtypes.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding, state = encoder(*inputs)
    assert set(dtypes) == {torch.bfloat16}
    assert {tensor.dtype for tensor in state} == {torch.float32}
    torch.testing.assert_close(embedding.float(), expected, atol=0.05, rtol=0.05)
