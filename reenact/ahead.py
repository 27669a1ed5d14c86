"""Work done ahead of need: in threads, its results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
U = TypeVar("U")

MOST = 4
"""Threads at most: what each works on takes memory."""


def ahead(jobs: Iterable[tuple[T, Callable[[], U]]], most: int = MOST) -> Iterator[tuple[T, U]]:
    """Do each job in a thread while the results of those before it are used.

    There are as many threads as torch may use, up to `most`, and each has its share of them: several small pictures are
    drawn in less time side by side than one after the other on all cores.

    Args:
        jobs: (passenger, job); of these only so many are taken ahead as there are threads.
        most: threads; with one the jobs are done in order, as those must be that draw random numbers.

    Yields:
        (passenger, the job's result), in order. What a job raises is raised in its place.
    """
    cores = torch.get_num_threads()
    threads = min(most, cores)
    pool = ThreadPoolExecutor(threads, "ahead", lambda: torch.set_num_threads(cores // threads))
    under_way: deque[tuple[T, Future[U]]] = deque()
    try:
        for passenger, job in jobs:
            under_way.append((passenger, pool.submit(job)))
            if len(under_way) > threads:
                done, future = under_way.popleft()
                yield done, future.result()
        for done, future in under_way:
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)  # what later threads begin with
