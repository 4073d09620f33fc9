"""Word error rate: how many words of a transcript are wrong, missing or too many, over the words that were said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

_english: Callable[[str], str] = cast(Any, EnglishTextNormalizer)({})
_other: Callable[[str], str] = BasicTextNormalizer()


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Errors of one transcript, or of many added up."""

    substitutions: int
    deletions: int
    insertions: int
    words: int
    """In the reference."""

    @property
    def total(self) -> int:
        """Edits that turn one text into the other."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors over words said; can exceed 1. With no word said, 0 for an empty transcript and infinity for any other."""
        if not self.words:
            return float("inf") if self.total else 0.0
        return self.total / self.words

    def __add__(self, other: WordErrors) -> WordErrors:
        return WordErrors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.words + other.words,
        )


def word_error_rate(reference: str, hypothesis: str, *, language: str = "en") -> float:
    """The word error rate of one transcript; see `word_errors`."""
    return word_errors(reference, hypothesis, language=language).rate


def word_errors(reference: str, hypothesis: str, *, language: str = "en") -> WordErrors:
    """Counts the fewest word edits between two texts, both normalised first.

    Args:
        reference: what was said.
        hypothesis: what was understood.
        language: two letters.
    """
    return _edits(normalised(reference, language=language).split(), normalised(hypothesis, language=language).split())


def normalised(text: str, *, language: str = "en") -> str:
    """Text as Whisper's authors compare it (Radford et al. 2022, appendix C), without their table of British spellings.

    English: lower case, no punctuation, no fillers, contractions and titles in full, numbers as digits. Other languages: lower case, no
    punctuation.
    """
    return (_english if language == "en" else _other)(text).strip()


def _edits(reference: Sequence[str], hypothesis: Sequence[str]) -> WordErrors:
    """Levenshtein's table row by row; every cell carries its counts, and of equally cheap ways the substitution is taken."""
    row = [WordErrors(0, 0, j, len(reference)) for j in range(len(hypothesis) + 1)]
    for i, said in enumerate(reference, start=1):
        above, row = row, [WordErrors(0, i, 0, len(reference))]
        for j, understood in enumerate(hypothesis, start=1):
            ways = (
                _one_more(above[j - 1], substitutions=int(said != understood)),
                _one_more(above[j], deletions=1),
                _one_more(row[j - 1], insertions=1),
            )
            row.append(min(ways, key=lambda way: way.total))
    return row[-1]


def _one_more(errors: WordErrors, *, substitutions: int = 0, deletions: int = 0, insertions: int = 0) -> WordErrors:
    return errors + WordErrors(substitutions, deletions, insertions, 0)
