"""Class statistics of more features than one machine reads: on Ray, on Dask, or in processes that you start yourself.

The work is cut into shards, fixed ranges of rows. `leaf` collects one, `merge` joins two neighbours; both are pure functions
of their arguments, and the result has the bits of a single process, however many workers there are.
"""

from __future__ import annotations

from ._collect import collect, save_shard
from ._plan import Plan, Shard, leaf, merge, plan
from ._run import Leaf, WorkerError

__all__ = ["Leaf", "Plan", "Shard", "WorkerError", "collect", "leaf", "merge", "plan", "save_shard"]
