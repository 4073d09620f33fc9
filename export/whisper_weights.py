"""Whisper weights of any kind as the PyTorch model of Hugging Face's transformers, in float32."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.utils import logging

from ..errors import WeightsError
from .ctranslate2_file import CTranslate2File, read_ctranslate2
from .whisper_source import WhisperSource, special_tokens

_MULTILINGUAL_FROM = 51_865
"""Entries in the vocabulary from which on OpenAI's Whisper is multilingual; the English-only one has 51,864."""
_REVISION = 3
"""Of CTranslate2's `WhisperSpec`, the one whose variables are named below."""

# OpenAI's names and transformers', longest first where one holds another.
_OPENAI_NAMES = (
    ("token_embedding", "embed_tokens"),
    ("positional_embedding", "embed_positions.weight"),
    ("blocks", "layers"),
    ("cross_attn_ln", "encoder_attn_layer_norm"),
    ("attn_ln", "self_attn_layer_norm"),
    ("cross_attn.", "encoder_attn."),
    (".attn.", ".self_attn."),
    ("query", "q_proj"),
    ("key", "k_proj"),
    ("value", "v_proj"),
    ("_attn.out", "_attn.out_proj"),
    ("mlp_ln", "final_layer_norm"),
    ("mlp.0", "fc1"),
    ("mlp.2", "fc2"),
    ("ln_post", "layer_norm"),
    ("decoder.ln.", "decoder.layer_norm."),
)


def load_whisper(source: WhisperSource) -> WhisperForConditionalGeneration:
    """Loads a source of any kind. Nothing in it is run: pickles are read with `weights_only`.

    Args:
        source: what `whisper_source` gave.

    Returns:
        The model in float32, on the CPU, in evaluation mode; its generation configuration knows the tokenizer's own tokens.

    Raises:
        WeightsError: a file is damaged, holds something other than tensors, or lacks weights of the model.
    """
    tokenizer = source.tokenizer()
    with quiet_transformers():
        model: Any = _LOADERS[source.kind](source)
        model.float().eval()
    wanted = special_tokens(tokenizer, multilingual=model.config.vocab_size >= _MULTILINGUAL_FROM)
    wanted["max_length"] = model.config.max_target_positions
    for name, value in wanted.items():
        # The other kinds bring no such configuration, and transformers' own is that of the English model.
        if source.kind != "hugging-face" or getattr(model.generation_config, name, None) is None:
            setattr(model.generation_config, name, value)
    return cast(WhisperForConditionalGeneration, model)


def _from_hugging_face(source: WhisperSource) -> WhisperForConditionalGeneration:
    load: Callable[..., Any] = WhisperForConditionalGeneration.from_pretrained
    try:
        model, found = load(str(source.path), local_files_only=True, output_loading_info=True)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{source.path} does not load as a Whisper model: {_first_line(error)}") from error
    # transformers fills what is missing with random numbers and goes on.
    if missing := sorted(found["missing_keys"]):
        raise WeightsError(f"{source.path} lacks {len(missing)} weights of its model, {missing[0]} for one: the checkpoint is not whole")
    return cast(WhisperForConditionalGeneration, model)


def _from_openai(source: WhisperSource) -> WhisperForConditionalGeneration:
    (file,) = source.weights
    try:
        # weights_only refuses every pickle that would call anything but the rebuilding of tensors.
        plain = torch.load(file, map_location="cpu", weights_only=True)
        dims, tensors = dict(plain["dims"]), dict(plain["model_state_dict"])
        config = _openai_config(dims)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{file} is no OpenAI Whisper checkpoint of dims and model_state_dict alone: {_first_line(error)}") from error
    named = {_hugging_face_name(name): tensor.float() for name, tensor in tensors.items()}
    return _assembled(config, {f"model.{name}": tensor for name, tensor in named.items()}, file)


def _openai_config(dims: Mapping[str, int]) -> WhisperConfig:
    return WhisperConfig(
        num_mel_bins=dims["n_mels"],
        vocab_size=dims["n_vocab"],
        d_model=dims["n_audio_state"],
        max_source_positions=dims["n_audio_ctx"],
        max_target_positions=dims["n_text_ctx"],
        encoder_layers=dims["n_audio_layer"],
        encoder_attention_heads=dims["n_audio_head"],
        encoder_ffn_dim=4 * dims["n_audio_state"],
        decoder_layers=dims["n_text_layer"],
        decoder_attention_heads=dims["n_text_head"],
        decoder_ffn_dim=4 * dims["n_text_state"],
        pad_token_id=None,
    )


def _hugging_face_name(name: str) -> str:
    for theirs, ours in _OPENAI_NAMES:
        name = name.replace(theirs, ours)
    return name


def _from_ctranslate2(source: WhisperSource) -> WhisperForConditionalGeneration:
    (path,) = source.weights
    file = read_ctranslate2(path)
    if (file.spec, file.revision) != ("WhisperSpec", _REVISION):
        raise WeightsError(f"{path} is a {file.spec} of revision {file.revision}, expected a WhisperSpec of revision {_REVISION}")
    if file.aliases.get("decoder/projection/weight") != "decoder/embeddings/weight":
        raise WeightsError(f"{path} has an output layer that is not its embedding: expected Whisper's tied weights")
    tensors = {f"model.{name}": torch.from_numpy(np.array(values, order="C")) for name, values in _ctranslate2_arrays(file)}
    return _assembled(_ctranslate2_config(file), tensors, path)


