"""ONNX -> TensorRT: one graph becomes one engine whose precision is attested, written beside the record of how it was made.

`tensorrt` builds for the GPU of this machine and times kernels on it. `tensorrt-rtx` builds ahead of time for a list of compute
capabilities, on any machine, and leaves the last step to the first run on the user's GPU.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EngineError
from ..runtime.engine_cache import PLAN, write_engine
from ..runtime.engine_record import Attestation, ComputeLayer, EngineKey, EngineRecord, Profile, this_platform
from ..runtime.engines.tensorrt_log import BuildLog, build_log
from .attestation import attest_engine, attest_network, compute_layers, require_precision
from .trt_build import BuildProgress, run_build
from .trt_gpu import Gpu, current_gpu
from .trt_network import MODULES, ParsedNetwork, add_profiles, import_tensorrt, parse_network, restricted_profiles
from .trt_timing_cache import TimingCache

DEFAULT_PROFILES = (Profile.of(batch=(1, 1, 8), chunks=(1, 32, 256)),)
"""One clip at a time is what kernels are chosen for; 32 chunks are the window that the dual Transformer sees."""
DEFAULT_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")
"""Ampere, Ada and Blackwell. Turing (7.5) has no float32 matrix product in TensorRT-RTX."""
_LEVELS = range(6)
_NOT_SHOWN = "the engine inspector shows no compute layer whose type can be told; the network alone attests the precision"


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How to build engines."""

    target: str = "tensorrt-rtx"
    """`tensorrt` or `tensorrt-rtx`."""
    precision: str = "fp32"
    """What the graph is said to be, `fp32` or `fp16`. The graph decides what the engine is; this is what it is held to."""
    profiles: tuple[Profile, ...] = DEFAULT_PROFILES
    """Dimensions that a graph doesn't have are passed over, so one list serves all graphs of a bundle."""
    workspace_bytes: int | None = None
    """The most scratch memory a layer may use; None is the whole GPU."""
    compute_capabilities: tuple[str, ...] | None = None
    """For TensorRT-RTX alone, None for `DEFAULT_CAPABILITIES`; TensorRT builds for the GPU that is here."""
    timing_cache: Path | None = None
    """For TensorRT alone: kernel timings from earlier builds on the same GPU, read and written."""
    optimisation_level: int = 3
    """0 to 5: how long TensorRT searches."""
    attestation_threshold: float = 0.8
    """The share of compute layers that has to be half where fp16 is declared."""


