"""Work done ahead of need: in threads, its results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import TypeVar

import torch

from .stopping import held

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
        most: threads; 0: none, each job is done when its turn comes.

    Yields:
        (passenger, the job's result), in order. What a job raises, or `jobs` itself, is raised in its place.
    """
    if not most:
        for passenger, job in jobs:
            yield passenger, job()
        return
    under_way: deque[tuple[T, Future[U]]] = deque()
    source, failed = iter(jobs), None
    with _pool(most) as (pool, threads):
        while True:
            try:
                passenger, job = next(source)
            except StopIteration:
                break
            except Exception as error:  # those before it are good
                failed = error
                break
            with held():
                under_way.append((passenger, pool.submit(job)))
            if len(under_way) > threads:
                done, future = under_way.popleft()
                yield done, _result(future)
        for done, future in under_way:
            yield done, _result(future)
    if failed:
        raise failed


@contextmanager
def _pool(most: int) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Threads that share torch's cores, and how many they are."""
    cores = torch.get_num_threads()
    threads = min(most, cores)
    ready = Barrier(threads + 1)
    pool = ThreadPoolExecutor(threads, "ahead", _take, (cores // threads,))
    try:
        with held():
            for _ in range(threads):
                pool.submit(ready.wait)
            ready.wait()
        torch.set_num_threads(cores)  # what the threads have set is what those of others would begin with
        yield pool, threads
    finally:
        ready.abort()  # where not all could be started, those that were would wait for ever
        with held():
            pool.shutdown(cancel_futures=True)


def _result(future: Future[U]) -> U:
    with held():
        return future.result()


def _take(cores: int) -> None:
    """Have this thread use so many cores."""
    torch.set_num_threads(cores)
    torch.get_num_threads()  # or it would take over, at its first work, what others have set by then
