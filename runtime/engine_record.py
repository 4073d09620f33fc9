"""What an engine was built from and for, and what its precision was found to be: the text of `build.json`.

A plan runs only where its key holds: the same ONNX file, the same TensorRT, and the GPU it was built for. `engine_cache.py` writes and
finds plans by these values, without TensorRT.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from ..errors import EngineError

SCHEMA = "1"
FLAVOURS = ("tensorrt", "tensorrt_rtx")
"""Import names: TensorRT builds for the GPU it runs on, TensorRT-RTX for a list of compute capabilities."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DimRange:
    """The sizes one dynamic dimension may have."""

    dim: str
    """`batch` or `chunks`, as the graph names it."""
    min: int
    opt: int
    """The size kernels are chosen for."""
    max: int

    def __str__(self) -> str:
        return f"{self.dim} {self.min}..{self.max}, best at {self.opt}"


@dataclass(frozen=True, slots=True)
class Profile:
    """One optimisation profile: a range for every dynamic dimension."""

    dims: tuple[DimRange, ...]

    @classmethod
    def of(cls, **ranges: tuple[int, int, int]) -> Profile:
        """`Profile.of(batch=(1, 1, 8), chunks=(1, 32, 256))`: minimum, best and maximum by name."""
        return cls(tuple(DimRange(dim, *sizes) for dim, sizes in sorted(ranges.items())))

    def __str__(self) -> str:
        return "; ".join(map(str, self.dims)) or "fixed shapes"


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything a plan depends on. Two plans with one key are interchangeable."""

    graph: str
    """`visual` or `fusion`."""
    precision: str
    """What the graph declares: `fp32` or `fp16`."""
    onnx_sha256: str
    profiles: tuple[Profile, ...]
    """In the order TensorRT numbers them. In a key that is looked for, an empty tuple asks for nothing."""
    flags: tuple[str, ...]
    """What the builder was told, sorted. In a key that is looked for, an empty tuple asks for nothing."""
    flavour: str
    """One of `FLAVOURS`."""
    version: str
    """TensorRT's own, in full."""
    gpu: str
    """The GPU's name; empty for TensorRT-RTX, whose plans name compute capabilities instead."""
    compute_capabilities: tuple[str, ...]
    """Such as `8.6`, the lowest first: the GPU's one, or for TensorRT-RTX all that were asked for."""
    platform: str
    """Operating system and processor, as `linux_x86_64`."""

    @property
    def tag(self) -> str:
        """The name of the folder for every engine of this GPU, TensorRT and precision."""
        short = ".".join(self.version.split(".")[:3])
        capabilities = [f"sm{capability.replace('.', '')}" for capability in self.compute_capabilities]
        return "-".join([self.flavour, short, *_slug(self.gpu), *capabilities, self.precision])

    def to_json(self) -> dict[str, Any]:
        return _plain(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> EngineKey:
        """Reads what `to_json` wrote; keys and types are strict.

        Raises:
            EngineError: a key is unknown or missing, or a value has the wrong type.
        """
        values = _strict(cls, plain)
        profiles = tuple(_profile(profile) for profile in _list(values["profiles"], dict, "profiles"))
        flags, capabilities = (tuple(_list(values.pop(name), str, name)) for name in ("flags", "compute_capabilities"))
        texts = {name: _typed(value, str, name) for name, value in values.items() if name != "profiles"}
        return cls(profiles=profiles, flags=flags, compute_capabilities=capabilities, **texts)


@dataclass(frozen=True, slots=True)
class ComputeLayer:
    """A convolution or matrix product, and the type it computes in."""

    name: str
    kind: str
    """`convolution`, `deconvolution`, `matrix multiply` or `einsum`."""
    dtype: str
    """numpy's name of the type of its inputs: `float16`, `float32`."""
    reason: str = ""
    """Why it is float32; empty where nobody gave a reason."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """What an engine's precision was found to be, and by looking at what."""

    source: str
    """`network`: the strongly typed network before the build; `engine`: the built engine, read back on a GPU."""
    half_layers: int
    compute_layers: int
    half_weight_bytes: int
    weight_bytes: int
    """Floating-point weights only; 0 where the source doesn't say."""
    float32_layers: tuple[ComputeLayer, ...]
    """Every compute layer that isn't half."""

    @property
    def half_layer_share(self) -> float:
        """Share of compute layers in half, 0 to 1."""
        return self.half_layers / self.compute_layers if self.compute_layers else 0.0

    @property
    def half_weight_share(self) -> float:
        """Share of the bytes of weights in half, 0 to 1."""
        return self.half_weight_bytes / self.weight_bytes if self.weight_bytes else 0.0

    def __str__(self) -> str:
        weights = f", {self.half_weight_share:.0%} of {self.weight_bytes} weight bytes" if self.weight_bytes else ""
        return f"{self.half_layers} of {self.compute_layers} compute layers half{weights} (read from the {self.source})"

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Attestation:
        """Reads what `dataclasses.asdict` made of one.

        Raises:
            EngineError: a key is unknown or missing, or a value has the wrong type.
        """
        values = _strict(cls, plain)
        layers = tuple(_layer(layer) for layer in _list(values["float32_layers"], dict, "float32_layers"))
        counts = {name: _typed(values[name], int, name) for name in values if name not in ("source", "float32_layers")}
        return cls(source=_typed(values["source"], str, "source"), float32_layers=layers, **counts)


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """What `build.json` says of the plan beside it."""

    key: EngineKey
    plan: str
    """File name of the plan."""
    bytes: int
    sha256: str
    network: Attestation
    engine: Attestation | None
    """None where no GPU was there to read the engine back."""
    seconds: float
    """Wall time of parsing and building."""
    log: tuple[str, ...]
    """What TensorRT warned of."""

    @property
    def attestation(self) -> Attestation:
        """The stronger of the two: the engine read back, else the network."""
        return self.engine or self.network

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **_plain(self)}

    def dumps(self) -> str:
        """The text of `build.json`."""
        return json.dumps(self.to_json(), indent=2, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, plain: object) -> EngineRecord:
        """Reads what `to_json` wrote; keys and types are strict.

        Raises:
            EngineError: the schema is unknown, a key is unknown or missing, or a value has the wrong type.
        """
        plain = _typed(plain, dict, "record")
        if plain.get("schema") != SCHEMA:
            raise EngineError(f"schema is {plain.get('schema')!r}, this version reads {SCHEMA!r}")
        values = _strict(cls, {name: value for name, value in plain.items() if name != "schema"})
        engine = values["engine"]
        return cls(
            key=EngineKey.from_json(_typed(values["key"], dict, "key")),
            plan=_file_name(values["plan"]),
            bytes=_typed(values["bytes"], int, "bytes"),
            sha256=_typed(values["sha256"], str, "sha256"),
            network=Attestation.from_json(_typed(values["network"], dict, "network")),
            engine=None if engine is None else Attestation.from_json(_typed(engine, dict, "engine")),
            seconds=_typed(values["seconds"], float, "seconds"),
            log=tuple(_list(values["log"], str, "log")),
        )


