"""Dask: functions as futures of the current client. The scheduler gives a lost worker's tasks to others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

import distributed

from .._native import UsageError


class Dask:
    """The client that is current."""

    def __init__(self) -> None:
        try:
            self._client = distributed.get_client()
        except ValueError as error:
            raise UsageError("there is no Dask client; start a distributed.Client first") from error

    def slots(self) -> int:
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def start(self, function: Callable[..., tuple[bytes, Any]], *arguments: Any) -> tuple[Any, Any]:
        both = self._client.submit(function, *arguments, pure=False)
        state, report = (self._client.submit(itemgetter(i), both, pure=False) for i in (0, 1))
        return state, report

    def wait(self, handles: Sequence[Any]) -> Iterable[Any]:
        done: set[Any] = distributed.wait(list(handles), return_when="FIRST_COMPLETED").done
        return done

    def get(self, handle: Any) -> Any:
        return handle.result()

    def cancel(self, handles: Sequence[Any]) -> None:
        self._client.cancel(list(handles))
