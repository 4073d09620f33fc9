"""Whisper -> CTranslate2: a checkpoint of any kind becomes the directory that the runtime loads."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from ctranslate2.converters import TransformersConverter
from tokenizers import Tokenizer
from transformers import WhisperForConditionalGeneration

from .. import __version__
from ..errors import GateError, WeightsError
from ..runtime.whisper import WhisperWeights
from .ctranslate2_file import read_ctranslate2
from .whisper_source import MODEL_BIN, PREPROCESSOR, TOKENIZER, Kind, WhisperSource, whisper_source
from .whisper_weights import load_whisper, quiet_transformers, read_preprocessor

Compute = Literal["int8", "float16", "float32"]

RECORD = "conversion.json"
"""What was converted from what, beside the converted model."""
_VERSIONS = ("ctranslate2", "transformers", "torch")


@dataclass(frozen=True, slots=True)
class ConvertedWhisper:
    """A Whisper in CTranslate2 form, and how it came to be."""

    path: Path
    compute: Compute
    """How the weights are stored, which is also how they are best run: see docs/whisper.md."""
    sha256: str
    """Of `model.bin`; one source and one `compute` give one file."""
    bytes: int
    """Of `model.bin`."""
    weight_bytes: dict[str, int]
    """Bytes of weights by the type they are stored in, read back from the file."""
    mel_bins: int
    embedding_dim: int
    vocabulary: int
    source_kind: Kind
    source_sha256: str
    source_bytes: int
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "path": self.path.name}


def convert_whisper(source: Path, out: Path, *, compute: Compute = "int8", force: bool = False) -> ConvertedWhisper:
    """Converts a Whisper checkpoint with CTranslate2's own converter.

    Args:
        source: see `whisper_source`. A CTranslate2 directory is stored anew in another type.
        out: the directory to make, with the tokenizer and the front end's settings that faster-whisper needs; written aside and renamed
            whole.
        compute: the type the weights are stored in: `int8` (matrices and convolutions, one scale for each row; the rest float32), `float16`
            or `float32`.
        force: replace what is there.

    Raises:
        WeightsError: the source is damaged or not a Whisper, `out` exists and `force` is not given, or it cannot be written.
        GateError: CTranslate2 stored another type than was asked for.
    """
    if compute not in get_args(Compute):
        raise WeightsError(f"compute is one of {', '.join(get_args(Compute))}, got {compute!r}")
    if out.exists() and not force:
        raise WeightsError(f"{out} exists; give --force to replace it")
    found = whisper_source(source)
    _refuse_gain(found, compute)
    model, tokenizer = load_whisper(found), found.tokenizer()
    with _written_aside(out) as aside:
        _write_inputs(found, model, aside / "source")
        converter = _converter(aside / "source", model, tokenizer)
        _convert(converter, aside / "converted", compute, found)
        made = _describe(aside / "converted", out, compute, found, model)
        (aside / "converted" / RECORD).write_text(json.dumps(made.to_json(), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return made


def _converter(inputs: Path, model: WhisperForConditionalGeneration, tokenizer: Tokenizer) -> TransformersConverter:
    """CTranslate2's converter over a model that is loaded and known to be whole.

    Its own loading would fill a missing weight with random numbers and write the result as if nothing had happened.
    """
    converter = TransformersConverter(str(inputs), copy_files=[TOKENIZER, PREPROCESSOR])
    converter.load_model = lambda *_, **__: model
    converter.load_tokenizer = lambda *_, **__: tokenizer
    return converter


def _refuse_gain(source: WhisperSource, compute: Compute) -> None:
    """What was rounded to integers does not come back, and a file that says float32 would promise that it did."""
    if source.kind == "ctranslate2" and compute != "int8":
        stored = read_ctranslate2(source.weights[0]).weight_bytes()
        if {"int8", "int16"} & set(stored):
            raise WeightsError(f"{source.path} is stored in integers: {compute} would only be larger; convert the original checkpoint")


def _write_inputs(source: WhisperSource, model: WhisperForConditionalGeneration, folder: Path) -> None:
    folder.mkdir()
    model.config.save_pretrained(str(folder))
    shutil.copyfile(source.path / TOKENIZER, folder / TOKENIZER)
    settings = read_preprocessor(source, model.config.num_mel_bins)
    (folder / PREPROCESSOR).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _convert(converter: TransformersConverter, out: Path, compute: Compute, source: WhisperSource) -> None:
    try:
        with quiet_transformers():
            converter.convert(str(out), quantization=compute)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise WeightsError(f"CTranslate2 cannot convert {source.path}: {error}") from error


def _describe(
    converted: Path, out: Path, compute: Compute, source: WhisperSource, model: WhisperForConditionalGeneration
) -> ConvertedWhisper:
    file = read_ctranslate2(converted / MODEL_BIN)
    if file.matrix_types() != {compute}:
        raise GateError(f"asked CTranslate2 to store {compute}, and it stored matrices of {source.path} in {sorted(file.matrix_types())}")
    return ConvertedWhisper(
        path=out,
        compute=compute,
        sha256=WhisperWeights(converted, "converted").sha256(),
        bytes=(converted / MODEL_BIN).stat().st_size,
        weight_bytes=file.weight_bytes(),
        mel_bins=model.config.num_mel_bins,
        embedding_dim=model.config.d_model,
        vocabulary=model.config.vocab_size,
        source_kind=source.kind,
        source_sha256=source.sha256(),
        source_bytes=sum(file.stat().st_size for file in source.weights),
        versions={"shortcast": __version__, **{name: version(name) for name in _VERSIONS}},
    )


@contextmanager
def _written_aside(out: Path) -> Iterator[Path]:
    """A scratch directory beside `out`; what is in its `converted` takes the place of `out`, and the rest vanishes, however it ends."""
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".part", dir=out.absolute().parent) as folder:
            aside = Path(folder)
            yield aside
            if out.exists():
                out.rename(aside / "old")
            (aside / "converted").rename(out)
    except OSError as error:
        raise WeightsError(f"{out} cannot be written: {error}") from error
