"""Writes tests/export/tensorrt_api.json: which names each TensorRT's Python module has, of the classes that shortcast uses.

    python tests/export/tensorrt_api.py tensorrt_rtx
    PYTHONPATH=UNPACKED_BINDINGS_WHEEL python tests/export/tensorrt_api.py tensorrt_bindings

The module has to import, nothing is run. It is enough to have the bindings' wheel and shared libraries of the right names that export
the symbols it links, whatever they do. Names only are kept: what all versions have, and beyond that what each one has.
"""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

INVENTORY = Path(__file__).with_suffix(".json")
MODULE = "module"
CLASSES = (
    "Builder",
    "BuilderFlag",
    "ComputeCapability",
    "CudaGraphStrategy",
    "DataType",
    "DynamicShapesKernelSpecializationStrategy",
    "EngineInspector",
    "EngineStat",
    "ExecutionContextAllocationStrategy",
    "IBuilderConfig",
    "IConstantLayer",
    "IConvolutionLayer",
    "ICudaEngine",
    "IDeconvolutionLayer",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "IRuntimeCache",
    "IRuntimeConfig",
    "ITensor",
    "ITimingCache",
    "LayerInformationFormat",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "ProfilingVerbosity",
    "Runtime",
    "TensorIOMode",
)

Names = dict[str, dict[str, list[str]]]
"""By version and class."""


def names_of(module: ModuleType) -> dict[str, list[str]]:
    found = {name: public(getattr(module, name)) for name in CLASSES if hasattr(module, name)}
    return {MODULE: [*found, *(name for name in ("__version__",) if hasattr(module, name))], **found}


def public(owner: object) -> list[str]:
    return sorted(name for name in dir(owner) if not name.startswith("_"))


def load() -> Names:
    """The names of every version, in full."""
    if not INVENTORY.exists():
        return {}
    plain = json.loads(INVENTORY.read_text())
    common = plain["in every version"]
    return {
        version: {name: sorted({*common.get(name, ()), *extra.get(name, ())}) for name in {*common, *extra}}
        for version, extra in plain["beyond that"].items()
    }


def save(versions: Names) -> None:
    classes = (MODULE, *CLASSES)
    common = {name: sorted(set.intersection(*(set(names.get(name, ())) for names in versions.values()))) for name in classes}
    beyond = {
        version: {name: extra for name in classes if (extra := sorted({*names.get(name, ())} - {*common[name]}))}
        for version, names in sorted(versions.items())
    }
    plain = {"in every version": {name: names for name, names in common.items() if names}, "beyond that": beyond}
    INVENTORY.write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    imported = importlib.import_module(sys.argv[1])
    save({**load(), f"{sys.argv[1].removesuffix('_bindings')} {imported.__version__}": names_of(imported)})
