"""Ray: functions as tasks. A lost worker's tasks run again, and what a lost node held is made again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ray


class Ray:
    """The cluster that `ray.init` connected to, or a new one on this machine."""

    def __init__(self, threads: int, retries: int) -> None:
        if not ray.is_initialized():
            ray.init()
        self._threads = threads
        self._remote = functools.cache(ray.remote(num_cpus=threads, num_returns=2, max_retries=retries))

    def slots(self) -> int:
        return max(1, int(ray.cluster_resources().get("CPU", 1)) // self._threads)

    def start(self, function: Callable[..., tuple[bytes, Any]], *arguments: Any) -> tuple[Any, Any]:
        state, report = self._remote(function).remote(*arguments)
        return state, report

    def wait(self, handles: Sequence[Any]) -> Iterable[Any]:
        done: tuple[list[Any], Any] = ray.wait(list(handles), num_returns=1)
        return done[0]

    def get(self, handle: Any) -> Any:
        try:
            return ray.get(handle)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error

    def cancel(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            ray.cancel(handle)
