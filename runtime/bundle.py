"""The bundle: a directory that holds everything scoring needs, checked byte by byte before anything in it is loaded.

    name.shortcast/
      manifest.json    what is in the bundle, where it came from, what the model predicts
      contract.json    how clips are read (see `contract.py`)
      onnx/            visual.fp32.onnx, fusion.fp32.onnx, and the fp16 and int8 variants asked for
      engines/<tag>/   visual.plan, fusion.plan and build.json, for one TensorRT version and GPU
      golden/          a short clip's chunks, more clips, and what PyTorch made of them: any device can prove itself with no torch
      whisper/         the Whisper weights, where they were embedded
      reports/         parity.json
      manifest.sig     an Ed25519 signature of manifest.json, where there is one

JSON, ONNX, raw engine files and arrays only: nothing in a bundle is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import BundleError, DataError
from .contract import Contract, SoundContract
from .engines import TensorSpec
from .intervals import ConformalIntervals
from .settling import Settling
from .signature import MANIFEST, SIGNATURE, require_signature
from .target import Target

if TYPE_CHECKING:
    from .engine_record import EngineRecord
    from .proof import PrecisionProof, ProofClip

SCHEMA = "4.0"
CONTRACT = "contract.json"
GOLDEN = "golden/golden.npz"
CLIPS = "golden/clips/"
GOLDEN_CLIP = f"{CLIPS}000.mp4"
"""The first proof clip: the golden data were made from it."""
PROOF_CLIPS = "golden/clips.npz"
WHISPER = "whisper"
ENGINES = "engines"
PARITY_REPORT = "reports/parity.json"
GRAPHS = ("visual", "fusion")
_OPTIONAL = {"settling"}
"""Keys of the manifest that a bundle may do without."""


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle."""

    path: str
    """Relative to the bundle, with forward slashes."""
    bytes: int
    sha256: str
    role: str


@dataclass(frozen=True, slots=True)
class GraphFile:
    """One ONNX file: a graph in one precision."""

    file: str
    """Relative to the bundle."""
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    declared: str
    """The precision asked for."""
    weight_bytes: dict[str, int]
    """Bytes of weights by element type, read back from the file: what the graph is, not what was asked for."""
    report: dict[str, Any]
    """What was measured when it was made: nodes kept in float32 and why, drift, speed."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the exact inverse."""
        sides = {side: [{**asdict(spec), "shape": list(spec.shape)} for spec in getattr(self, side)] for side in ("inputs", "outputs")}
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, **sides}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> GraphFile:
        """Reads what `to_json` wrote."""
        sides = {
            side: tuple(TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in plain[side]) for side in ("inputs", "outputs")
        }
        return cls(**{**plain, **sides})