def _ctranslate2_config(file: CTranslate2File) -> WhisperConfig:
    embeddings, positions = file.float32("decoder/embeddings/weight"), file.float32("decoder/position_encodings/encodings")
    return WhisperConfig(
        num_mel_bins=file.float32("encoder/conv1/weight").shape[1],
        vocab_size=embeddings.shape[0],
        d_model=embeddings.shape[1],
        max_source_positions=file.float32("encoder/position_encodings/encodings").shape[0],
        max_target_positions=positions.shape[0],
        encoder_layers=_layers(file, "encoder"),
        encoder_attention_heads=file.integer("encoder/num_heads"),
        encoder_ffn_dim=file.float32("encoder/layer_0/ffn/linear_0/bias").size,
        decoder_layers=_layers(file, "decoder"),
        decoder_attention_heads=file.integer("decoder/num_heads"),
        decoder_ffn_dim=file.float32("decoder/layer_0/ffn/linear_0/bias").size,
        pad_token_id=None,
    )


def _layers(file: CTranslate2File, side: str) -> int:
    return len({name.split("/")[1] for name in file.variables if name.startswith(f"{side}/layer_") and name.split("/")[1] != "layer_norm"})


def _ctranslate2_arrays(file: CTranslate2File) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    yield from _parts(file, "encoder/conv1", ["encoder.conv1"])
    yield from _parts(file, "encoder/conv2", ["encoder.conv2"])
    yield "decoder.embed_tokens.weight", file.float32("decoder/embeddings/weight")
    for side in ("encoder", "decoder"):
        yield f"{side}.embed_positions.weight", file.float32(f"{side}/position_encodings/encodings")
        yield from _norm(file, f"{side}/layer_norm", f"{side}.layer_norm")
        for layer in range(_layers(file, side)):
            yield from _layer(file, f"{side}/layer_{layer}", f"{side}.layers.{layer}")


def _layer(file: CTranslate2File, theirs: str, ours: str) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Attention of one source fuses queries, keys and values into one matrix; of two, keys and values."""
    own = f"{ours}.self_attn"
    yield from _norm(file, f"{theirs}/self_attention/layer_norm", f"{own}_layer_norm")
    yield from _parts(file, f"{theirs}/self_attention/linear_0", [f"{own}.q_proj", f"{own}.k_proj", f"{own}.v_proj"])
    yield from _parts(file, f"{theirs}/self_attention/linear_1", [f"{own}.out_proj"])
    if ours.startswith("decoder"):
        cross = f"{ours}.encoder_attn"
        yield from _norm(file, f"{theirs}/attention/layer_norm", f"{cross}_layer_norm")
        yield from _parts(file, f"{theirs}/attention/linear_0", [f"{cross}.q_proj"])
        yield from _parts(file, f"{theirs}/attention/linear_1", [f"{cross}.k_proj", f"{cross}.v_proj"])
        yield from _parts(file, f"{theirs}/attention/linear_2", [f"{cross}.out_proj"])
    yield from _norm(file, f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
    yield from _parts(file, f"{theirs}/ffn/linear_0", [f"{ours}.fc1"])
    yield from _parts(file, f"{theirs}/ffn/linear_1", [f"{ours}.fc2"])


def _parts(file: CTranslate2File, theirs: str, ours: list[str]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Whisper's keys have no bias; CTranslate2 stores zeros where it fuses them with what has one."""
    for kind in ("weight", "bias"):
        for name, values in zip(ours, np.split(file.float32(f"{theirs}/{kind}"), len(ours)), strict=True):
            if not (kind == "bias" and name.endswith("k_proj")):
                yield f"{name}.{kind}", values


def _norm(file: CTranslate2File, theirs: str, ours: str) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    yield f"{ours}.weight", file.float32(f"{theirs}/gamma")
    yield f"{ours}.bias", file.float32(f"{theirs}/beta")


def _assembled(config: WhisperConfig, tensors: dict[str, Tensor], file: Path) -> WhisperForConditionalGeneration:
    """Every weight has to be there, in its shape, and no other."""
    try:
        with torch.device("meta"):
            model = WhisperForConditionalGeneration(config)
        model.load_state_dict({**tensors, "proj_out.weight": tensors["model.decoder.embed_tokens.weight"]}, assign=True)
        model.tie_weights()
    except (RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(f"{file} does not hold the weights its own sizes call for: {_first_line(error)}") from error
    return model


_LOADERS: dict[str, Callable[[WhisperSource], WhisperForConditionalGeneration]] = {
    "hugging-face": _from_hugging_face,
    "openai": _from_openai,
    "ctranslate2": _from_ctranslate2,
}


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without the progress bars and the log of transformers: what matters of that is raised as an error here."""
    transformers: Any = logging
    bars, level = transformers.is_progress_bar_enabled(), transformers.get_verbosity()
    transformers.disable_progress_bar()
    transformers.set_verbosity_error()
    try:
        yield
    finally:
        transformers.set_verbosity(level)
        if bars:
            transformers.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def read_preprocessor(source: WhisperSource, mel_bins: int) -> dict[str, Any]:
    """The sound front end, for faster-whisper: the source's own file, or what every Whisper has with this many mel bins.

    Raises:
        WeightsError: the source's own file is not JSON, or counts other mel bins than the weights.
    """
    own = source.path / "preprocessor_config.json"
    if not own.is_file():
        return {"feature_size": mel_bins, "sampling_rate": 16_000, "hop_length": 160, "n_fft": 400, "chunk_length": 30}
    try:
        plain = json.loads(own.read_text(encoding="utf-8"))
        bins = plain.get("feature_size", mel_bins)
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(f"{own} cannot be read as a JSON object: {error}") from error
    if bins != mel_bins:
        raise WeightsError(f"{own} says {bins} mel bins, and the weights take {mel_bins}")
    return dict(plain)
