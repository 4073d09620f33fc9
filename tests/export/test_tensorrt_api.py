"""Every TensorRT name the engine modules use exists in each TensorRT they are for: `tensorrt_api.json` has the names, none is imported."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    ROOT / "export" / "attestation.py",
    ROOT / "export" / "tensorrt.py",
    *sorted((ROOT / "export").glob("trt_*.py")),
    ROOT / "runtime" / "engines" / "runtime_cache.py",
    *sorted((ROOT / "runtime" / "engines").glob("tensorrt*.py")),
]
INVENTORY = json.loads(Path(__file__).with_name("tensorrt_api.json").read_text())
VERSIONS = tuple(INVENTORY["beyond that"])

OWNERS = {
    "builder": ("Builder",),
    "cache": ("ITimingCache",),
    "config": ("IBuilderConfig", "IRuntimeConfig"),
    "context": ("IExecutionContext",),
    "create_engine_inspector": ("EngineInspector",),
    "engine": ("ICudaEngine",),
    "failure": ("ParserError",),
    "get_timing_cache": ("ITimingCache",),
    "layer": ("ILayer", "IConstantLayer", "IConvolutionLayer", "IDeconvolutionLayer"),
    "native": ("IRuntimeCache",),
    "network": ("INetworkDefinition",),
    "parser": ("OnnxParser",),
    "profile": ("IOptimizationProfile",),
    "runtime": ("Runtime",),
    "tensor": ("ITensor",),
    "trt": ("module",),
}
"""What the modules call a TensorRT object, or a call that returns one -> the classes it may be of."""
RTX_ALONE = {
    "ComputeCapability",
    "CudaGraphStrategy",
    "DynamicShapesKernelSpecializationStrategy",
    "IRuntimeCache",
    "REQUIRE_USER_ALLOCATION",
    "create_runtime_cache",
    "cuda_graph_strategy",
    "deserialize",
    "dynamic_shapes_kernel_specialization_strategy",
    "is_stream_capturable",
    "num_compute_capabilities",
    "set_compute_capability",
    "set_runtime_cache",
}
LATER = {"EngineStat", "TOTAL_WEIGHTS_SIZE", "get_engine_stat"}
"""Names from 10.16 on, used only where they exist."""
BEFORE_LATER = ("tensorrt 10.12", "tensorrt 10.13")
PYTHONS_OWN = {"__class__", "__init__", "__members__", "__name__"}


def names(version: str, owner: str) -> set[str]:
    return {*INVENTORY["in every version"].get(owner, ()), *INVENTORY["beyond that"][version].get(owner, ())}


def uses(tree: ast.AST) -> Iterator[tuple[tuple[str, ...], str]]:
    """(classes, name) of every attribute read from or set on a TensorRT object: `trt.X`, `trt.X.Y`, `config.Z`, `parsed.network.Z`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr not in PYTHONS_OWN:
            value = node.value.func if isinstance(node.value, ast.Call) else node.value
            owner = value.id if isinstance(value, ast.Name) else value.attr.lstrip("_") if isinstance(value, ast.Attribute) else ""
            if owner in OWNERS:
                yield OWNERS[owner], node.attr
            elif isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id == "trt":
                yield (value.attr,), node.attr


USES = sorted({use for path in MODULES for use in uses(ast.parse(path.read_text()))})


def test_versions_from_the_first_supported_to_the_newest_are_known() -> None:
    assert [version.rpartition(".")[0] for version in VERSIONS] == [
        "tensorrt 10.12.0",
        "tensorrt 10.13.0",
        "tensorrt 10.16.1",
        "tensorrt 11.4.0",
        "tensorrt_rtx 1.7.1",
    ]


