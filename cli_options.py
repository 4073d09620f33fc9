"""Options that several commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Backend(str, Enum):
    """Engine backends."""

    auto = "auto"
    onnxruntime = "onnxruntime"

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


EngineOption = Annotated[Backend, typer.Option("--engine", help="Engine backend; what is asked for is used, or it is an error.")]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="Which of the bundle's variants to run.")]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where the engines run; never falls back.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
WhisperOption = Annotated[
    Path | None, typer.Option("--whisper", help="Directory with the Whisper weights in CTranslate2 form.", show_default="looked for")
]
SignerOption = Annotated[
    Path | None,
    typer.Option("--require-signed-by", metavar="KEY", help="Refuse a bundle this Ed25519 public key did not sign.", show_default=False),
]
