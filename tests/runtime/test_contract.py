from dataclasses import replace
from fractions import Fraction

import pytest

from shortcast.errors import BundleError
from shortcast.runtime.contract import Contract, PictureContract, SoundContract


def test_json_round_trip_keeps_every_value() -> None:
    contract = Contract(picture=PictureContract(fps=Fraction(15, 2)), sound=SoundContract(whisper_sha256="ab", tail_silence_s=1.0))
    assert Contract.from_json(contract.to_json()) == contract


def test_derived_sizes() -> None:
    assert (Contract().frames_per_chunk, Contract().samples_per_chunk) == (16, 32_000)


def test_digest_changes_with_every_field() -> None:
    contract = Contract()
    others = [
        replace(contract, chunk_s=4.0),
        replace(contract, picture=replace(contract.picture, width=112)),
        replace(contract, sound=replace(contract.sound, whisper_sha256="00")),
    ]
    assert len({c.digest() for c in [contract, *others]}) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chunk_s": 2.05}, "whole number of frames"),
        ({"sound": SoundContract(left_context_s=1.0)}, "left_context_s"),
        ({"sound": SoundContract(position="absolute")}, "position"),
    ],
)
def test_what_is_not_implemented_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(BundleError, match=words):
        replace(Contract(), **change)


@pytest.mark.parametrize("damage", [{"surprise": 1}, {"chunk_s": None, "drop": True}])
def test_keys_are_strict(damage: dict[str, object]) -> None:
    plain = Contract().to_json()
    if damage.pop("drop", False):
        del plain["chunk_s"]
    else:
        plain |= damage
    with pytest.raises(BundleError, match="unknown or missing keys"):
        Contract.from_json(plain)
