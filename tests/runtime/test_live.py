"""Live sources against real servers on loopback: HTTP of every temper, HLS, TCP, UDP, named pipes; and a scorer that is too slow."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from shortcast.benchmarks.live_feed import slices, small_clip
from shortcast.errors import MediaError
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.chunks import Chunk, ChunkStream, ReadOptions, read_chunks
from shortcast.runtime.contract import Contract
from shortcast.runtime.scorer import Scorer

SECONDS = 10


@pytest.fixture(scope="module")
def contract(demo: Path) -> Contract:
    return Bundle.open(demo).contract


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "clip.mp4"
    small_clip(path, seconds=SECONDS, fps=10)
    return path


@pytest.fixture(scope="module")
def media(clip: Path) -> bytes:
    """Some 9.5 s as MPEG-TS: the last window is a partial one."""
    return b"".join(piece.data for piece in slices(clip, SECONDS - 0.5))


@pytest.fixture(scope="module")
def whole(media: bytes, contract: Contract, tmp_path_factory: pytest.TempPathFactory) -> list[Chunk]:
    """What a file of the same bytes gives."""
    path = tmp_path_factory.mktemp("whole") / "clip.ts"
    path.write_bytes(media)
    with read_chunks(path, contract) as stream:
        assert not stream.live
        return list(stream)


def same(chunks: list[Chunk], expected: list[Chunk]) -> bool:
    return len(chunks) == len(expected) and all(
        np.array_equal(one.frames, other.frames) and np.array_equal(one.samples, other.samples) and one.final == other.final
        for one, other in zip(chunks, expected, strict=True)
    )


def read(source: object, contract: Contract, **options: object) -> tuple[list[Chunk], ChunkStream]:
    with read_chunks(source, contract, options=ReadOptions(**options)) as stream:  # type: ignore[arg-type]
        return list(stream), stream


# ------------------------------------------------------------------------------------------------------------------------ HTTP


class Server:
    """An HTTP server whose answers are scripted; requests are counted."""

    def __init__(self, answers: list[Callable[["Answer"], None]]) -> None:
        self.answers = answers
        self.requests = 0
        self.done = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Answer, self))
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/live.ts?token=secret"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.done.set()
        self.http.shutdown()
        self.http.server_close()


class Answer(BaseHTTPRequestHandler):
    """One request: the n-th gets the n-th answer, all later ones the last."""

    def __init__(self, server: Server, *rest: object) -> None:
        self.script = server
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        number = self.script.requests
        self.script.requests += 1
        with suppress(OSError):
            self.script.answers[min(number, len(self.script.answers) - 1)](self)

    def log_message(self, *args: object) -> None:
        pass

    def begin(self, length: int | None = None, *, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "video/mp2t")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()


def sends(data: bytes, *, length: int | None = None, then_stalls: bool = False, pieces: int = 1) -> Callable[[Answer], None]:
    def answer(request: Answer) -> None:
        request.begin(length)
        size = -(-len(data) // pieces)
        for start in range(0, len(data), size):
            request.wfile.write(data[start : start + size])
            time.sleep(0.01 if pieces > 1 else 0)
        if then_stalls:
            request.script.done.wait(30)

    return answer


def chunked(data: bytes, *, whole: bool = True) -> Callable[[Answer], None]:
    def answer(request: Answer) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.send_header("Connection", "close")
        request.end_headers()
        for start in range(0, len(data), 40_000):
            part = data[start : start + 40_000]
            request.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        request.wfile.write(b"0\r\n\r\n" if whole else b"ffff\r\n")
        request.close_connection = True

    return answer


def refuses(status: int) -> Callable[[Answer], None]:
    return lambda request: request.begin(0, status=status)


@contextmanager
def serving(*answers: Callable[[Answer], None]) -> Iterator[Server]:
    server = Server(list(answers))
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnects without their pauses."""
    monkeypatch.setattr("shortcast.runtime.lasting.FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("shortcast.runtime.lasting.LONGEST_PAUSE_S", 0.05)


@pytest.mark.parametrize("how", ["with a length", "chunked", "until it closes", "slowly"])
def test_http_gives_what_the_file_gives(media: bytes, whole: list[Chunk], contract: Contract, how: str) -> None:
    answers = {
        "with a length": sends(media, length=len(media)),
        "chunked": chunked(media),
        "until it closes": sends(media),
        "slowly": sends(media, length=len(media), pieces=60),
    }
    with serving(answers[how]) as server:
        chunks, stream = read(server.url, contract)
    assert same(chunks, whole)
    assert stream.live == (how in ("chunked", "until it closes"))
    assert stream.usually == "wait"
    assert "secret" not in stream.name


def test_http_that_stalls_ends_after_the_timeout(media: bytes, whole: list[Chunk], contract: Contract) -> None:
    started = time.perf_counter()
    with serving(sends(media[: len(media) // 2], then_stalls=True)) as server:
        chunks, stream = read(server.url, contract, read_timeout_s=1.0)
    assert time.perf_counter() - started < 20
    assert 1 < len(chunks) < len(whole)
    assert chunks[-1].final
    assert stream.interruption == "sent nothing for 1 s"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("length", [True, False], ids=["a file", "no length"])
def test_http_that_dies_and_repeats_itself_is_scored_once(media: bytes, whole: list[Chunk], contract: Contract, length: bool) -> None:
    told: list[str] = []
    half = media[: len(media) // 2]
    first = sends(half, length=len(media)) if length else chunked(half, whole=False)
    then = sends(media, length=len(media)) if length else chunked(media)
    with serving(first, refuses(503), then) as server:
        chunks, stream = read(server.url, contract, reconnect=4, tell=told.append)
    assert [chunk.index for chunk in chunks] == [chunk.index for chunk in whole]
    assert [chunk.final for chunk in chunks] == [chunk.final for chunk in whole]
    assert chunks[-1].end_s == whole[-1].end_s
    assert all(chunk.frame_mask.mean() > 0.9 for chunk in chunks[:-1])
    assert (sum(chunk.reconnects for chunk in chunks), chunks[-1].epoch) == (1, 1)
    assert sum(chunk.gap_s for chunk in chunks) == 0
    assert server.requests == 3
    name = server.url.split("?")[0]
    assert [sentence.removeprefix(name)[:12] for sentence in told][1:] == [" cannot be o", " is back aft"]
    assert told[0].removeprefix(name).startswith((" broke off: ", " ended; trying again in"))
    assert not any("secret" in sentence for sentence in told)
    assert not stream.truncated


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(("status", "requests"), [(403, 2), (401, 2), (404, 6), (503, 9)])
def test_refusals_are_not_tried_for_ever(media: bytes, contract: Contract, status: int, requests: int) -> None:
    told: list[str] = []
    with serving(chunked(media[: len(media) // 2], whole=False), refuses(status)) as server:
        chunks, _ = read(server.url, contract, reconnect=8, tell=told.append)
    assert server.requests == requests
    assert chunks[-1].final
    assert ("not tried again" if status < 500 else "given up after 8 tries") in told[-1]


def test_what_does_not_open_at_first_is_not_tried_again(contract: Contract) -> None:
    with serving(refuses(404)) as server:
        with pytest.raises(MediaError, match="404"):
            read(server.url, contract, reconnect=8)
        assert server.requests == 1


@pytest.mark.usefixtures("soon")
def test_what_opens_and_yields_nothing_is_given_up(media: bytes, contract: Contract) -> None:
    with serving(chunked(media[: len(media) // 2], whole=False), sends(b"no media at all" * 1000)) as server:
        chunks, _ = read(server.url, contract, reconnect=3)
        assert server.requests == 4
    assert chunks[-1].final


# ------------------------------------------------------------------------------------------------------------------------- HLS


class Playlist:
    """Writes a live HLS playlist, a window that slides over a clip, in real time; `ENDLIST` at the end."""

    def __init__(self, clip: Path, folder: Path, seconds: float) -> None:
        self._thread = threading.Thread(target=self._write, args=(clip, folder / "live.m3u8", seconds), daemon=True)
        self.ended = threading.Event()
        self._thread.start()

    def _write(self, clip: Path, path: Path, seconds: float) -> None:
        aside = path.with_name("all.ts")
        aside.write_bytes(b"".join(piece.data for piece in slices(clip, seconds)))
        options = {"hls_time": "1", "hls_list_size": "5", "hls_flags": "delete_segments+temp_file"}
        with av.open(str(aside)) as source, av.open(str(path), "w", format="hls", options=options) as out:
            streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
            started, first_s = time.monotonic(), None
            for packet in source.demux():
                if packet.dts is None:
                    continue
                at_s = float(packet.dts * packet.time_base)
                first_s = at_s if first_s is None else first_s
                time.sleep(max(0.0, started + at_s - first_s - time.monotonic()))
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
        self.ended.set()


@contextmanager
def folder_served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.usefixtures("soon")
def test_a_live_playlist_is_followed_to_its_end(clip: Path, contract: Contract, tmp_path: Path) -> None:
    told: list[str] = []
    playlist = Playlist(clip, tmp_path, 12.0)
    while not (tmp_path / "live.m3u8").exists():
        time.sleep(0.05)
    with folder_served(tmp_path) as url, read_chunks(f"{url}/live.m3u8", contract, options=ReadOptions(tell=told.append)) as stream:
        assert stream.live
        assert stream.usually == "drop-oldest"
        chunks = []
        for chunk in stream:
            chunks.append(chunk)
            assert chunk.final or not playlist.ended.is_set() or chunk.index > 2
    assert playlist.ended.wait(10)
    assert 10 < stream.decoded_s < 12.5
    assert [chunk.final for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [chunk.reconnects for chunk in chunks] == [0] * len(chunks)
    assert not any("is back" in sentence for sentence in told)


def test_a_complete_playlist_is_a_file(clip: Path, contract: Contract, tmp_path: Path) -> None:
    with av.open(str(clip)) as source, av.open(str(tmp_path / "all.m3u8"), "w", format="hls", options={"hls_list_size": "0"}) as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    with folder_served(tmp_path) as url:
        chunks, stream = read(f"{url}/all.m3u8", contract)
    assert not stream.live
    assert len(chunks) == SECONDS // 2


# ----------------------------------------------------------------------------------------------------------------- TCP and UDP


def test_a_tcp_sender_that_ends_has_ended(media: bytes, whole: list[Chunk], contract: Contract) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def send() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(media)

        threading.Thread(target=send, daemon=True).start()
        chunks, stream = read(f"tcp://127.0.0.1:{server.getsockname()[1]}", contract)
    assert same(chunks, whole)
    assert (stream.live, stream.usually) == (True, "wait")


def test_udp_is_read_until_nothing_comes(clip: Path, contract: Contract) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stop = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            started = time.monotonic()
            for piece in slices(clip, 9.0):
                time.sleep(max(0.0, started + piece.due_s / 3 - time.monotonic()))
                for start in range(0, len(piece.data), 1316):
                    sender.sendto(piece.data[start : start + 1316], ("127.0.0.1", port))
            stop.wait(30)

    threading.Thread(target=send, daemon=True).start()
    chunks, stream = read(f"udp://127.0.0.1:{port}", contract, read_timeout_s=1.5, reconnect=0)
    stop.set()
    assert stream.usually == "drop-oldest"
    assert stream.interruption == "sent nothing for 1.5 s"
    assert len(chunks) >= 3
    assert chunks[-1].final


@pytest.mark.parametrize("url", ["srt://127.0.0.1:9", "rist://127.0.0.1:9"])
def test_a_protocol_that_is_not_built_in_is_said(url: str, contract: Contract) -> None:
    with pytest.raises(MediaError, match=r"not in the FFmpeg of this PyAV|is none of"):
        read(url, contract)


# ----------------------------------------------------------------------------------------------------------------------- pipes


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    if not hasattr(os, "mkfifo"):
        pytest.skip("named pipes are POSIX's")
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def test_a_named_pipe_gives_what_the_file_gives(fifo: Path, media: bytes, whole: list[Chunk], contract: Contract) -> None:
    threading.Thread(target=fifo.write_bytes, args=(media,), daemon=True).start()
    chunks, stream = read(fifo, contract)
    assert same(chunks, whole)
    assert (stream.live, stream.usually) == (True, "wait")


def test_a_named_pipe_that_nobody_writes_to_is_waited_for_as_long_as_asked(fifo: Path, contract: Contract) -> None:
    with pytest.raises(MediaError, match=r"sent nothing for 0\.3 s"):
        read(fifo, contract, read_timeout_s=0.3)


def test_a_named_pipe_that_falls_silent_ends_after_the_timeout(fifo: Path, media: bytes, contract: Contract) -> None:
    done = threading.Event()

    def write() -> None:
        with fifo.open("wb", buffering=0) as file:
            file.write(media[: len(media) // 2])
            done.wait(30)

    threading.Thread(target=write, daemon=True).start()
    chunks, stream = read(fifo, contract, read_timeout_s=0.5)
    done.set()
    assert chunks[-1].final
    assert stream.interruption == "broke off: it sent nothing for 0.5 s"


def test_a_chunk_is_given_before_the_next_one_has_begun(clip: Path, contract: Contract, fifo: Path) -> None:
    """The picture after the last slot is enough: neither a quarter of a second of the next chunk, nor its first picture."""
    pieces = list(slices(clip, 6.0))
    gone_on = threading.Event()

    def write() -> None:
        with fifo.open("wb", buffering=0) as file:
            for piece in pieces:
                if piece.due_s > 4.15 and not gone_on.is_set():
                    gone_on.wait(30)
                file.write(piece.data)

    threading.Thread(target=write, daemon=True).start()
    with read_chunks(fifo, contract) as stream:
        assert next(stream).index == 0
        assert next(stream).index == 1
        gone_on.set()
        *_, last = stream
    assert last.final


def test_an_end_on_the_edge_of_a_chunk_gives_it_again(clip: Path, contract: Contract, fifo: Path, demo: Path) -> None:
    data = b"".join(piece.data for piece in slices(clip, 4.05))
    threading.Thread(target=fifo.write_bytes, args=(data,), daemon=True).start()
    chunks, _ = read(fifo, contract)
    assert [(chunk.index, chunk.final, chunk.again) for chunk in chunks] == [(0, False, False), (1, False, False), (1, True, True)]
    (fifo.parent / "clip.ts").write_bytes(data)
    threading.Thread(target=fifo.write_bytes, args=(data,), daemon=True).start()
    with Scorer(Bundle.open(demo), threads=1) as scorer:
        options = ReadOptions(use_sound=False)
        live, filed = (list(scorer.stream(source, options=options)) for source in (fifo, fifo.parent / "clip.ts"))
    assert [score.z for score in live] == pytest.approx([filed[0].z, filed[1].z, filed[1].z], abs=1e-6)
    assert live[-1].interval == pytest.approx(filed[-1].interval)
    assert live[-1].final


# -------------------------------------------------------------------------------------------------- a scorer that is too slow


def reader_has_ended() -> bool:
    return not any(thread.name == "shortcast-ahead" for thread in threading.enumerate())


@pytest.mark.parametrize("policy", ["drop-oldest", "wait"])
def test_a_stream_that_is_faster_than_the_scorer(demo: Path, fifo: Path, media: bytes, policy: str) -> None:
    threading.Thread(target=fifo.write_bytes, args=(media,), daemon=True).start()
    with Scorer(Bundle.open(demo), threads=1) as scorer:
        options = ReadOptions(use_sound=False, when_full=policy, deadline_s=0.001)  # type: ignore[arg-type]
        stream = scorer.stream(fifo, options=options)
        scores = [next(stream)]
        deadline = time.monotonic() + 30
        while policy == "drop-oldest" and not reader_has_ended() and time.monotonic() < deadline:
            time.sleep(0.01)
        scores += stream
    # Five chunks; the first was taken before or after others made room for each other, two wait at the end.
    last = scores[-1]
    assert last.index == 4
    assert last.final
    assert len(scores) + last.dropped_chunks == 5
    assert last.pace.gap_s == pytest.approx(2.0 * last.dropped_chunks)
    assert last.dropped_chunks == (scores[-2].dropped_chunks if policy == "drop-oldest" else 0)
    assert [score.index for score in scores][-2:] == [3, 4]
    assert policy == "wait" or last.dropped_chunks >= 2
    assert last.pace.late_chunks == len(scores)
    assert all(score.pace.late_ms > 0 and score.pace.live and score.pace.deadline_ms == 1 for score in scores)


# ------------------------------------------------------------------------------------------------------------ constant memory


def test_what_a_stream_holds_does_not_grow(contract: Contract, clip: Path, fifo: Path) -> None:
    """Ten simulated minutes: the containers a stream keeps are as full at the end as they were after two."""

    def write() -> None:
        with suppress(BrokenPipeError), fifo.open("wb") as file:
            for piece in slices(clip, 600.0):
                file.write(piece.data)

    threading.Thread(target=write, daemon=True).start()
    held: list[int] = []
    with read_chunks(fifo, contract) as stream:
        for chunk in stream:
            if chunk.index in (60, 290):
                held.append(holdings(stream))
    assert len(held) == 2
    assert held[1] <= held[0] + 40


def holdings(root: object) -> int:
    """How many objects the package's own containers below an object hold."""
    seen: set[int] = set()
    count = 0
    pending: list[object] = [root]
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            pending += each.values()
            count += len(each)
        elif isinstance(each, (list, tuple, set)) or type(each).__name__ == "deque":
            pending += each  # type: ignore[arg-type]
            count += len(each)  # type: ignore[arg-type]
        elif type(each).__module__.startswith("shortcast"):
            names = [name for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ())]
            pending += [getattr(each, name) for name in names if hasattr(each, name)] + list(getattr(each, "__dict__", {}).values())
    return count
