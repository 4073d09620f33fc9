"""What this machine can at best, measured: matrix products and copies, for a number of threads.

    python -m shortcast.benchmarks.ceilings THREADS ROUNDS      (prints them as JSON; `measure_ceilings` starts it)

Each number of threads has a process of its own: libraries read how many threads they may use when they are loaded, and no setting of the
caller's reaches them. A product runs in NumPy's BLAS and in ONNX Runtime, whose kernels the engines use; the better one is the ceiling.
A copy of n bytes reads n and writes n, and counts as 2 n.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from .results import Ceiling

_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_SIDE = 768
"""Of the square matrices: large enough that reading them costs nothing beside multiplying, small enough for the caches."""
_ROUND_S = 0.12
"""A round repeats its work for about this long."""
_TIMEOUT_S = 300
_L2_BYTES, _L3_BYTES = 1 << 20, 32 << 20
"""Where the system does not tell its caches."""
_MOST_COPY_BYTES = 1 << 30


def measure_ceilings(threads: Sequence[int], *, rounds: int = 7) -> tuple[Ceiling, ...]:
    """Every ceiling at each number of threads; the value is the best round's, and every round is kept.

    Args:
        threads: numbers of threads.
        rounds: how often each is measured.

    Raises:
        EngineError: the measuring process failed.
    """
    return tuple(ceiling for count in threads for ceiling in _measured_aside(count, rounds))


def cache_bytes(level: int, *, sys_cpu: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int | None:
    """Size of the first CPU's cache of a level; None where the system doesn't tell."""
    for index in sorted(sys_cpu.glob("index*")):
        try:
            kind, size = ((index / name).read_text().strip() for name in ("type", "size"))
            if int((index / "level").read_text()) == level and kind != "Instruction":
                return int(size[:-1]) << {"K": 10, "M": 20, "G": 30}[size[-1]]
        except (OSError, ValueError, KeyError):
            continue
    return None


def blas_kernel() -> str:
    """Which kernels NumPy's BLAS took, for this CPU or because a setting of the environment held it back."""
    name = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    try:
        maps = Path("/proc/self/maps").read_text().split()
        library = ctypes.CDLL(next(path for path in maps if "openblas" in path))
    except (OSError, StopIteration):
        return f"{name}, kernels unknown"
    for prefix, suffix in (("scipy_", "64_"), ("", "64_"), ("scipy_", ""), ("", "")):
        function = getattr(library, f"{prefix}openblas_get_corename{suffix}", None)
        if function is not None:
            function.restype = ctypes.c_char_p
            return f"{name}, {function().decode()} kernels"
    return f"{name}, kernels unknown"


def _measured_aside(threads: int, rounds: int) -> list[Ceiling]:
    environ = {**os.environ, **dict.fromkeys(_THREAD_SETTINGS, str(threads))}
    command = [sys.executable, "-m", "shortcast.benchmarks.ceilings", str(threads), str(rounds)]
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"measuring what this machine can at best took more than {_TIMEOUT_S} s with {threads} threads") from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
        raise EngineError(f"what this machine can at best could not be measured with {threads} threads: {last[0]}") from error
    return [Ceiling(**{**plain, "samples": tuple(plain["samples"])}) for plain in json.loads(done.stdout)]


def _measure(threads: int, rounds: int) -> Iterator[Ceiling]:
    product_flops = 2.0 * _SIDE**3
    for name, work in _products(threads):
        yield _ceiling(f"{name}, {_SIDE} x {_SIDE}", threads, "FLOP/s", product_flops, _rounds(work, rounds))
    with ThreadPoolExecutor(threads) as pool:
        for where, size in _copy_sizes(threads):
            work = _copy(pool, threads, size)
            yield _ceiling(f"copy {where}, {size / 2**20:.3g} MiB", threads, "B/s", 2.0 * size, _rounds(work, rounds))


def _ceiling(name: str, threads: int, unit: str, amount: float, seconds: list[float]) -> Ceiling:
    rates = tuple(amount / each for each in seconds)
    return Ceiling(name, threads, max(rates), unit, rates)


def _products(threads: int) -> Iterator[tuple[str, Callable[[], object]]]:
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((_SIDE, _SIDE), dtype=np.float32) for _ in range(2))
    out = np.empty_like(left)
    yield f"float32 product (numpy, {blas_kernel()})", lambda: np.matmul(left, right, out=out)
    yield "float32 product (onnxruntime)", _onnx_product("MatMul", left, right, threads)
    # Seven bits, so that no kernel saturates where pairs are summed in sixteen.
    unsigned, signed = (generator.integers(low, 64, (_SIDE, _SIDE)) for low in (0, -64))
    yield "int8 product (onnxruntime)", _onnx_product("MatMulInteger", unsigned.astype(np.uint8), signed.astype(np.int8), threads)


def _onnx_product(operator: str, left: NDArray[np.generic], right: NDArray[np.generic], threads: int) -> Callable[[], object]:
    """A graph of one product; the right side is a weight, so that the runtime may pack it beforehand as it does for engines."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(left.dtype)
    out = TensorProto.INT32 if operator == "MatMulInteger" else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", kind, left.shape)],
        [helper.make_tensor_value_info("y", out, (left.shape[0], right.shape[1]))],
        [numpy_helper.from_array(right, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": left})


def _copy_sizes(threads: int) -> Iterator[tuple[str, int]]:
    """Source and target together fill half a cache of each thread, or four times the last cache."""
    yield "within L2", threads * (cache_bytes(2) or _L2_BYTES) // 4
    yield "beyond the caches", min(_MOST_COPY_BYTES, 2 * max(cache_bytes(3) or _L3_BYTES, _L3_BYTES))


def _copy(pool: ThreadPoolExecutor, threads: int, size: int) -> Callable[[], object]:
    """Each thread copies a part of its own, so often that starting it costs little; NumPy gives up the interpreter's lock."""
    part = size // threads
    repeats = max(1, (16 << 20) // part)
    pairs = [(np.ones(part, np.uint8), np.zeros(part, np.uint8)) for _ in range(threads)]

    def some(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
        for _ in range(repeats):
            np.copyto(pair[1], pair[0])

    def work() -> None:
        list(pool.map(some, pairs))

    work.repeats = repeats  # type: ignore[attr-defined]
    return work


def _rounds(work: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of one repetition, in each round; one round before the first is not counted."""
    repeats = getattr(work, "repeats", 1)
    begun = perf_counter()
    work()
    work()
    calls = max(1, round(_ROUND_S / max(1e-6, (perf_counter() - begun) / 2)))
    return [_round_s(work, calls) / repeats for _ in range(rounds + 1)][1:]


def _round_s(work: Callable[[], object], calls: int) -> float:
    begun = perf_counter()
    for _ in range(calls):
        work()
    return (perf_counter() - begun) / calls


if __name__ == "__main__":
    from dataclasses import asdict

    json.dump([asdict(ceiling) for ceiling in _measure(int(sys.argv[1]), int(sys.argv[2]))], sys.stdout)