def this_platform() -> str:
    """The platform of a key that holds here, as `linux_x86_64`."""
    return f"{platform.system()}_{platform.machine()}".lower()


def difference(key: EngineKey, other: EngineKey) -> list[str]:
    """What differs between two keys, one sentence for each field.

    Args:
        key: what is there.
        other: what is wanted.

    Returns:
        Such as `TensorRT version: built with 10.13.0.35, wanted 10.16.1.11`; empty where the keys are equal.
    """
    return [_sentence(name, key, other) for name in _differing(key, other)]


def unmet(key: EngineKey, wanted: EngineKey) -> list[str]:
    """What keeps a plan with `key` from being used where `wanted` is asked for; empty where nothing does.

    As `difference`, but for what a plan may offer beyond what is asked: compute capabilities that aren't here, and profiles and flags
    where the wanted key names none. A TensorRT-RTX plan is for compute capabilities, so the GPU's name doesn't count.
    """
    free = {name for name in ("profiles", "flags") if not getattr(wanted, name)}
    if key.flavour == "tensorrt_rtx":
        free.add("gpu")
        if set(wanted.compute_capabilities) <= set(key.compute_capabilities):
            free.add("compute_capabilities")
    return [_sentence(name, key, wanted) for name in _differing(key, wanted) if name not in free]


_WORDS = {
    "graph": "graph",
    "precision": "precision",
    "onnx_sha256": "ONNX file",
    "profiles": "optimisation profiles",
    "flags": "builder flags",
    "flavour": "TensorRT flavour",
    "version": "TensorRT version",
    "gpu": "GPU",
    "compute_capabilities": "compute capabilities",
    "platform": "platform",
}


def _differing(key: EngineKey, other: EngineKey) -> list[str]:
    return [field.name for field in fields(EngineKey) if getattr(key, field.name) != getattr(other, field.name)]


def _sentence(field: str, key: EngineKey, wanted: EngineKey) -> str:
    return f"{_WORDS[field]}: built {_preposition(field)} {_say(getattr(key, field))}, wanted {_say(getattr(wanted, field))}"


def _preposition(field: str) -> str:
    return {"onnx_sha256": "from", "gpu": "for", "platform": "for", "compute_capabilities": "for"}.get(field, "with")


def _say(value: str | tuple[object, ...]) -> str:
    if isinstance(value, tuple):
        return " | ".join(map(str, value)) or "none"
    shortened = f"{value[:12]}…" if re.fullmatch("[0-9a-f]{64}", value) else value
    return shortened or "none"


def _slug(text: str) -> list[str]:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return [slug] if slug else []


def _plain(value: EngineKey | EngineRecord) -> dict[str, Any]:
    """As JSON has it: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(value)))
    return plain


def _strict(cls: type, plain: Mapping[str, Any]) -> dict[str, Any]:
    odd = sorted(set(plain) ^ {field.name for field in fields(cls)})
    if odd:
        raise EngineError(f"{cls.__name__}: unknown or missing keys {odd}")
    return dict(plain)


def _typed(value: object, kind: type[T], name: str) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise EngineError(f"{name}: expected {kind.__name__}, got {value!r}")
    return value


def _list(value: object, kind: type[T], name: str) -> list[T]:
    return [_typed(item, kind, name) for item in _typed(value, list, name)]


def _profile(plain: Mapping[str, Any]) -> Profile:
    return Profile(tuple(_dim(dim) for dim in _list(_strict(Profile, plain)["dims"], dict, "dims")))


def _dim(plain: Mapping[str, Any]) -> DimRange:
    values = _strict(DimRange, plain)
    sizes = {name: _typed(values[name], int, name) for name in ("min", "opt", "max")}
    return DimRange(_typed(values["dim"], str, "dim"), **sizes)


def _layer(plain: Mapping[str, Any]) -> ComputeLayer:
    return ComputeLayer(**{name: _typed(value, str, name) for name, value in _strict(ComputeLayer, plain).items()})


def _file_name(value: object) -> str:
    name = _typed(value, str, "plan")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise EngineError(f"plan: expected a file name, got {name!r}")
    return name
