"""Small ONNX graphs, and a tiny Whisper with random weights, as each kind of checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture
def make_graph(tmp_path: Path) -> Callable[..., Path]:
    """Writes nodes as an ONNX file; inputs and outputs as name=(type, shape)."""

    def make(
        name: str,
        nodes: Sequence[onnx.NodeProto],
        inputs: dict[str, tuple[int, list[int | str]]],
        outputs: dict[str, tuple[int, list[int | str]]],
        weights: dict[str, NDArray[Any]] | None = None,
    ) -> Path:
        values = [[helper.make_tensor_value_info(key, *value) for key, value in side.items()] for side in (inputs, outputs)]
        tensors = [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()]
        domains = {node.domain for node in nodes}
        model = helper.make_model(
            helper.make_graph(nodes, "made", *values, tensors),
            opset_imports=[helper.make_opsetid(domain, 1 if domain else 18) for domain in sorted({"", *domains})],
            ir_version=8,
        )
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return make


@pytest.fixture
def product_graph(make_graph: Callable[..., Path]) -> Callable[..., Path]:
    """x (batch, 4) times a weight (4, 3): in float32, or as float16 with casts around it."""

    def make(name: str = "product.fp32.onnx", *, half: bool = False) -> Path:
        weight = np.ones((4, 3), np.float16 if half else np.float32)
        inner = [helper.make_node("MatMul", ["x16" if half else "x", "w"], ["y16" if half else "y"], name="product")]
        before = [helper.make_node("Cast", ["x"], ["x16"], to=HALF, name="down")] if half else []
        after = [helper.make_node("Cast", ["y16"], ["y"], to=FLOAT, name="up")] if half else []
        nodes = [*before, *inner, *after]
        return make_graph(name, nodes, {"x": (FLOAT, ["batch", 4])}, {"y": (FLOAT, ["batch", 3])}, {"w": weight})

    return make


CONTROL = ("endoftext", "startoftranscript", "en", "de", "translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
LAYERS, WIDTH, HEADS = 2, 32, 2

# transformers' names and OpenAI's, written down from the two libraries' own state dicts.
OPENAI_LAYER = {
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn.q_proj": "cross_attn.query",
    "encoder_attn.k_proj": "cross_attn.key",
    "encoder_attn.v_proj": "cross_attn.value",
    "encoder_attn.out_proj": "cross_attn.out",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
    "final_layer_norm": "mlp_ln",
}
OPENAI_ENDS = {
    "encoder.conv1": "encoder.conv1",
    "encoder.conv2": "encoder.conv2",
    "encoder.layer_norm": "encoder.ln_post",
    "decoder.layer_norm": "decoder.ln",
    "decoder.embed_tokens": "decoder.token_embedding",
}


@dataclass(frozen=True)
class TinyWhisper:
    """One model and where it was saved."""

    model: Any
    hugging_face: Path
    openai: Path


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> TinyWhisper:
    import torch

    folder = tmp_path_factory.mktemp("tiny-whisper")
    tokenizer = bytes_tokenizer()
    model = random_whisper(tokenizer.get_vocab_size())
    made = TinyWhisper(model, folder / "hugging-face", folder / "openai")
    model.save_pretrained(made.hugging_face)
    made.openai.mkdir()
    torch.save({"dims": openai_dims(model.config), "model_state_dict": openai_state(model)}, made.openai / "tiny.pt")
    for path in (made.hugging_face, made.openai):
        tokenizer.save(str(path / "tokenizer.json"))
    return made


@pytest.fixture
def damaged(tiny_whisper: TinyWhisper, tmp_path: Path) -> Callable[[str, Callable[[Path], None]], Path]:
    """A copy of one of the two directories, after something was done to it."""

    def make(kind: str, harm: Callable[[Path], None]) -> Path:
        source, copy = getattr(tiny_whisper, kind), tmp_path / "damaged"
        copy.mkdir()
        for file in source.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        harm(copy)
        return copy

    return make


def bytes_tokenizer() -> Any:
    """Every byte a token, then Whisper's own tokens in Whisper's order."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: place for place, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in CONTROL])
    tokenizer.add_tokens([AddedToken(f"<|{i * 0.02:.2f}|>") for i in range(1501)])
    return tokenizer


def random_whisper(vocabulary: int) -> Any:
    """Every weight random, biases and norms too: a name mapped wrongly cannot hide behind a zero or a one."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=vocabulary,
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        pad_token_id=256,
        bos_token_id=256,
        eos_token_id=256,
        decoder_start_token_id=257,
    )
    random = torch.Generator().manual_seed(5)
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=random) + float("layer_norm.weight" in name))
    return model


def openai_dims(config: Any) -> dict[str, int]:
    sizes = {"n_mels": config.num_mel_bins, "n_vocab": config.vocab_size, "n_audio_ctx": 1500, "n_text_ctx": 448}
    for side in ("audio", "text"):
        sizes |= {f"n_{side}_state": WIDTH, f"n_{side}_head": HEADS, f"n_{side}_layer": LAYERS}
    return sizes


def openai_state(model: Any) -> dict[str, Any]:
    return {openai_name(name.removeprefix("model.")): tensor for name, tensor in model.state_dict().items() if name != "proj_out.weight"}


def openai_name(name: str) -> str:
    side, rest = name.split(".", 1)
    if rest == "embed_positions.weight":
        return f"{side}.positional_embedding"
    stem, kind = name.rsplit(".", 1)
    if rest.startswith("layers."):
        _, layer, part = rest.removesuffix(f".{kind}").split(".", 2)
        return f"{side}.blocks.{layer}.{OPENAI_LAYER[part]}.{kind}"
    return f"{OPENAI_ENDS[stem]}.{kind}"
