"""What `progress=True` shows: tqdm where it is installed, a line on stderr elsewhere."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any


class _Tqdm:
    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm
        self._bar: Any = None
        self._what = ""

    def __call__(self, what: str, tensor: str, done: int, total: int) -> None:
        if not what:
            return
        if self._bar is None or what != self._what:
            self._close()
            self._bar = self._tqdm(total=total, desc=what, unit="B", unit_scale=True)
            self._what = what
        self._bar.set_postfix_str(tensor, refresh=False)
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __del__(self) -> None:
        self._close()


class _Line:
    def __call__(self, what: str, tensor: str, done: int, total: int) -> None:
        if what and sys.stderr is not None:
            sys.stderr.write(f"\r{what} {100 * done // max(total, 1)} % {tensor[:60]:60}")
            sys.stderr.flush()

    def __del__(self) -> None:
        if sys.stderr is not None:
            sys.stderr.write("\n")


def bar() -> Callable[[str, str, int, int], None]:
    """A new bar."""
    try:
        return _Tqdm(importlib.import_module("tqdm.auto").tqdm)
    except ImportError:
        return _Line()
