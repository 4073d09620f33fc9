"""Options that several commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .terminal import say

if TYPE_CHECKING:
    from .runtime.bundle import Bundle
    from .runtime.engine_choice import EngineChoice


class Backend(str, Enum):
    """Engine backends."""

    auto = "auto"
    onnxruntime = "onnxruntime"
    tensorrt = "tensorrt"

    @property
    def engine(self) -> str:
        """The name `open_engine` knows; auto is ONNX Runtime, which is everywhere."""
        return "onnxruntime" if self is Backend.auto else self.value


class Precision(str, Enum):
    """What the graphs compute in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


class Device(str, Enum):
    """Where engines run."""

    cpu = "cpu"
    cuda = "cuda"


class WhisperCompute(str, Enum):
    """CTranslate2's types of computation that were asked for so far."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"
    int8_float32 = "int8_float32"
    int8_float16 = "int8_float16"


EngineOption = Annotated[
    Backend,
    typer.Option(
        "--engine",
        help="Engine backend; what is asked for is used, or it is an error. auto: TensorRT where the bundle has an engine for this GPU.",
    ),
]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="Which of the bundle's variants to run.")]
DeviceOption = Annotated[
    Device | None,
    typer.Option("--device", help="Where the engines run; never falls back.", show_default="cpu; cuda for tensorrt"),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
WhisperOption = Annotated[
    Path | None, typer.Option("--whisper", help="Directory with the Whisper weights in CTranslate2 form.", show_default="looked for")
]
WhisperComputeOption = Annotated[
    WhisperCompute | None,
    typer.Option(
        "--whisper-compute",
        help="What Whisper computes in, such as float16 on a GPU; nothing else is used.",
        show_default="as the bundle says",
    ),
]
SignerOption = Annotated[
    Path | None,
    typer.Option("--require-signed-by", metavar="KEY", help="Refuse a bundle this Ed25519 public key did not sign.", show_default=False),
]


def chosen_engine(bundle: Bundle, engine: Backend, precision: Precision, device: Device | None) -> EngineChoice:
    """The backend and device to use; what `auto` took is said on stderr where it had a choice."""
    from .runtime.engine_choice import choose_engine

    if engine is Backend.tensorrt and device is Device.cpu:
        raise typer.BadParameter("--engine tensorrt runs on the GPU; leave out --device cpu", param_hint="--device")
    choice = choose_engine(bundle, engine=engine.value, precision=precision.value, device=device.value if device else None)
    if choice.reason:
        say(choice.reason)
    return choice
