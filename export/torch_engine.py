"""The PyTorch models as engines: the reference that every other backend is compared with and measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import EngineError
from ..models.convlstm import ConvLSTMEncoder, EncoderConfig
from ..models.dual_transformer import DualTransformer, FusionConfig
from ..runtime.engines import Tensors, TensorSpec, check_feeds

Call = Callable[[nn.Module, Sequence[Tensor]], Sequence[Tensor]]
"""A module and the tensors of its inputs, in order -> the tensors of its outputs, in order."""


class TorchEngine:
    """One PyTorch module in float32. It keeps a copy, so later training does not change it."""

    def __init__(
        self, module: nn.Module, call: Call, *, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], device: str = "cpu"
    ) -> None:
        """Copies the module to the device, in evaluation mode.

        Args:
            module: the model.
            call: how inputs in order become outputs in order.
            inputs: names, types and shapes of the inputs.
            outputs: names, types and shapes of the outputs.
            device: `cpu` or `cuda`.

        Raises:
            EngineError: the device is not there.
        """
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise EngineError("asked PyTorch for cuda, and it finds no CUDA device; run `shortcast doctor`, or use --device cpu")
        self.inputs = inputs
        self.outputs = outputs
        self._call = call
        self._device = torch.device(device)
        self._module: nn.Module | None = deepcopy(module).eval().to(self._device)

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> Tensors:
        """Runs the module once; see `Engine.run`."""
        if self._module is None:
            raise EngineError("the engine is closed")
        check_feeds(self.inputs, feeds)
        tensors = [torch.from_numpy(np.array(feeds[spec.name], order="C")).to(self._device) for spec in self.inputs]
        try:
            # cuDNN would round convolutions to TF32, and a reference has to be float32 throughout.
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                values = [tensor.cpu().numpy() for tensor in self._call(self._module, tensors)]
        except RuntimeError as error:
            raise EngineError(f"PyTorch failed: {error}") from error
        return dict(zip([spec.name for spec in self.outputs], values, strict=True))

    def close(self) -> None:
        """Lets go of the copy; the engine can't run afterwards."""
        self._module = None

    def __enter__(self) -> TorchEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def visual_engine(encoder: ConvLSTMEncoder, *, device: str = "cpu") -> TorchEngine:
    """The reference of the graph `visual`."""
    inputs, outputs = visual_specs(encoder.config)
    return TorchEngine(encoder, call_visual, inputs=inputs, outputs=outputs, device=device)


def fusion_engine(fusion: DualTransformer, *, device: str = "cpu") -> TorchEngine:
    """The reference of the graph `fusion`."""
    inputs, outputs = fusion_specs(fusion.config)
    return TorchEngine(fusion, call_fusion, inputs=inputs, outputs=outputs, device=device)


def visual_specs(config: EncoderConfig) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of the graph `visual`: only the batch varies; h0 and c0 are the first layer's state, and so on."""
    sizes = [(f"{kind}{layer}", channels) for layer, channels in enumerate(config.hidden_channels) for kind in "hc"]
    state = [TensorSpec(name, "float32", ("batch", channels, *config.grid)) for name, channels in sizes]
    pictures = ("batch", config.frames_per_chunk, config.height, config.width, 3)
    inputs = (TensorSpec("frames", "uint8", pictures), TensorSpec("frame_mask", "float32", pictures[:2]), *state)
    outputs = (TensorSpec("embedding", "float32", ("batch", config.embedding_dim)), *(_out(spec) for spec in state))
    return inputs, outputs


def fusion_specs(config: FusionConfig) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of the graph `fusion`: batch and chunks vary."""
    inputs = {
        "visual": (config.visual_dim,),
        "audio": (config.audio_dim,),
        "visual_mask": (),
        "audio_mask": (),
        "chunk_mask": (),
    }
    outputs: dict[str, tuple[int | str, ...]] = {
        "score": (),
        "head_scores": (3,),
        "quantiles": (len(config.quantile_levels),),
        "class_logits": (config.classes,),
        "chunk_weights": ("chunks",),
    }
    return _per_chunk(inputs), _per_chunk(outputs)


def _out(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(f"{spec.name}_out", spec.dtype, spec.shape)


def _per_chunk(rest: Mapping[str, tuple[int | str, ...]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, "float32", ("batch", "chunks", *shape)) for name, shape in rest.items())


def call_visual(module: nn.Module, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    embedding, state = module(tensors[0], tensors[1], tuple(tensors[2:]))
    return embedding, *state


def call_fusion(module: nn.Module, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    return tuple(module(*tensors))