@dataclass(frozen=True, slots=True)
class WhisperFile:
    """The Whisper weights the model hears with."""

    model: str
    """Whisper's name for the size, such as `tiny.en`."""
    sha256: str
    """SHA-256 of `model.bin`; anything else is refused."""
    compute_type: str
    """CTranslate2's type of computation; weights are converted to it when they are loaded."""
    embedded: bool
    """Whether the bundle carries them in `whisper/`."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `manifest.json` says."""

    schema: str
    id: str
    """SHA-256 over everything else in the manifest, file hashes included: two bundles with one id are the same bundle."""
    name: str
    files: tuple[BundleFile, ...]
    graphs: dict[str, dict[str, GraphFile]]
    """By graph and precision."""
    variants: dict[str, dict[str, str]]
    """For each precision that can be asked for, the precision of each graph: int8 may pay for one graph and not for the other."""
    whisper: WhisperFile
    target: Target
    quantile_levels: tuple[float, ...]
    intervals: ConformalIntervals
    window_chunks: int | None
    """Most chunks the fusion graph is shown at once, see `history`; None: all."""
    card: dict[str, Any]
    """What the model was trained on and how it did on clips it had not seen."""
    provenance: dict[str, Any]
    """Checkpoint hash, versions, command and time of the export."""
    settling: Settling | None = None
    """When a score is settled. None where nobody has calibrated it; the manifest then has no such key."""

    @property
    def interval_coverage(self) -> float:
        """The nominal share of clips whose value lies in a score's interval."""
        return self.intervals.coverage

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the exact inverse."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _OPTIONAL}
        return {
            **plain,
            **({} if self.settling is None else {"settling": self.settling.to_json()}),
            "files": [asdict(file) for file in self.files],
            "graphs": {name: {precision: graph.to_json() for precision, graph in files.items()} for name, files in self.graphs.items()},
            "whisper": asdict(self.whisper),
            "target": self.target.to_json(),
            "quantile_levels": list(self.quantile_levels),
            "intervals": self.intervals.to_json(),
        }

    def dumps(self) -> str:
        """The text of `manifest.json`: one manifest has one text."""
        return json.dumps(self.to_json(), indent=2, sort_keys=True, allow_nan=False) + "\n"

    def with_id(self) -> Manifest:
        """The same manifest with its `id` computed."""
        return replace(self, id=hashlib.sha256(replace(self, id="").dumps().encode()).hexdigest())

    def is_written_as(self, text: bytes) -> bool:
        """Whether this is the text of `manifest.json`, and the `id` in it the one it was made from."""
        without_id = replace(self, id="").dumps()
        written = without_id.replace('\n  "id": "",\n', f'\n  "id": {json.dumps(self.id)},\n', 1)
        return written.encode() == text and hashlib.sha256(without_id.encode()).hexdigest() == self.id

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Manifest:
        """Reads what `to_json` wrote; keys are strict.

        Raises:
            BundleError: the schema is unknown, or a key is unknown or missing.
        """
        if plain.get("schema") != SCHEMA:
            raise BundleError(f"{MANIFEST}: schema is {plain.get('schema')!r}, this version reads {SCHEMA!r}; export the bundle again")
        odd = sorted((set(plain) ^ {f.name for f in fields(cls)}) - (_OPTIONAL - set(plain)))
        if odd:
            raise BundleError(f"{MANIFEST}: unknown or missing keys {odd}")
        try:
            parts = {
                "files": tuple(BundleFile(**file) for file in plain["files"]),
                "graphs": {
                    name: {precision: GraphFile.from_json(graph) for precision, graph in files.items()}
                    for name, files in plain["graphs"].items()
                },
                "whisper": WhisperFile(**plain["whisper"]),
                "target": Target.from_json(plain["target"]),
                "quantile_levels": tuple(float(level) for level in plain["quantile_levels"]),
                "intervals": ConformalIntervals.from_json(plain["intervals"]),
                "window_chunks": _window(plain["window_chunks"]),
                "settling": Settling.from_json(plain["settling"]) if "settling" in plain else None,
            }
        except (DataError, AttributeError, TypeError, KeyError, ValueError) as error:
            raise BundleError(f"{MANIFEST}: {error}") from error
        manifest = cls(**{**plain, **parts})
        manifest._check_graphs()
        return manifest

    def _check_graphs(self) -> None:
        """Only listed files, whose hashes are checked, are ever opened as graphs, and every variant is whole."""
        listed = {file.path for file in self.files if file.role == "graph"}
        strays = sorted(graph.file for files in self.graphs.values() for graph in files.values() if graph.file not in listed)
        if strays:
            raise BundleError(f"{MANIFEST}: the graph {strays[0]!r} is not one of the bundle's files")
        for precision, chosen in self.variants.items():
            if set(chosen) != set(GRAPHS) or any(form not in self.graphs.get(name, {}) for name, form in chosen.items()):
                raise BundleError(f"{MANIFEST}: the variant {precision!r} names graphs that are not there")


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: every file in it has been read once and has the hash the manifest states."""

    path: Path
    manifest: Manifest
    contract: Contract
    sound_compute: str | None = None
    """What Whisper is to compute in, where that is not what the bundle was proved with: see `hearing_in`."""

    @classmethod
    def open(cls, path: Path | str, *, signed_by: Path | None = None) -> Bundle:
        """Reads the manifest and checks every file against it, before anything is loaded.

        Args:
            path: the bundle's directory.
            signed_by: an Ed25519 public key that must have signed the bundle; None asks for no signature.

        Raises:
            BundleError: the directory is not a bundle, or a file is missing, extra, altered or outside of it, or the signature asked
                for is not there.
        """
        root = Path(path)
        if not (root / MANIFEST).is_file():
            raise BundleError(f"{root} is not a bundle: it holds no {MANIFEST}; make one with `shortcast export CHECKPOINT -o BUNDLE`")
        if signed_by is not None:
            require_signature(root, signed_by)
        manifest = Manifest.from_json(_read_json(root / MANIFEST))
        if not manifest.is_written_as((root / MANIFEST).read_bytes()):
            raise BundleError(f"{root}: {MANIFEST} was altered: it is not the text its id {str(manifest.id)[:12]}… was made from")
        _check_files(root, manifest.files)
        return cls(root, manifest, Contract.from_json(_read_json(root / CONTRACT)))

    def graph(self, name: str, *, precision: str = "fp32") -> Path:
        """The ONNX file of a graph, as the variant of that precision has it.

        Raises:
            BundleError: the bundle has no such graph in that precision.
        """
        chosen = self.manifest.variants.get(precision, {}).get(name)
        if chosen is None:
            held = ", ".join(self.manifest.variants)
            raise BundleError(f"{self.path} holds no {precision} {name} graph, only {held}; export it again with --precision {precision}")
        return self.path / self.manifest.graphs[name][chosen].file

    @property
    def golden(self) -> Path:
        return self.path / GOLDEN

    @property
    def sound_contract(self) -> SoundContract:
        """The contract's sound part with the weights and type of computation that this bundle was proved with."""
        whisper = self.manifest.whisper
        return replace(self.contract.sound, whisper_sha256=whisper.sha256, compute_type=self.sound_compute or whisper.compute_type)

    def hearing_in(self, compute_type: str | None) -> Bundle:
        """The same bundle with Whisper computing in another of CTranslate2's types, because someone asked; None changes nothing.

        `verify` holds it to the tolerance of the wider of the two types.
        """
        return replace(self, sound_compute=compute_type or self.sound_compute)

    def proof_clips(self) -> tuple[ProofClip, ...]:
        """The clips decisions are compared on, with the reference's answers."""
        from .proof import load_proof_clips

        return load_proof_clips(self.path / PROOF_CLIPS)

    def engines(self) -> Iterator[tuple[str, EngineRecord]]:
        """Every engine: its folder, relative to the bundle, and what it was built from and for."""
        from .engine_cache import RECORD, read_record

        for file in self.manifest.files:
            if file.path.startswith(f"{ENGINES}/") and file.path.endswith(f"/{RECORD}"):
                folder = file.path.removesuffix(f"/{RECORD}")
                yield folder, read_record(self.path / folder)

    def parity_report(self) -> dict[str, PrecisionProof]:
        """What the export measured against PyTorch, by precision."""
        from .proof import PrecisionProof

        proofs = [PrecisionProof.from_json(plain) for plain in _read_json(self.path / PARITY_REPORT)["proofs"]]
        return {proof.precision: proof for proof in proofs}


