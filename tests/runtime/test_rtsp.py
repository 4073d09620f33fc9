"""RTSP, from a server of our own on loopback: H.264 in RTP, interleaved in the RTSP connection, in real time or faster."""

import base64
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import pytest

from shortcast.benchmarks.live_feed import small_clip
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.chunks import Chunk, ReadOptions, read_chunks

MOST_PAYLOAD = 1400


class Camera:
    """Plays a clip to whoever connects, from where its clock stands; `dies` cuts the connection and refuses new ones for a while."""

    def __init__(self, clip: Path, *, speed: float = 4.0) -> None:
        with av.open(str(clip)) as source:
            video = source.streams.video[0]
            packets = [packet for packet in source.demux(video) if packet.dts is not None]
            self.sps, self.pps = nal_units(bytes(video.codec_context.extradata or b""), parameter_sets=True)
            self.units = [(float(p.pts * p.time_base), nal_units(bytes(p)), bool(p.is_keyframe)) for p in packets]
        self.length_s = 10.0
        self.speed = speed
        self.started = time.monotonic()
        self.missing = False
        self.requests: list[str] = []
        self._connections: list[socket.socket] = []
        self._listen()

    def _listen(self, port: int = 0) -> None:
        self.server = socket.create_server(("127.0.0.1", port))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.server,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"rtsp://user:secret@127.0.0.1:{self.port}/live"

    def die(self) -> None:
        with suppress(OSError):  # a thread that sits in accept() would keep it open
            self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections = []

    def come_back(self, *, from_zero: bool) -> None:
        if from_zero:
            self.started = time.monotonic()
        self._listen(self.port)

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                self._connections.append(connection)
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), connection, connection.makefile("rb") as lines:
            while request := lines.readline().decode().split():
                headers = dict(line.split(": ", 1) for line in iter(lambda: lines.readline().decode().strip(), ""))
                self.requests.append(request[0])
                status = "404 Not Found" if self.missing else "200 OK"
                body = self._sdp() if request[0] == "DESCRIBE" and not self.missing else ""
                extra = {
                    "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
                    "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n",
                    "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
                }.get(request[0], "Session: 1\r\n")
                connection.sendall(f"RTSP/1.0 {status}\r\nCSeq: {headers['CSeq']}\r\n{extra}\r\n{body}".encode())
                if request[0] == "PLAY":
                    self._play(connection)
                    return

    def _sdp(self) -> str:
        sets = ",".join(base64.b64encode(unit).decode() for unit in (self.sps, self.pps))
        return (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
            f"a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}\r\na=control:track\r\n"
        )

    def _play(self, connection: socket.socket) -> None:
        """From the next keyframe on, for ever."""
        number, begun = 0, False
        for at_s, units, keyframe in self._for_ever((time.monotonic() - self.started) * self.speed):
            begun = begun or keyframe
            if not begun:
                continue
            time.sleep(max(0.0, self.started + at_s / self.speed - time.monotonic()))
            for payload, last in payloads(units):
                header = struct.pack(">BBHII", 0x80, 96 | (0x80 if last else 0), number & 0xFFFF, round(at_s * 90_000) & 0xFFFFFFFF, 7)
                connection.sendall(struct.pack(">cBH", b"$", 0, len(header) + len(payload)) + header + payload)
                number += 1

    def _for_ever(self, from_s: float) -> Iterator[tuple[float, list[bytes], bool]]:
        shift_s = 0.0
        while True:
            for at_s, units, keyframe in self.units:
                if at_s + shift_s >= from_s:
                    yield at_s + shift_s, units, keyframe
            shift_s += self.length_s


def nal_units(data: bytes, *, parameter_sets: bool = False) -> list[bytes]:
    """The NAL units of an MP4 packet, or the first two parameter sets of its avcC record."""
    units, position = [], 0
    if parameter_sets:
        position = 6
        for _ in range(2):
            size = struct.unpack_from(">H", data, position)[0]
            units.append(data[position + 2 : position + 2 + size])
            position += size + 3
        return units
    while position < len(data):
        size = struct.unpack_from(">I", data, position)[0]
        units.append(data[position + 4 : position + 4 + size])
        position += size + 4
    return units


