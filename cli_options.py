"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
WhisperOption = Annotated[
    Path | None, typer.Option("--whisper", help="Directory with the Whisper weights in CTranslate2 form.", show_default="looked for")
]
SignerOption = Annotated[
    Path | None,
    typer.Option("--require-signed-by", metavar="KEY", help="Refuse a bundle this Ed25519 public key did not sign.", show_default=False),
]