def build_engine(
    graph: Path,
    out: Path,
    options: BuildOptions,
    *,
    reasons: Mapping[str, str] | None = None,
    progress: Callable[[BuildProgress], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> EngineRecord:
    """Builds one graph's engine, attests its precision, and writes it with its record.

    Args:
        graph: the ONNX file; `visual.fp16.onnx` makes the engine `visual`.
        out: a bundle's `engines/`; the engine goes into a folder below it, whole or not at all.
        options: see `BuildOptions`.
        reasons: by ONNX node, why it stays float32 in an fp16 graph; for the record.
        progress: called in this thread as the build goes on.
        cancelled: asked in this thread; True gives the build up.

    Returns:
        What was written as `build.json`.

    Raises:
        EngineError: the target or an option can't be used here, the graph can't be built, or the build was cancelled.
        GateError: the precision is not the one declared.
        KeyboardInterrupt: Ctrl-C; nothing was written.
    """
    _check(options)
    # The GPU first: without one there is no use in installing TensorRT.
    gpu = current_gpu() if options.target == "tensorrt" else None
    trt = import_tensorrt(options.target)
    log = build_log(trt)
    begun = time.perf_counter()
    with log.collecting():
        parsed = parse_network(trt, log, graph)
        layers = compute_layers(parsed.network, reasons or {})
        network = attest_network(trt, parsed.network, layers)
        require_precision(network, options.precision, options.attestation_threshold)
        profiles = restricted_profiles(parsed, options.profiles)
        config = _config(trt, parsed, options, profiles)
        with TimingCache(config, options.timing_cache) as timings:
            plan = run_build(trt, parsed, config, progress=progress, cancelled=cancelled)
        seconds = time.perf_counter() - begun
        engine = _read_back(trt, log, plan, layers) if gpu else None
        if engine:
            require_precision(engine, options.precision, options.attestation_threshold)
        record = EngineRecord(
            key=_key(trt, parsed, options, profiles, gpu),
            plan=PLAN,
            bytes=len(plan),
            sha256=hashlib.sha256(plan).hexdigest(),
            network=network,
            engine=engine,
            seconds=round(seconds, 3),
            log=(*log.warnings(), *timings.notes, *([_NOT_SHOWN] if gpu and not engine else [])),
        )
    write_engine(out, plan, record)
    return record


def _check(options: BuildOptions) -> None:
    if options.target not in MODULES:
        raise EngineError(f"engine target {options.target!r} is unknown; it is one of {', '.join(MODULES)}")
    if options.optimisation_level not in _LEVELS:
        raise EngineError(f"optimisation level: expected 0 to {_LEVELS[-1]}, got {options.optimisation_level}")
    if not 0 < options.attestation_threshold <= 1:
        raise EngineError(f"attestation threshold: expected a share above 0 and up to 1, got {options.attestation_threshold:g}")
    if options.target == "tensorrt-rtx" and options.timing_cache:
        raise EngineError("TensorRT-RTX times no kernels, so it has no timing cache; leave it out, or use --target tensorrt")
    if options.target == "tensorrt-rtx" and options.compute_capabilities == ():
        raise EngineError("TensorRT-RTX builds for a list of compute capabilities, such as 8.6 and 8.9, and none is given")
    if options.target == "tensorrt" and options.compute_capabilities is not None:
        raise EngineError("TensorRT builds for the GPU it runs on; compute capabilities are for --target tensorrt-rtx")


def _config(trt: Any, parsed: ParsedNetwork, options: BuildOptions, profiles: tuple[Profile, ...]) -> Any:
    config = parsed.builder.create_builder_config()
    # On by default: float32 products would be rounded to 10 bits of mantissa and parity with PyTorch lost.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector shows names alone
    config.builder_optimization_level = options.optimisation_level
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.target == "tensorrt-rtx":
        # Without it an engine's work can't be captured in a CUDA graph.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        _set_capabilities(trt, config, _capabilities(options))
    add_profiles(parsed, config, profiles)
    return config


def _set_capabilities(trt: Any, config: Any, capabilities: tuple[str, ...]) -> None:
    known = {_dotted(name): value for name, value in trt.ComputeCapability.__members__.items() if re.fullmatch(r"SM\d+", name)}
    unknown = [capability for capability in capabilities if capability not in known]
    if unknown:
        raise EngineError(f"TensorRT-RTX {trt.__version__} does not build for compute capability {unknown[0]}; it knows {', '.join(known)}")
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        if not config.set_compute_capability(known[capability], index):
            raise EngineError(f"TensorRT-RTX {trt.__version__} refuses compute capability {capability}")


def _dotted(name: str) -> str:
    """`SM120` -> `12.0`."""
    return f"{name[2:-1]}.{name[-1]}"


def _capabilities(options: BuildOptions) -> tuple[str, ...]:
    """Each once, the lowest first, so that one list has one key."""
    asked = options.compute_capabilities or DEFAULT_CAPABILITIES
    return tuple(sorted(set(asked), key=lambda capability: (len(capability), capability)))


def _read_back(trt: Any, log: BuildLog, plan: bytes, layers: Sequence[ComputeLayer]) -> Attestation | None:
    runtime = trt.Runtime(log.native)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(f"the engine was built and does not load on the same GPU: {log.errors() or 'TensorRT gave no reason'}")
    information = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return attest_engine(information, layers)


def _key(trt: Any, parsed: ParsedNetwork, options: BuildOptions, profiles: tuple[Profile, ...], gpu: Gpu | None) -> EngineKey:
    flags = ["strongly_typed", "tf32_off", f"optimisation_level={options.optimisation_level}"]
    if options.target == "tensorrt-rtx":
        flags.append("require_user_allocation")
    if options.workspace_bytes is not None:
        flags.append(f"workspace_bytes={options.workspace_bytes}")
    return EngineKey(
        graph=parsed.name,
        precision=options.precision,
        onnx_sha256=parsed.onnx_sha256,
        profiles=profiles,
        flags=tuple(sorted(flags)),
        flavour=MODULES[options.target],
        version=trt.__version__,
        gpu=gpu.name if gpu else "",
        compute_capabilities=(gpu.capability,) if gpu else _capabilities(options),
        platform=this_platform(),
    )
