"""What a training run can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..models.autoencoder import DecoderConfig
from ..models.convlstm import EncoderConfig
from ..models.dual_transformer import FusionConfig
from ..runtime.contract import Contract
from .compute import decisive
from .fit_autoencoder import AutoencoderOptions
from .fit_regressor import RegressorOptions
from .video_comparison import VideoPlan


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """Everything a run can be told. The first group decides the result; the second only how it is reached."""

    target: str = "views"
    """What is predicted: a column of the manifest, or a rate such as `likes/views` or `views/day`; see `training.targets`."""
    transform: str = "log1p"
    """See `training.targets.fit_target`."""
    split: str = "auto"
    """How clips are split into train, val and test; see `training.splits`."""
    seed: int = 0
    source: str = ""
    """One sentence for the checkpoint's card: what the clips are and where they come from."""
    contract: Contract = field(default_factory=Contract)
    """Its Whisper hash is filled in from the weights found."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    """Its embeddings' sizes are taken from the parts before it, and its classes may become fewer where the target has ties."""
    autoencoder: AutoencoderOptions = field(default_factory=AutoencoderOptions)
    regressor: RegressorOptions = field(default_factory=RegressorOptions)

    videos: tuple[VideoPlan, ...] = ()
    """Video networks to train on the same split after the model, for comparison; the model is the same with and without them."""
    ablations: bool = False
    """Train the variants of `training.ablations` on the same embeddings and split, for comparison; the model is the same all the same."""
    folds: int | None = None
    """Cross-validate with so many folds before the final model is trained, which they do not change; see `training.cross_validate`."""
    run_dir: Path | None = None
    """Log and resumable state; None takes the checkpoint's name with `.run` added."""
    features_dir: Path | None = None
    """Cache of decoded clips, which runs may share; None takes `features` in the run directory."""
    whisper: Path | None = None
    """A directory with the Whisper weights; None looks in the usual places."""
    jobs: int | None = None
    """Processes that decode clips; None takes one per CPU."""
    threads: int | None = None
    """Threads PyTorch computes with; None takes one per CPU."""
    resume: bool = True
    """Go on from the state in the run directory; False starts over."""
    force: bool = False
    """Replace an existing checkpoint."""
    memory_budget: int | None = None
    """Bytes that an update of either network may hold (`training.memory`): micro-batches, and gradient checkpointing at need, see to it."""
    tensorboard: bool = False
    """Also write the log as TensorBoard events, to `tensorboard` in the run directory."""

    def decisive(self) -> dict[str, Any]:
        """The options that decide the result, as plain JSON; a stopped run may go on with another device or micro-batch."""
        parts = ("encoder", "decoder", "fusion", "autoencoder", "regressor")
        plain: dict[str, Any] = {name: decisive(getattr(self, name)) for name in parts}
        return {"target": self.target, "transform": self.transform, "seed": self.seed, "contract": self.contract.to_json(), **plain}
