"""PyTorch as contenders: eager and compiled, float32 and bfloat16 by autocast, rebuilt from the bundle's own ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import EngineError
from ..runtime.bundle import Bundle
from ..runtime.engines import Engine

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..export.torch_engine import Call


def open_torch(bundle: Bundle, *, compiled: bool, precision: str, device: str, threads: int) -> tuple[Engine, Engine]:
    """The graphs `visual` and `fusion` as PyTorch modules.

    Args:
        bundle: its float32 ONNX files hold the weights.
        compiled: through `torch.compile` with all its defaults; what cannot be compiled whole is an error.
        precision: `fp32` or `bf16`.
        device: `cpu` or `cuda`.
        threads: of PyTorch, for one call.

    Raises:
        EngineError: PyTorch isn't installed, has no such device, or cannot compile here.
    """
    missing = [name for name in ("torch", "onnx") if find_spec(name) is None]
    if missing:
        raise EngineError(f"{missing[0]} is not installed: pip install 'shortcast[export]'")
    if precision not in ("fp32", "bf16"):
        raise EngineError(f"PyTorch runs the graphs in fp32 or bf16 here, not in {precision}")
    import torch

    from ..export.from_bundle import modules_of
    from ..export.torch_engine import TorchEngine, call_fusion, call_visual, fusion_specs, visual_specs

    torch.set_num_threads(threads)
    encoder, fusion = modules_of(bundle)
    engines = []
    for module, call, specs in (
        (encoder, call_visual, visual_specs(encoder.config)),
        (fusion, call_fusion, fusion_specs(fusion.config)),
    ):
        chosen = _compiled(call, varying=module is fusion) if compiled else call
        chosen = _autocast(chosen, device) if precision == "bf16" else chosen
        engines.append(TorchEngine(module, chosen, inputs=specs[0], outputs=specs[1], device=device))
    return engines[0], engines[1]


def _compiled(call: Call, *, varying: bool) -> Call:
    """Compiled at its first call. `varying`: the number of chunks is left open, else each would be compiled anew."""
    import torch

    made: list[Any] = []
    # Past its limit of recompilations dynamo would go on in eager mode, and a row would say otherwise.
    torch._dynamo.config.fail_on_recompile_limit_hit = True

    def run(module: nn.Module, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        if not made:
            made.append(torch.compile(lambda *given: tuple(call(module, given)), fullgraph=True, dynamic=True if varying else None))
        outputs: Sequence[Tensor] = made[0](*tensors)
        return outputs

    return run


def _autocast(call: Call, device: str) -> Call:
    import torch

    def run(module: nn.Module, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            outputs = call(module, tensors)
        return [output.float() for output in outputs]

    return run