def payloads(units: list[bytes]) -> Iterator[tuple[bytes, bool]]:
    """RTP payloads of one picture (RFC 6184), and whether each is its last; large units in fragments (FU-A)."""
    for index, unit in enumerate(units):
        last_unit = index == len(units) - 1
        if len(unit) <= MOST_PAYLOAD:
            yield unit, last_unit
            continue
        parts = [unit[i : i + MOST_PAYLOAD] for i in range(1, len(unit), MOST_PAYLOAD)]
        for number, part in enumerate(parts):
            first, last = number == 0, number == len(parts) - 1
            marks = (0x80 if first else 0) | (0x40 if last else 0) | (unit[0] & 0x1F)
            yield bytes([(unit[0] & 0xE0) | 28, marks]) + part, last and last_unit


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("camera") / "camera.mp4"
    small_clip(path, size=(180, 320))
    return path


@contextmanager
def camera(clip: Path) -> Iterator[Camera]:
    playing = Camera(clip)
    try:
        yield playing
    finally:
        playing.die()


def contract(demo: Path) -> Any:
    return Bundle.open(demo).contract


def test_a_camera_is_read_in_one_session_over_tcp(clip: Path, demo: Path) -> None:
    with camera(clip) as playing, read_chunks(playing.url, contract(demo), options=ReadOptions(max_seconds=5.0)) as stream:
        chunks = list(stream)
        assert stream.live
        assert stream.usually == "drop-oldest"
        assert "secret" not in stream.name
    assert [chunk.final for chunk in chunks] == [False, False, True]
    assert all(chunk.frame_mask.all() for chunk in chunks[:-1])
    assert playing.requests == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]


@pytest.mark.parametrize("from_zero", [False, True], ids=["the clock goes on", "the clock begins anew"])
def test_a_camera_that_dies_and_comes_back(clip: Path, demo: Path, from_zero: bool) -> None:
    told: list[str] = []
    chunks: list[Chunk] = []
    options = ReadOptions(max_seconds=11.0, reconnect=8, tell=told.append)
    with camera(clip) as playing, read_chunks(playing.url, contract(demo), options=options) as stream:
        for chunk in stream:
            chunks.append(chunk)
            if chunk.index == 1:
                playing.die()
                time.sleep(0.5)
                playing.come_back(from_zero=from_zero)
    assert [chunk.index for chunk in chunks] == list(range(6))
    assert [chunk.final for chunk in chunks] == [False] * 5 + [True]
    assert [chunk.epoch for chunk in chunks] == sorted(chunk.epoch for chunk in chunks)
    assert chunks[-1].epoch >= 1
    assert sum(chunk.reconnects for chunk in chunks) == 1
    gap_s = sum(chunk.gap_s for chunk in chunks)
    assert 0.2 < gap_s < 60
    back = [sentence for sentence in told if "is back after" in sentence]
    assert len(back) == 1
    assert f"{gap_s:.1f} s of it were missed" in back[0]
    assert not any("secret" in sentence for sentence in told)
    assert re.search(r"trying again in \d\.\d s \(1 of 8\)", told[0])


def test_a_camera_that_says_it_has_no_such_stream_is_not_asked_for_ever(clip: Path, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shortcast.runtime.lasting.FIRST_PAUSE_S", 0.01)
    told: list[str] = []
    options = ReadOptions(reconnect=1_000_000, tell=told.append)
    with camera(clip) as playing, read_chunks(playing.url, contract(demo), options=options) as stream:
        next(stream)
        playing.missing = True
        playing.die()
        playing.come_back(from_zero=False)
        *_, last = stream
    assert last.final
    assert told[-1].endswith("not tried again")
    assert len(told) == 6