def test_the_walk_sees_every_kind_of_use() -> None:
    assert {
        (("module",), "BuilderFlag"),
        (("BuilderFlag",), "TF32"),
        (("Builder",), "build_serialized_network"),
        (OWNERS["config"], "progress_monitor"),
        (("ITimingCache",), "serialize"),
        (("IExecutionContext",), "execute_async_v3"),
        (("ICudaEngine",), "device_memory_size_v2"),
        (("IRuntimeCache",), "serialize"),
        (("ExecutionContextAllocationStrategy",), "USER_MANAGED"),
        (("EngineInspector",), "get_engine_information"),
        (OWNERS["layer"], "kernel"),
    } <= set(USES)
    assert {owner for classes in OWNERS.values() for owner in classes} - {
        "IConstantLayer",
        "IConvolutionLayer",
        "IDeconvolutionLayer",
        "IRuntimeConfig",
    } <= {classes[0] for classes, _ in USES}


def test_the_walk_finds_a_typo() -> None:
    tree = ast.parse("config.clear_flag(trt.BuilderFlag.TF23); parsed.network.num_layer; builder.create_netwrok()")
    missing = {name for classes, name in uses(tree) if not any(name in names(VERSIONS[-1], owner) for owner in classes)}
    assert missing == {"TF23", "num_layer", "create_netwrok"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_used_exists(version: str) -> None:
    rtx = version.startswith("tensorrt_rtx")
    missing = {
        (classes, name)
        for classes, name in USES
        if not any(name in names(version, owner) for owner in classes)
        if rtx or not {name, *classes} & RTX_ALONE
        if not (version.startswith(BEFORE_LATER) and {name, *classes} & LATER)
    }
    assert missing == set()


@pytest.mark.parametrize("version", VERSIONS)
def test_names_used_as_text_exist(version: str) -> None:
    from shortcast.export import attestation
    from shortcast.runtime.engines import tensorrt_log

    assert set(attestation._KINDS) <= names(version, "LayerType")
    assert set(attestation._TYPES) <= names(version, "DataType")
    assert set(tensorrt_log._KEPT) <= names(version, "ILogger")
    assert {"phase_start", "step_complete", "phase_finish"} <= names(version, "IProgressMonitor")


def test_no_flag_that_asks_for_a_precision_or_for_host_code_is_set() -> None:
    used = {name for classes, name in USES if classes == ("BuilderFlag",)}
    # TensorRT-RTX wants the second of engines whose work is to be captured; it says whose memory is used and no more.
    assert used == {"TF32", "REQUIRE_USER_ALLOCATION"}


def test_every_cuda_name_used_exists_from_the_first_supported_version_on() -> None:
    inventory = json.loads((Path(__file__).parent / "cuda_api.json").read_text())
    files = [ROOT / "runtime" / "engines" / "cuda.py", ROOT / "runtime" / "gpu_findings.py"]
    tree = ast.parse("\n".join(path.read_text().replace("from __future__ import annotations", "") for path in files))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("cuda")}
    used |= {name for node in ast.walk(tree) if isinstance(node, ast.Constant) and (name := str(node.value)).startswith("cudaError")} - {
        "cudaError"
    }
    assert {"cudaMalloc", "cudaStreamBeginCapture", "cudaStreamCaptureModeThreadLocal", "cudaErrorMemoryAllocation"} <= used
    assert list(inventory) == ["12.8.0", "12.9.0", "13.0.0", "13.5.0"]
    from shortcast.runtime.engines import cuda

    for version, names in inventory.items():
        assert used <= set(names), version
        # Some of the errors came later: what a version doesn't know, it doesn't answer with.
        assert set(names) & cuda._FATAL
    assert set(inventory["13.5.0"]) >= cuda._FATAL


def test_the_inventory_of_cuda_names_is_that_of_the_bindings_here() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    for name in json.loads((Path(__file__).parent / "cuda_api.json").read_text())["12.8.0"]:
        owners = [runtime, runtime.cudaError_t, runtime.cudaMemcpyKind, runtime.cudaStreamCaptureMode]
        assert any(hasattr(owner, name) for owner in owners), name
