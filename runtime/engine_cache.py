"""Built engines on disk: written whole, and found again without loading TensorRT.

    BUNDLE/engines/
      tensorrt_rtx-1.7.1-sm86-sm89-fp16/
        visual/    engine.plan    build.json
        fusion/    engine.plan    build.json

Deserialising a plan trusts it, so its hash is checked before anyone may hand it to TensorRT. `engine.plan` is the raw file that trtexec
loads, `build.json` is an `EngineRecord`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from ..errors import EngineError
from .engine_record import EngineKey, EngineRecord, unmet

RECORD = "build.json"
PLAN = "engine.plan"
REBUILD = "`shortcast export --engines-only BUNDLE` rebuilds it"


def engine_folder(engines: Path, key: EngineKey) -> Path:
    """Where the engine with this key lies below a bundle's `engines/`."""
    return engines / key.tag / key.graph


def write_engine(engines: Path, plan: bytes, record: EngineRecord) -> Path:
    """Writes a plan and its record aside and renames them into place together, replacing an engine of the same tag and graph.

    Args:
        engines: the bundle's `engines/`; made where it is absent.
        plan: the serialised engine.
        record: describes exactly these bytes.

    Returns:
        The plan's path.

    Raises:
        EngineError: the record describes other bytes, or the folder cannot be written; what was there before stays.
    """
    if (record.bytes, record.sha256) != (len(plan), hashlib.sha256(plan).hexdigest()):
        raise EngineError(f"the record of {record.key.graph} does not describe the {len(plan)} bytes of its plan")
    folder = engine_folder(engines, record.key)
    aside = folder.with_name(f".{folder.name}.writing-{os.getpid()}")
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        (aside / record.plan).write_bytes(plan)
        (aside / RECORD).write_text(record.dumps(), encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise EngineError(f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return folder / record.plan


def read_record(folder: Path) -> EngineRecord:
    """Reads one engine's `build.json`.

    Raises:
        EngineError: there is none, or it isn't one.
    """
    path = folder / RECORD
    try:
        return EngineRecord.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} cannot be read as JSON: {error}; {REBUILD}") from error
    except EngineError as error:
        raise EngineError(f"{path}: {error}; {REBUILD}") from error


def engine_records(engines: Path, graph: str) -> list[EngineRecord]:
    """What the readable records of a graph's engines say, whatever they were built for."""
    return [record for _, record in _records(engines, graph)[0]]


def find_engine(engines: Path, wanted: EngineKey) -> Path:
    """Finds the plan to use for `wanted` and proves that its bytes are those that were built.

    Args:
        engines: a bundle's `engines/`.
        wanted: what is needed; see `unmet` for what a plan may offer beyond it.

    Returns:
        The plan's path. Its size and SHA-256 are those of the record: only now may it be deserialised.

    Raises:
        EngineError: no engine fits, and which field of the nearest differs; or the plan was altered.
    """
    records, problems = _records(engines, wanted.graph)
    if not records:
        raise EngineError(f"{engines} holds no {wanted.graph} engine{_and(problems)}; `shortcast export --engines-only BUNDLE` builds one")
    folder, record = min(records, key=lambda found: (len(unmet(found[1].key, wanted)), found[0]))
    missing = unmet(record.key, wanted)
    if missing:
        nearest = f"the nearest, {folder.parent.name}, differs in {'; '.join(missing)}"
        raise EngineError(f"no {wanted.graph} engine of {engines} fits: {nearest}{_and(problems)}; {REBUILD}")
    return _checked_plan(folder, record)


def _records(engines: Path, graph: str) -> tuple[list[tuple[Path, EngineRecord]], list[str]]:
    """Every engine of a graph with its folder, and what kept others from being read: one damaged record doesn't hide the rest."""
    found, problems = [], []
    for path in sorted(engines.glob(f"*/{graph}/{RECORD}")):
        try:
            found.append((path.parent, read_record(path.parent)))
        except EngineError as error:
            problems.append(str(error))
    return found, problems


def _and(problems: list[str]) -> str:
    return f" ({'; '.join(problems)})" if problems else ""


def _checked_plan(folder: Path, record: EngineRecord) -> Path:
    path = folder / record.plan
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            size = file.tell()
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error}; {REBUILD}") from error
    if (size, digest.hexdigest()) != (record.bytes, record.sha256):
        raise EngineError(
            f"{path} was altered: expected {record.bytes} bytes with sha256 {record.sha256[:12]}…, "
            f"got {size} with {digest.hexdigest()[:12]}…; {REBUILD}"
        )
    return path
