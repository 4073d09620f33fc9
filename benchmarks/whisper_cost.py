"""What the Whisper encoder must compute and move for one chunk's window, from its dimensions: CTranslate2's file is no ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import EngineError
from ..runtime.contract import ENCODER_FRAME_SAMPLES, SAMPLE_RATE_HZ, Contract
from .results import GraphCost

_LAYERS_AND_STATE = {
    "tiny": (4, 384),
    "base": (6, 512),
    "small": (12, 768),
    "medium": (24, 1024),
    "large": (32, 1280),
    "turbo": (32, 1280),
}
"""Encoder layers and width of each size, from the table of the Whisper paper (Radford et al. 2022, arXiv 2212.04356)."""
_HEAD = 64
"""Width of one attention head, in every size."""


@dataclass(frozen=True, slots=True)
class EncoderDims:
    """An encoder: two convolutions, then layers of self-attention and a four times wider hidden layer."""

    layers: int
    state: int
    mel_bins: int
    positions: int = 1500

    @classmethod
    def of(cls, model: str, *, mel_bins: int, state: int) -> EncoderDims:
        """The encoder of a named size.

        Raises:
            EngineError: the size is unknown, or has another width than the contract says.
        """
        size = model.split("-")[-1].split(".")[0] if model.endswith("turbo") else model.split("-")[0].split(".")[0]
        layers, width = _LAYERS_AND_STATE.get(size, (0, 0))
        if width != state:
            raise EngineError(f"the dimensions of the Whisper encoder {model} with width {state} are not known, so it cannot be counted")
        return cls(layers, width, mel_bins)

    @property
    def parameters(self) -> int:
        """Weights and biases, positions included; the keys' projection has no bias."""
        d = self.state
        layer = 4 * d * d + 3 * d + 8 * d * d + 5 * d + 4 * d
        return 3 * self.mel_bins * d + d + 3 * d * d + d + self.positions * d + self.layers * layer + 2 * d

    def product_flops(self, frames: int) -> int:
        """Of convolutions and matrix products, for a window of so many encoder frames (each two mel frames)."""
        d, mel_frames = self.state, 2 * frames
        convolutions = 2 * (3 * self.mel_bins * d * mel_frames + 3 * d * d * frames)
        projections, attention, hidden = 4 * d * d * frames, 2 * d * frames * frames, 8 * d * d * frames
        return convolutions + 2 * self.layers * (projections + attention + hidden)

    def flops(self, frames: int) -> int:
        """All, counted as `graph_cost` counts ONNX graphs: biases, GELU (4), norms (8), softmax (5), residuals."""
        d, heads = self.state, self.state // _HEAD
        convolutions = 5 * d * 3 * frames + d * frames
        layer = frames * (16 * d + 4 * d + 20 * d + d + 2 * d) + heads * frames * frames * (5 + 1)
        return self.product_flops(frames) + convolutions + self.layers * layer + 8 * d * frames

    def activations(self, frames: int) -> int:
        """Values read and written, were nothing fused but bias and product."""
        d, heads = self.state, self.state // _HEAD
        convolutions = 2 * frames * (self.mel_bins + 3 * d) + frames * (5 * d)
        layer = frames * (2 * d + 4 * 2 * d + 5 * d + 8 * d + 2 * d + 18 * d + 3 * d) + 4 * heads * frames * frames
        return convolutions + self.layers * layer + 2 * d * frames


def sound_cost(contract: Contract) -> tuple[GraphCost, GraphCost]:
    """The encoder for one chunk with float32 weights, and with int8 ones.

    CTranslate2's int8 keeps convolutions, positions, biases and norms in float32, and every value between products.

    Raises:
        EngineError: the size of Whisper is not known.
    """
    sound = contract.sound
    dims = EncoderDims.of(sound.whisper, mel_bins=sound.mel_bins, state=sound.embedding_dim)
    frames = (contract.samples_per_chunk + round(sound.tail_silence_s * SAMPLE_RATE_HZ)) // ENCODER_FRAME_SAMPLES
    io_bytes = 4 * (2 * frames * dims.mel_bins + frames * dims.state)
    matrices = dims.layers * 12 * dims.state**2
    activation_bytes = 4 * (dims.activations(frames) + dims.parameters)
    return (
        GraphCost("sound", "fp32", dims.flops(frames), 4 * dims.parameters, activation_bytes, io_bytes),
        GraphCost("sound", "int8", dims.flops(frames), 4 * dims.parameters - 3 * matrices, activation_bytes - 3 * matrices, io_bytes),
    )
