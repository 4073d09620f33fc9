"""shortcast: predict how well a short video will do, from its pictures and sound, while it streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["AsyncScorer", "Bundle", "Scorer", "ShortcastError", "UntilSettled", "__version__", "score_many"]

if TYPE_CHECKING:
    from .errors import ShortcastError
    from .runtime.aio import AsyncScorer
    from .runtime.bundle import Bundle
    from .runtime.early import UntilSettled
    from .runtime.many import score_many
    from .runtime.scorer import Scorer

# pytest imports this file a second time under the checkout's folder name, and an eager import here would make two copies of
# every class; so the public names are looked up when they are first used.
_HOMES = {
    "AsyncScorer": ".runtime.aio",
    "Bundle": ".runtime.bundle",
    "Scorer": ".runtime.scorer",
    "ShortcastError": ".errors",
    "UntilSettled": ".runtime.early",
    "score_many": ".runtime.many",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'shortcast' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name], "shortcast"), name)
