"""What a conversion of Whisper costs in words and in embeddings: PyTorch beside CTranslate2 in every type it stores.

    python -m shortcast.benchmarks.whisper_conversion WHISPER SPEECH -o benchmarks/results/whisper.json

WHISPER is what `shortcast export --whisper` takes. SPEECH is a folder of recordings with a `transcripts.tsv` (columns file, language,
text). Each English recording is transcribed by PyTorch (transformers' `generate`, beam of five) and, through the runtime's own
`Transcriber`, by the source as it is, where CTranslate2 reads it, and by each conversion. Word errors are counted after Whisper's own
normalisation, with the text of every recording kept. Embeddings are compared by `whisper_parity`: speech from the recordings, a chord as
music, silence and noise. Nothing is timed.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..export.whisper import Compute, convert_whisper
from ..export.whisper_parity import made_sounds, read_sounds, whisper_parity
from ..export.whisper_reference import WhisperReference
from ..export.whisper_source import whisper_source
from ..export.word_error import WordErrors, word_errors
from ..runtime.chunks import read_chunks
from ..runtime.contract import Contract
from ..runtime.media import ReadOptions
from ..runtime.transcript import Transcriber

STORED: tuple[Compute, ...] = ("float32", "float16", "int8")
COMPUTED = {"float32": "float32", "float16": "float32", "int8": "int8"}
"""What a CPU computes in for each stored type: CTranslate2 has no float16 there."""
_VERSIONS = ("ctranslate2", "faster-whisper", "torch", "transformers", "numpy")


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording and what is said in it."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class Understood:
    """What one form of Whisper made of one recording."""

    recording: str
    form: str
    said: str
    text: str
    errors: WordErrors


def recordings(folder: Path) -> list[Recording]:
    """The English recordings that `transcripts.tsv` lists."""
    with (folder / "transcripts.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [Recording(folder / row["file"], row["text"]) for row in rows if row["language"] == "en"]


def transcribe(transcriber: Transcriber, path: Path) -> str:
    """The words of a recording, the way `shortcast score --transcript` hears them."""
    transcription = transcriber.begin()
    with read_chunks(path, Contract(), options=ReadOptions(use_pictures=False)) as chunks:
        for chunk in chunks:
            transcription.add(chunk)
    return " ".join(segment.text for segment in transcription.segments)


def transcribe_by_pytorch(reference: WhisperReference, path: Path) -> str:
    """The same by PyTorch, in windows of 28 s."""
    with read_chunks(path, replace(Contract(), chunk_s=28.0), options=ReadOptions(use_pictures=False)) as chunks:
        return " ".join(reference.transcribe(chunk.samples) for chunk in chunks)


def understand(source: Path, forms: dict[str, Path], spoken: list[Recording]) -> Iterator[Understood]:
    """Every recording as every form understands it, PyTorch first."""
    reference = WhisperReference.load(source)
    hear: dict[str, Callable[[Path], str]] = {"PyTorch float32": lambda path: transcribe_by_pytorch(reference, path)}
    hear |= {form: partial(transcribe, Transcriber(folder)) for form, folder in forms.items()}
    for form, listen in hear.items():
        for one in spoken:
            print(f"{form}: {one.path.name}", file=sys.stderr)
            text = listen(one.path)
            yield Understood(one.path.name, form, one.text, text, word_errors(one.text, text))


def compare_embeddings(source: Path, forms: dict[str, Path], spoken: list[Recording]) -> Iterator[dict[str, Any]]:
    """Largest differences of the encoder from PyTorch, by stored type and kind of sound."""
    reference, contract = WhisperReference.load(source), Contract()
    clips = [(clip.name.split(",")[0], clip) for clip in made_sounds()]
    clips += [("speech", clip) for one in spoken for clip in read_sounds(one.path, contract, chunks=2)]
    for stored in STORED:
        for kind in dict.fromkeys(kind for kind, _ in clips):
            these = [clip for other, clip in clips if other == kind]
            rows = whisper_parity(reference, forms[stored], COMPUTED[stored], clips=these, contract=contract.sound)
            worst: dict[str, float] = {}
            for row in rows:
                if row.max_abs_error is not None:
                    worst[row.output] = max(worst.get(row.output, 0.0), row.max_abs_error)
            passed = all(row.passed for row in rows)
            yield {"stored": stored, "computed": COMPUTED[stored], "sound": kind, "chunks": len(these), "passed": passed, "worst": worst}


def _summary(found: list[Understood]) -> dict[str, dict[str, float]]:
    totals: dict[str, WordErrors] = {}
    for one in found:
        totals[one.form] = totals.get(one.form, WordErrors(0, 0, 0, 0)) + one.errors
    return {form: {**asdict(errors), "rate": errors.rate} for form, errors in totals.items()}


def main() -> None:
    """Converts, listens, compares, writes everything down and prints two tables."""
    parser = argparse.ArgumentParser(description="Word errors and encoder parity of converted Whispers.")
    parser.add_argument("whisper", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="where everything goes, as JSON")
    arguments = parser.parse_args()
    spoken, source = recordings(arguments.speech), whisper_source(arguments.whisper)
    with TemporaryDirectory() as folder:
        made = {stored: convert_whisper(arguments.whisper, Path(folder) / stored, compute=stored) for stored in STORED}
        forms: dict[str, Path] = {stored: one.path for stored, one in made.items()}
        as_it_is = {"the source as it is": arguments.whisper} if source.kind == "ctranslate2" else {}
        found = list(understand(arguments.whisper, {**as_it_is, **forms}, spoken))
        embeddings = list(compare_embeddings(arguments.whisper, forms, spoken))
    words = _summary(found)
    for form, total in words.items():
        print(f"{form:20} {total['rate']:.4f}  {total['substitutions']} + {total['deletions']} + {total['insertions']} of {total['words']}")
    for row in embeddings:
        print(
            f"{row['stored']:8} {row['sound']:8} {row['chunks']:3}  "
            + "  ".join(f"{name} {error:.1e}" for name, error in row["worst"].items())
        )
    if arguments.output:
        plain = {
            "machine": platform.platform(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in _VERSIONS},
            "source": {"kind": source.kind, "sha256": source.sha256()},
            "conversions": [one.to_json() for one in made.values()],
            "words": words,
            "transcripts": [{**asdict(one), "errors": asdict(one.errors)} for one in found],
            "embeddings": embeddings,
        }
        arguments.output.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
