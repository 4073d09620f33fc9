"""Spoken sentences."""

import sys

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.training.soundtrack import HOOKS, LEAD_S, PLAIN, SLOT_S, VOICES
from shortcast.training.speech import RATE_HZ, Speaker, Voice

SENTENCE = "Here is the secret trick!"


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker()


def test_a_sentence_is_sound_of_a_plausible_length(speaker: Speaker) -> None:
    samples = speaker.say(SENTENCE)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert 1.0 < samples.size / RATE_HZ < 2.2
    assert 0.2 < np.abs(samples).max() <= 1.0
    assert np.sqrt(np.mean(samples**2)) > 0.02


def test_the_rate_is_the_one_the_library_speaks_at(speaker: Speaker) -> None:
    """A voiced sentence at pitch 50 of `en-us` has its fundamental near 100 Hz; at another rate it would not."""
    samples = speaker.say("aaaaaaaa", Voice("en-us", 50, 120))
    middle = samples[samples.size // 4 : samples.size // 2]
    correlation = np.correlate(middle, middle, "full")[middle.size :]
    lag = RATE_HZ // 250 + int(np.argmax(correlation[RATE_HZ // 250 : RATE_HZ // 50]))
    assert 70 < RATE_HZ / lag < 150


def test_the_same_words_sound_the_same_whatever_was_said_before(speaker: Speaker) -> None:
    first = speaker.say(SENTENCE)
    speaker.say("Something else altogether.", Voice("en-us+f2", 60, 170))
    assert np.array_equal(first, Speaker().say(SENTENCE))


@pytest.mark.parametrize("other", [Voice("en-us+f2"), Voice(pitch=80), Voice(pace_wpm=240)])
def test_voice_pitch_and_pace_are_heard(speaker: Speaker, other: Voice) -> None:
    assert not np.array_equal(speaker.say(SENTENCE), speaker.say(SENTENCE, other))


def test_a_faster_pace_is_shorter(speaker: Speaker) -> None:
    assert speaker.say(SENTENCE, Voice(pace_wpm=240)).size < 0.85 * speaker.say(SENTENCE, Voice(pace_wpm=160)).size


def test_every_sentence_fits_its_slot(speaker: Speaker) -> None:
    longest = max(speaker.say(text, Voice(voice, 50, 165)).size for text in (*HOOKS, *PLAIN) for voice in VOICES)
    assert longest / RATE_HZ + LEAD_S < SLOT_S


def test_an_unknown_voice_is_an_error(speaker: Speaker) -> None:
    with pytest.raises(DataError, match="has no voice 'martian'"):
        speaker.say(SENTENCE, Voice("martian"))


@pytest.mark.parametrize("text", ["", "..."])
def test_nothing_to_say_is_an_error(speaker: Speaker, text: str) -> None:
    with pytest.raises(DataError, match="said nothing"):
        speaker.say(text)


def test_a_missing_package_is_an_error_with_the_command_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DataError, match="pip install espeakng-loader"):
        Speaker()
