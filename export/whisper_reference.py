"""PyTorch's Whisper in float32: what every converted encoder is compared with and measured against."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import WhisperForConditionalGeneration

from ..errors import WeightsError
from ..runtime.contract import ENCODER_FRAME_SAMPLES, SAMPLE_RATE_HZ
from ..runtime.features import encoder_frame_mask, log_mel
from .whisper_source import whisper_source
from .whisper_weights import load_whisper, quiet_transformers

WINDOW_S = 30.0
"""What Whisper was trained on, and what everyone else pads to."""
_BEAMS = 5
"""As faster-whisper decodes."""


class WhisperReference:
    """One Whisper in PyTorch. The encoder takes a window of any length up to 30 s, from position zero, as CTranslate2's does."""

    def __init__(self, model: WhisperForConditionalGeneration, tokenizer: Tokenizer, *, device: str = "cpu") -> None:
        """Moves the model to the device.

        Args:
            model: what `load_whisper` gave.
            tokenizer: its tokenizer.
            device: `cpu` or `cuda`.

        Raises:
            WeightsError: the device is not there.
        """
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise WeightsError("asked PyTorch's Whisper for cuda, and it finds no CUDA device; run `shortcast doctor`, or use --device cpu")
        self.mel_bins: int = model.config.num_mel_bins
        self.embedding_dim: int = model.config.d_model
        self._device = torch.device(device)
        self._model = cast(Any, model)
        self._model.to(self._device)
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> WhisperReference:
        """Loads a Hugging Face directory, an OpenAI checkpoint or a CTranslate2 directory.

        Args:
            path: see `whisper_source`.
            device: `cpu` or `cuda`.

        Raises:
            WeightsError: the directory is none of these, its files are damaged, or the device is not there.
        """
        source = whisper_source(path)
        return cls(load_whisper(source), source.tokenizer(), device=device)

    def encode(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """The encoder (Radford et al. 2022, section 2.2) over a window of any length; transformers' own `forward` takes 30 s alone.

        Args:
            mel: float32 (B, M, F), F mel frames, at most 3,000.

        Returns:
            float32 (B, ceil(F / 2), D).
        """
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            encoded = self._encode(torch.from_numpy(np.ascontiguousarray(mel)).to(self._device))
        return np.asarray(encoded.cpu().numpy(), dtype=np.float32)

    def _encode(self, mel: Tensor) -> Tensor:
        encoder = self._model.model.encoder
        hidden = torch.nn.functional.gelu(encoder.conv1(mel))
        hidden = torch.nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            said = layer(hidden, None)
            hidden = said[0] if isinstance(said, tuple) else said
        return torch.as_tensor(encoder.layer_norm(hidden))

    def frames(self, samples: NDArray[np.float32], *, padded: bool = False) -> NDArray[np.float32]:
        """The encoder frames of one window of sound.

        Args:
            samples: float32 (S,), S a multiple of 320.
            padded: follow the sound with silence up to 30 s, as Whisper's own front end does, and cut the frames of the silence off.

        Returns:
            float32 (S / 320, D).
        """
        window = np.pad(samples, (0, round(WINDOW_S * SAMPLE_RATE_HZ) - samples.size)) if padded else samples
        return self.encode(log_mel(window, mel_bins=self.mel_bins)[None])[0, : samples.size // ENCODER_FRAME_SAMPLES]

    def embed(
        self, samples: NDArray[np.float32], sample_mask: NDArray[np.bool_], *, tail_silence_s: float = 0.0, padded: bool = False
    ) -> NDArray[np.float32] | None:
        """What `SoundEncoder.embed` computes: the mean over the encoder frames that are real.

        Args:
            samples: float32 (S,), the chunk's sound, S a multiple of 320.
            sample_mask: bool (S,), True where it is real.
            tail_silence_s: silence after the window, as in the contract.
            padded: see `frames`.

        Returns:
            float32 (D,), or None where too little of the window is sound to fill one encoder frame.
        """
        valid = encoder_frame_mask(sample_mask)
        if not valid.any():
            return None
        tail = np.zeros(round(tail_silence_s * SAMPLE_RATE_HZ), dtype=np.float32)
        frames = self.frames(np.concatenate([samples, tail]), padded=padded)[: valid.size]
        return np.asarray(frames[valid].mean(axis=0), dtype=np.float32)

    def transcribe(self, samples: NDArray[np.float32], *, language: str = "en") -> str:
        """The words in at most 30 s of sound, by transformers' `generate` with a beam of five.

        Args:
            samples: float32 (S,).
            language: two letters; a Whisper for English alone takes only `en`.
        """
        window = np.pad(samples, (0, round(WINDOW_S * SAMPLE_RATE_HZ) - samples.size))
        mel = torch.from_numpy(log_mel(window, mel_bins=self.mel_bins)[None]).to(self._device)
        options = {"language": language, "task": "transcribe"} if self._model.generation_config.is_multilingual else {}
        with torch.inference_mode(), quiet_transformers():
            tokens = self._model.generate(input_features=mel, num_beams=_BEAMS, **options)
        return str(self._tokenizer.decode(tokens[0].tolist(), skip_special_tokens=True)).strip()
