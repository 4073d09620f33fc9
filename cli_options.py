"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ForceOption = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
WhisperOption = Annotated[
    Path | None, typer.Option("--whisper", help="Directory with the Whisper weights in CTranslate2 form.", show_default="looked for")
]
