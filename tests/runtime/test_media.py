"""Media: what opens, what is refused and with which words, the clock, and what damage costs."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO, StringIO
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from shortcast.errors import MediaError
from shortcast.runtime.media import Media, Picture, ReadOptions, Sound, open_media
from shortcast.runtime.timeline import Timeline

MakeClip = Callable[..., Path]
Tone = Callable[..., NDArray[np.float32]]

GREY = [(i / 25, 128) for i in range(50)]


def read(source: object, **options: object) -> tuple[list[Picture], list[Sound], Media]:
    with open_media(source, options=ReadOptions(**options)) as media:  # type: ignore[arg-type]
        events = list(media.events())
    return [e for e in events if isinstance(e, Picture)], [e for e in events if isinstance(e, Sound)], media


def seconds_of(sounds: list[Sound]) -> float:
    return sum(len(sound.samples) for sound in sounds) / 16_000


def refusal(source: object, **options: object) -> str:
    with pytest.raises(MediaError) as caught:
        read(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------------------------------------- refusals


def test_a_path_that_cannot_be_media(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.mp4") == f"{tmp_path}/none.mp4 does not exist"
    assert refusal(str(tmp_path)) == f"{tmp_path} is a directory, not a media file"
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert refusal(empty) == f"{empty} is empty"
    assert "cannot be opened" in refusal("a\0b.mp4")
    assert "cannot be opened" in refusal(empty / "inside.mp4")


def test_a_path_that_may_not_be_read(ordinary_users_folder: Path) -> None:
    path = ordinary_users_folder / "secret.mp4"
    path.write_bytes(b"not to be read")
    path.chmod(0)
    assert refusal(path).startswith(f"{path} cannot be opened: Permission denied")


def test_a_name_that_looks_like_a_protocol_is_a_file(make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip("plain.mp4", pictures=GREY).rename(tmp_path / "concat:a|b.mp4")
    monkeypatch.chdir(tmp_path)
    pictures, _, _ = read("concat:a|b.mp4")
    assert len(pictures) == 50


def test_a_name_with_control_characters_stays_on_one_line(tmp_path: Path) -> None:
    odd = tmp_path / "two\nlines\x1b.mp4"
    odd.write_bytes(b"text")
    assert refusal(odd) == f"{tmp_path}/two?lines?.mp4 is not a media file FFmpeg knows"


@pytest.mark.parametrize("source", [3, None, object(), ["a.mp4"]])
def test_something_that_is_no_source(source: object) -> None:
    assert refusal(source).startswith("a source is a path, a URL, '-' or an object with read()")


def test_no_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert refusal("-") == "standard input is closed, or is no byte stream"


def test_an_object_that_cannot_be_read(make_clip: MakeClip) -> None:
    assert "binary mode" in refusal(StringIO("text"))
    closed = BytesIO(b"x")
    closed.close()
    assert "closed file" in refusal(closed)
    assert refusal(BytesIO()) == "the file object is empty"
    with make_clip("only-write.mp4", pictures=GREY).open("ab") as file:
        assert refusal(file).startswith(file.name)


class Fragments:
    """An object whose `read` does as it likes."""

    def __init__(self, answer: Callable[[int], object]) -> None:
        self._answer = answer

    def read(self, size: int) -> object:
        return self._answer(size)


def test_a_read_with_nothing_to_say_yet_is_refused() -> None:
    assert "non-blocking" in refusal(Fragments(lambda size: None))


def test_a_read_that_returns_more_than_asked_for_is_cut_to_size(make_clip: MakeClip, tone: Tone) -> None:
    path = make_clip("clip.mkv", pictures=GREY, sound=tone(2.0))
    data = BytesIO(path.read_bytes())
    pictures, sounds, _ = read(Fragments(lambda size: data.read(1 << 20)))
    expected_pictures, expected_sounds, _ = read(path)
    assert len(pictures) == len(expected_pictures)
    assert seconds_of(sounds) == seconds_of(expected_sounds)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("concat.mp4", "ffconcat version 1.0\nfile secret.mp4\n"),
        ("hls.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nsecret.mp4\n#EXT-X-ENDLIST\n"),
        ("hls.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nsecret.mp4\n#EXT-X-ENDLIST\n"),
        ("network.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/secret.mp4\n#EXT-X-ENDLIST\n"),
        ("session.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"),
    ],
)
def test_a_playlist_does_not_play_other_files(make_clip: MakeClip, tmp_path: Path, name: str, content: str) -> None:
    make_clip("secret.mp4", pictures=GREY)
    (tmp_path / name).write_text(content)
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name} is not ")
    assert refusal(BytesIO(content.encode())).startswith("the file object is not ")


def test_a_still_image_is_not_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    with av.open(str(path), "w", format="image2") as out:
        stream = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgb24"
        out.mux(stream.encode(av.VideoFrame(16, 16, "rgb24")))
        out.mux(stream.encode(None))
    assert "still images" in refusal(path)


def test_the_modality_asked_for_must_be_there(make_clip: MakeClip, tone: Tone) -> None:
    silent = make_clip("silent.mp4", pictures=GREY)
    assert "has no audio stream" in refusal(silent, use_pictures=False)
    heard = make_clip("heard.m4a", sound=tone(1.0))
    assert "has no video stream" in refusal(heard, use_sound=False)


def test_a_bomb_is_refused_before_it_is_decoded(make_clip: MakeClip) -> None:
    """In a process of its own: one decoded picture of 8192x8192 is 100 MB."""
    bomb = make_clip("bomb.mp4", pictures=[(0.0, 128)], size=(8192, 8192))
    code = (
        "import resource, sys, time\n"
        "from shortcast.errors import MediaError\n"
        "from shortcast.runtime.media import open_media\n"
        "started = time.perf_counter()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    open_media(sys.argv[1])\n"
        "except MediaError as error:\n    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bomb)], capture_output=True, text=True, check=True, timeout=60)
    message, grown_kib = done.stdout.splitlines()
    assert message == f"{bomb} has pictures of 8192x8192, over the limit of 16777216 pixels"
    assert int(grown_kib) < 40 * 1024
    assert done.stderr == ""


def test_pictures_that_grow_over_the_limit_in_mid_stream_are_lost(make_clip: MakeClip, tmp_path: Path) -> None:
    small = make_clip("small.ts", pictures=GREY, size=(96, 160))
    large = make_clip("large.ts", pictures=GREY, size=(320, 320), offset_s=2.0)
    both = tmp_path / "grows.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    pictures, _, media = read(both, max_pixels=200 * 200)
    assert {(p.frame.width, p.frame.height) for p in pictures} == {(96, 160)}
    assert len(pictures) >= 45  # the decoder throws away the few it still holds when it refuses the new size
    assert media.lost_packets >= 45


# --------------------------------------------------------------------------------------------------------------------- damage


def damaged_video(path: Path, target: Path) -> None:
    """Copies a clip with every packet of video turned to noise."""
    noise = np.random.default_rng(0)
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if not packet.size:
                continue
            copy = packet
            if packet.stream.type == "video":
                copy = av.Packet(noise.integers(0, 255, packet.size, np.uint8).tobytes())
                copy.pts, copy.dts, copy.time_base, copy.is_keyframe = packet.pts, packet.dts, packet.time_base, packet.is_keyframe
            copy.stream = streams[packet.stream_index]
            out.mux(copy)


def test_sound_alone_where_no_picture_decodes(make_clip: MakeClip, tone: Tone, tmp_path: Path) -> None:
    damaged_video(make_clip("good.mkv", pictures=[(i / 25, 128) for i in range(100)], sound=tone(4.0)), tmp_path / "noise.mkv")
    pictures, sounds, media = read(tmp_path / "noise.mkv")
    assert pictures == []
    assert seconds_of(sounds) == pytest.approx(4.0, abs=0.1)
    assert media.lost_packets > 50
    assert not media.info.has_video
    assert media.info.has_audio


def test_a_stream_with_too_many_errors_in_a_row_is_given_up(make_clip: MakeClip, tone: Tone, tmp_path: Path) -> None:
    damaged_video(make_clip("good.mkv", pictures=GREY, sound=tone(2.0)), tmp_path / "noise.mkv")
    _, sounds, media = read(tmp_path / "noise.mkv", max_consecutive_errors=5)
    assert media.truncated
    assert seconds_of(sounds) == pytest.approx(2.0, abs=0.1)
    assert "nothing in it decodes (h264" in refusal(tmp_path / "noise.mkv", use_sound=False)


def test_bit_flips_cost_packets_and_not_the_clip(make_clip: MakeClip, tone: Tone) -> None:
    rng = np.random.default_rng(4)
    pictures = [(i / 25, rng.integers(0, 255, (128, 72, 3), np.uint8)) for i in range(100)]
    data = np.frombuffer(make_clip("flips.ts", pictures=pictures, sound=tone(4.0)).read_bytes(), np.uint8).copy()
    data[rng.integers(len(data) // 10, len(data), 200)] ^= 0x55
    shown, sounds, _ = read(BytesIO(data.tobytes()))
    assert len(shown) > 60
    assert seconds_of(sounds) > 2


def wav_of_floats(samples: NDArray[np.float32], path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_f32le", rate=16_000, layout="mono")
        for start in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def test_sound_that_is_no_number_is_silenced_and_marked(tone: Tone, tmp_path: Path) -> None:
    samples = tone(1.0)
    samples[4000:4100] = np.nan
    samples[8000] = np.inf
    samples[9000] = 7.0
    _, sounds, _ = read(wav_of_floats(samples, tmp_path / "nan.wav"))
    got = np.concatenate([sound.samples for sound in sounds])
    valid = np.concatenate([np.ones(len(s.samples), bool) if s.valid is None else s.valid for s in sounds])
    assert np.isfinite(got).all()
    assert sorted(np.flatnonzero(~valid)) == [*range(4000, 4100), 8000]
    assert got[9000] == 1.0


def test_a_new_sample_rate_in_mid_stream_goes_on(make_clip: MakeClip, tone: Tone, tmp_path: Path) -> None:
    first = make_clip("a.ts", sound=tone(2.0, rate_hz=44_100), rate_hz=44_100)
    second = make_clip("b.ts", sound=tone(2.0, rate_hz=48_000), rate_hz=48_000, offset_s=2.0)
    both = tmp_path / "rates.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    _, sounds, media = read(both)
    assert seconds_of(sounds) == pytest.approx(4.0, abs=0.15)
    samples = np.concatenate([sound.samples for sound in sounds])
    for start in (8000, 48_000):  # the tone keeps its pitch at either rate
        spectrum = np.abs(np.fft.rfft(samples[start : start + 8000]))
        assert np.argmax(spectrum) * 2 == pytest.approx(440, abs=2)
    assert media.lost_packets == 0


def test_cover_art_is_not_video(make_clip: MakeClip, tone: Tone, tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    cover = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 200, np.uint8), format="rgb24").reformat(format="yuvj420p")
    with av.open(str(make_clip("plain.m4a", sound=tone(2.0)))) as source, av.open(str(path), "w", format="mp4") as out:
        audio = out.add_stream_from_template(source.streams.audio[0])
        art = out.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 64, 64, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        for packet in art.encode(cover) + art.encode(None):
            out.mux(packet)
        for packet in source.demux():
            if packet.size:
                packet.stream = audio
                out.mux(packet)
    with av.open(str(path)) as check:
        assert check.streams.video[0].disposition & av.stream.Disposition.attached_pic
    pictures, sounds, media = read(path)
    assert pictures == []
    assert not media.info.has_video
    assert seconds_of(sounds) == pytest.approx(2.0, abs=0.1)
    assert "has no video stream" in refusal(path, use_sound=False)


# ---------------------------------------------------------------------------------------------------------------------- pipes


def test_an_mp4_whose_index_comes_last_is_read_from_a_pipe(make_clip: MakeClip, tone: Tone) -> None:
    path = make_clip("plain.mp4", pictures=GREY, sound=tone(2.0))
    data = path.read_bytes()
    assert data.index(b"mdat") < data.index(b"moov")
    pipe = BytesIO(data)
    pictures, sounds, media = read(Fragments(lambda size: pipe.read(min(size, 4096))))
    expected_pictures, expected_sounds, _ = read(path)
    assert [p.start_s for p in pictures] == [p.start_s for p in expected_pictures]
    assert seconds_of(sounds) == seconds_of(expected_sounds)
    assert not media.truncated
    cut = BytesIO(data[: len(data) // 2])
    assert "moov atom missing" in refusal(Fragments(lambda size: cut.read(min(size, 4096))))


def test_standard_input_as_file_and_as_pipe(make_clip: MakeClip, tone: Tone) -> None:
    path = make_clip("in.mp4", pictures=GREY, sound=tone(2.0))
    code = (
        "from shortcast.runtime.media import open_media\nwith open_media('-') as media:\n    print(media.name, len(list(media.events())))\n"
    )
    run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=False, check=True, timeout=60)
    with path.open("rb") as file:
        as_file = run(stdin=file)
    as_pipe = run(input=path.read_bytes())
    assert as_file.stdout == as_pipe.stdout
    assert as_file.stdout.startswith(b"standard input ")
    assert as_file.stderr == as_pipe.stderr == b""


def test_nothing_is_printed_for_broken_files(data_clips: Path) -> None:
    """PyAV is silent by default; this notices if a release changes that, and any crash."""
    code = (
        "import sys\n"
        "from shortcast.errors import MediaError\n"
        "from shortcast.runtime.media import open_media\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        with open_media(path) as media:\n            list(media.events())\n"
        "    except MediaError:\n        pass\n"
    )
    paths = sorted(str(path) for path in (data_clips / "broken").iterdir())
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# ------------------------------------------------------------------------------------------------------------------------ URLs


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_clip_over_http(make_clip: MakeClip, tone: Tone, tmp_path: Path) -> None:
    path = make_clip("web.mp4", pictures=GREY, sound=tone(2.0))
    with served(tmp_path) as url:
        pictures, _, media = read(f"{url}/web.mp4?signature=secret")
        missing = refusal(f"{url}/none.mp4")
    assert len(pictures) == len(read(path)[0])
    assert media.name.endswith("/web.mp4")
    assert "404" in missing


def test_a_remote_playlist_reads_no_local_file(make_clip: MakeClip, tmp_path: Path) -> None:
    secret = make_clip("secret.ts", pictures=GREY)
    playlist = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
    (tmp_path / "good.m3u8").write_text(playlist.format("secret.ts"))
    (tmp_path / "evil.m3u8").write_text(playlist.format(f"file://{secret}"))
    with served(tmp_path) as url:
        assert len(read(f"{url}/good.m3u8")[0]) == 50
        refusal(f"{url}/evil.m3u8")


def test_a_url_of_an_unknown_kind_or_without_a_server() -> None:
    assert refusal("gopher://host/clip.mp4").startswith("gopher://host/clip.mp4 cannot be opened: gopher:// is none of")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        message = refusal(f"http://user:password@127.0.0.1:{unused.getsockname()[1]}/clip.mp4")
    assert "refused" in message
    assert "password" not in message


def test_a_file_url_is_a_path(make_clip: MakeClip) -> None:
    path = make_clip("with space.mp4", pictures=GREY)
    assert len(read(path.as_uri())[0]) == 50


@pytest.mark.parametrize("sent", [0, 400_000])
def test_a_server_that_stalls_is_not_waited_for(make_clip: MakeClip, tone: Tone, sent: int) -> None:
    rng = np.random.default_rng(0)
    pictures = [(i / 25, rng.integers(0, 255, (128, 72, 3), np.uint8)) for i in range(100)]
    data = make_clip("stall.ts", pictures=pictures, sound=tone(4.0)).read_bytes()[:sent]
    server = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        connection, _ = server.accept()
        held.append(connection)
        connection.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    started = time.perf_counter()
    try:
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        options = {"open_timeout_s": 1.0, "read_timeout_s": 1.0}
        if sent:
            shown, _, media = read(url, **options)
            assert media.truncated
            assert len(shown) > 10
        else:
            assert refusal(url, **options) == f"{url} did not answer within 1 s"
    finally:
        thread.join()
        for connection in held:
            connection.close()
        server.close()
    assert time.perf_counter() - started < 8


# --------------------------------------------------------------------------------------------------------------------- the clock


def test_the_earliest_start_is_the_origin() -> None:
    clock = Timeline([1.4, 1.5])
    video, audio = clock.track(), clock.track()
    assert clock.place(audio, 1.5, 0.02) == pytest.approx(0.1)
    assert clock.place(video, 1.4, 0.04) == pytest.approx(0.0)


@pytest.mark.parametrize("start", [5000.0, -5000.0, 20.0])
def test_a_start_that_cannot_be_true_is_not_the_origin(start: float) -> None:
    clock = Timeline([start])
    assert clock.place(clock.track(), 10.0, 0.04) == 0.0


def test_a_missing_timestamp_follows_the_unit_before() -> None:
    clock = Timeline([])
    track = clock.track()
    assert [clock.place(track, pts, 0.5) for pts in (None, None, 1.0, None)] == [0.0, 0.5, 0.0, 0.5]


def test_a_jump_shifts_both_streams_alike_and_counts_once() -> None:
    clock = Timeline([0.0])
    video, audio = clock.track(), clock.track()
    places = []
    for step in range(8):  # video jumps by 1000 s after 4 units, sound two units later
        places.append(clock.place(video, step + (1000.0 if step >= 4 else 0.0), 1.0))
        sound_step = step - 2
        if sound_step >= 0:
            places.append(clock.place(audio, sound_step + (1000.0 if sound_step >= 4 else 0.0), 1.0))
    assert clock.epoch == 1
    assert places == [0, 1, 2, 0, 3, 1, 4, 2, 5, 3, 6, 4, 7, 5]


def test_a_jump_back_counts_and_small_steps_do_not() -> None:
    clock = Timeline([])
    track = clock.track()
    for pts_s in (0.0, 1.0, 0.6, 5.5):
        clock.place(track, pts_s, 0.04)
    assert clock.epoch == 0
    assert clock.place(track, 2.0, 0.04) == pytest.approx(5.54)
    assert clock.epoch == 1


def test_a_pause_while_the_other_stream_goes_on_is_no_jump() -> None:
    clock = Timeline([])
    video, audio = clock.track(), clock.track()
    clock.place(video, 0.0, 0.04)
    for second in range(20):
        clock.place(audio, float(second), 1.0)
    assert clock.place(video, 19.0, 0.04) == 19.0
    assert clock.epoch == 0


def test_a_stream_that_starts_late_is_no_jump_and_one_on_another_clock_is_brought_near() -> None:
    clock = Timeline([])
    video, late, strange = clock.track(), clock.track(), clock.track()
    for second in range(9):
        clock.place(video, float(second), 1.0)
    assert clock.place(late, 8.0, 0.02) == 8.0
    assert clock.place(strange, 90_000.0, 0.02) == pytest.approx(9.0)
    assert clock.epoch == 0


def test_closing_twice_and_reopening_many_times_leaves_nothing_behind(make_clip: MakeClip, tone: Tone) -> None:
    path = make_clip("again.mp4", pictures=GREY, sound=tone(2.0))
    tasks = Path("/proc/self/task")
    read(path, decode_threads=4)
    before = len(list(tasks.iterdir())) if tasks.exists() else 0
    for _ in range(20):
        media = open_media(path, options=ReadOptions(decode_threads=4))
        next(media.events())
        media.close()
        media.close()
        del media
    if tasks.exists():
        assert len(list(tasks.iterdir())) <= before
