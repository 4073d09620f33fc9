"""A command whose plain arguments are read without pydantic.

typer turns every argument into its type with a pydantic adapter, and importing pydantic takes longer than importing PyAV. A command that
is there for its first score reads texts, paths, whole numbers, choices and flags itself, as typer would; whatever else it meets, and
whatever is wrong, goes to typer, so that help and messages are typer's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

from typer.core import TyperCommand

_NUMBER = re.compile(r"[+-]?[0-9]{1,15}")
_SPECIAL = ("parser", "click_type", "exists", "resolve_path", "writable", "allow_dash", "path_type", "envvar", "default_factory")
"""What a parameter may ask of typer that is not done here."""


class PlainCommand(TyperCommand):
    """For `@app.command(cls=PlainCommand)`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            values = self._read(ctx, args)
        except Exception:  # typer does it again, and says what is wrong
            return list(super().parse_args(ctx, args))
        ctx.params.update(values)
        ctx.args = []
        return []

    def _read(self, ctx: Any, args: list[str]) -> dict[str, Any]:
        """The value of every parameter.

        Raises:
            Exception: there is something here that is typer's to do.
        """
        if ctx.resilient_parsing or (not args and self.no_args_is_help):
            raise _NotPlainError
        given, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        if rest:
            raise _NotPlainError
        return {param.name: _value(param, given, ctx) for param in self.get_params(ctx) if param.expose_value or _is_given(param, given)}


class _NotPlainError(Exception):
    """This is typer's to do."""


def _is_given(param: Any, given: Mapping[str, Any]) -> bool:
    value = given.get(param.name)
    return value is not None and value not in ((), [])


def _value(param: Any, given: Mapping[str, Any], ctx: Any) -> Any:
    if param.is_eager or param.callback or param.required or getattr(param, "prompt", None):
        raise _NotPlainError
    several = param.nargs == -1 or getattr(param, "multiple", False)
    if not _is_given(param, given):
        default = param.get_default(ctx)
        if isinstance(default, (str, list, tuple)) and not isinstance(default, Enum):
            raise _NotPlainError
        return () if default is None and several else default
    kind, info, value = param.type_descriptor.annotation, param.type_descriptor.parameter_info, given[param.name]
    if any(getattr(info, name, None) for name in _SPECIAL):
        raise _NotPlainError
    if not several:
        return _converted(value, kind, info)
    if get_origin(kind) is not list:
        raise _NotPlainError
    return [_converted(one, get_args(kind)[0], info) for one in value]


def _converted(value: Any, kind: Any, info: Any) -> Any:
    if kind is bool and isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise _NotPlainError
    if kind is str:
        return value
    if kind is Path and info.file_okay and info.dir_okay and (not os.path.exists(value) or os.access(value, os.R_OK)):
        return Path(value)
    if kind is int and _NUMBER.fullmatch(value):
        number = int(value)
        if (info.min is None or number >= info.min) and (info.max is None or number <= info.max):
            return number
    if isinstance(kind, type) and issubclass(kind, Enum) and info.case_sensitive:
        return next(member for member in kind if str(member.value) == value)
    raise _NotPlainError
