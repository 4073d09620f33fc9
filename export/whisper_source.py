"""Where Whisper weights come from: three kinds of directory, told apart before anything in them is loaded."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from faster_whisper.tokenizer import Tokenizer as WhisperTokens
from tokenizers import Tokenizer

from ..errors import WeightsError

CONFIG = "config.json"
MODEL_BIN = "model.bin"
PREPROCESSOR = "preprocessor_config.json"
TOKENIZER = "tokenizer.json"

EXPECTED = (
    f"expected a CTranslate2 directory ({MODEL_BIN}), a Hugging Face directory ({CONFIG} of model_type whisper, *.safetensors or *.bin) "
    f"or an OpenAI checkpoint (*.pt), each with its {TOKENIZER}"
)
_HUGGING_FACE = ("model*.safetensors", "pytorch_model*.bin")
_CTRANSLATE2_VOCABULARY = ("vocabulary.json", "vocabulary.txt")
_LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")
_READ_BYTES = 1 << 20

Kind = Literal["ctranslate2", "hugging-face", "openai"]


@dataclass(frozen=True, slots=True)
class WhisperSource:
    """A directory that holds a Whisper model, and the kind it is."""

    path: Path
    kind: Kind
    weights: tuple[Path, ...]
    """The files with the weights, in order."""

    def sha256(self) -> str:
        """SHA-256 over the weight files, one after the other."""
        digest = hashlib.sha256()
        for weights in self.weights:
            with weights.open("rb") as file:
                while block := file.read(_READ_BYTES):
                    digest.update(block)
        return digest.hexdigest()

    def tokenizer(self) -> Tokenizer:
        """The byte-pair encoding of this Whisper.

        Raises:
            WeightsError: `tokenizer.json` cannot be read, or lacks Whisper's own tokens.
        """
        file = self.path / TOKENIZER
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the Rust library raises plain Exception
            raise WeightsError(f"{file} cannot be read: {error}") from error
        special = WhisperTokens(tokenizer, multilingual=False)
        if None in (special.sot, special.eot, special.no_timestamps, special.transcribe, special.translate):
            raise WeightsError(f"{file} is not Whisper's: it has no <|startoftranscript|>, <|endoftext|>, <|notimestamps|> or the tasks")
        return tokenizer


def whisper_source(path: Path) -> WhisperSource:
    """Tells what kind of Whisper a directory holds. No weights are loaded.

    Args:
        path: a directory, or the `.pt` file of an OpenAI checkpoint.

    Raises:
        WeightsError: it is none of the three kinds, it is a model other than Whisper, or a file is missing.
    """
    folder = path.parent if path.suffix == ".pt" and path.is_file() else path
    if not folder.is_dir():
        raise WeightsError(f"{path} is no directory: {EXPECTED}")
    source = _ctranslate2(folder) if (folder / MODEL_BIN).is_file() else _openai(folder, path) or _hugging_face(folder)
    if not (folder / TOKENIZER).is_file():
        raise WeightsError(
            f"{folder} holds no {TOKENIZER}: put the one of the same Whisper beside the weights, "
            "such as that of openai/whisper-tiny.en on the Hugging Face hub"
        )
    return source


def special_tokens(tokenizer: Tokenizer, *, multilingual: bool) -> dict[str, Any]:
    """What generating text needs to know of a tokenizer, under the names of Hugging Face's generation configuration.

    The rules are those of OpenAI's Whisper: never annotations such as (music) or [DAVID], no control token inside text, no blank first.

    Args:
        tokenizer: Whisper's.
        multilingual: whether the model knows languages other than English.
    """
    tokens = WhisperTokens(tokenizer, multilingual=False)
    control = (tokens.sot, tokens.transcribe, tokens.translate, tokens.sot_lm, tokens.sot_prev, tokens.no_speech)
    languages = {name: place for name, place in tokenizer.get_vocab().items() if _LANGUAGE.fullmatch(name)}
    return {
        "suppress_tokens": sorted({*tokens.non_speech_tokens, *(place for place in control if place is not None)}),
        "begin_suppress_tokens": [tokens.encode(" ")[0], tokens.eot],
        "lang_to_id": dict(sorted(languages.items(), key=lambda item: item[1])),
        "task_to_id": {"transcribe": tokens.transcribe, "translate": tokens.translate},
        "no_timestamps_token_id": tokens.no_timestamps,
        "prev_sot_token_id": tokens.sot_prev,
        "decoder_start_token_id": tokens.sot,
        "bos_token_id": tokens.eot,
        "eos_token_id": tokens.eot,
        "pad_token_id": tokens.eot,
        "is_multilingual": multilingual,
        "return_timestamps": False,
    }


def _ctranslate2(folder: Path) -> WhisperSource:
    if not any((folder / name).is_file() for name in _CTRANSLATE2_VOCABULARY):
        raise WeightsError(f"{folder} holds {MODEL_BIN} but no {' or '.join(_CTRANSLATE2_VOCABULARY)}: the directory is not whole")
    return WhisperSource(folder, "ctranslate2", (folder / MODEL_BIN,))


def _openai(folder: Path, path: Path) -> WhisperSource | None:
    found = [path] if path.is_file() else sorted(folder.glob("*.pt"))
    if len(found) > 1:
        raise WeightsError(f"{folder} holds {len(found)} *.pt files: give the one to convert, such as {found[0]}")
    return WhisperSource(folder, "openai", tuple(found)) if found else None


def _hugging_face(folder: Path) -> WhisperSource:
    if not (folder / CONFIG).is_file():
        raise WeightsError(f"{folder} holds no Whisper model: {EXPECTED}")
    kind = _model_type(folder / CONFIG)
    if kind != "whisper":
        raise WeightsError(f"{folder / CONFIG} is of model_type {kind!r}, expected 'whisper'")
    for pattern in _HUGGING_FACE:
        if found := sorted(folder.glob(pattern)):
            return WhisperSource(folder, "hugging-face", tuple(found))
    raise WeightsError(f"{folder} holds no weights: expected {' or '.join(_HUGGING_FACE)}")


def _model_type(config: Path) -> object:
    try:
        plain = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{config} cannot be read as JSON: {error}") from error
    return plain.get("model_type") if isinstance(plain, dict) else None