def demo_bundle() -> Path:
    """The small bundle that ships in the package. It was trained on synthetic clips: it shows the path, not the future."""
    return Path(__file__).parents[1] / "samples" / "demo.shortcast"


def graph_file(name: str, precision: str = "fp32") -> str:
    """Where a graph lies in a bundle."""
    return f"onnx/{name}.{precision}.onnx"


def describe_file(root: Path, path: str, role: str) -> BundleFile:
    """Size and hash of one file below `root`."""
    content = (root / path).read_bytes()
    return BundleFile(path, len(content), hashlib.sha256(content).hexdigest(), role)


def _check_files(root: Path, files: tuple[BundleFile, ...]) -> None:
    resolved = root.resolve()
    for file in files:
        if not _confined(resolved, file.path):
            raise BundleError(f"{root}: the manifest names {file.path!r}, which is not inside the bundle")
        if not (root / file.path).is_file():
            raise BundleError(f"{root}: {file.path} is missing")
        found = describe_file(root, file.path, file.role)
        if found != file:
            raise BundleError(
                f"{root}: {file.path} was altered: expected {file.bytes} bytes with sha256 {file.sha256[:12]}…, "
                f"got {found.bytes} with {found.sha256[:12]}…"
            )
    extra = sorted(set(_files_below(root)) - {file.path for file in files} - {MANIFEST, SIGNATURE})
    if extra:
        raise BundleError(f"{root}: {extra[0]} is not in the manifest; remove it or export the bundle again")


def _window(plain: object) -> int | None:
    if plain is None or (isinstance(plain, int) and plain >= 1):
        return plain
    raise ValueError(f"window_chunks is null or a whole number of at least 1, got {plain!r}")


def _confined(root: Path, path: str) -> bool:
    pure = PurePosixPath(path)
    inside = not pure.is_absolute() and ".." not in pure.parts and "\\" not in path
    return inside and (root / path).resolve().is_relative_to(root)


def _files_below(root: Path) -> Iterator[str]:
    """Everything that is not a folder, links and devices too."""
    for path in root.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(root).as_posix()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(plain, dict):
        raise BundleError(f"{path}: expected a JSON object, got {type(plain).__name__}")
    return plain
