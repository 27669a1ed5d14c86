"""Work done ahead of need."""

import threading
from functools import partial

import pytest
import torch

from reenact.ahead import MOST, ahead


@pytest.fixture(autouse=True)
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_whichever_is_done_first():
    second = threading.Event()

    def slow():
        assert second.wait(10)  # it is under way while the first still waits
        return "first"

    def quick():
        second.set()
        return "second"

    assert list(ahead([("a", slow), ("b", quick)])) == [("a", "first"), ("b", "second")]


def test_no_more_is_begun_than_there_are_threads():
    taken = []

    def jobs():
        for i in range(20):
            taken.append(i)
            yield i, partial(int, i)

    for done, result in ahead(jobs()):
        assert done == result
        assert len(taken) <= done + 3
    assert len(taken) == 20


@pytest.mark.parametrize(("cores", "threads", "each"), [(1, 1, 1), (2, 2, 1), (16, MOST, 4)])
def test_threads_share_the_cores(cores, threads, each):
    torch.set_num_threads(cores)
    seen = {
        result
        for _, result in ahead([(i, lambda: (threading.get_ident(), torch.get_num_threads())) for i in range(40)])
    }
    assert {count for _, count in seen} == {each}
    assert len(seen) <= threads
    assert torch.get_num_threads() == cores


def test_what_the_jobs_themselves_raise_comes_after_the_results_before_it():
    def jobs():
        for i in range(5):
            yield i, partial(int, i)
        raise OSError("cut off")

    results = ahead(jobs())
    assert [next(results) for _ in range(5)] == [(i, i) for i in range(5)]
    with pytest.raises(OSError, match="cut off"):
        next(results)


def test_with_no_threads_each_is_done_when_its_turn_comes():
    done = []
    results = ahead(((i, partial(done.append, i)) for i in range(3)), most=0)
    next(results)
    assert done == [0]
    assert len(list(results)) == 2


def test_other_threads_begin_with_all_cores_meanwhile():
    results, seen = ahead((i, partial(int, i)) for i in range(100)), []
    next(results)
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    results.close()
    assert seen == [2]


def test_with_one_thread_jobs_are_done_in_order():
    begun = []
    assert len(list(ahead([(i, partial(begun.append, i)) for i in range(50)], most=1))) == 50
    assert begun == list(range(50))


def test_what_a_job_raises_comes_in_its_place_and_the_rest_is_left():
    done, later = ahead([("a", lambda: 1), ("b", lambda: 1 // 0), ("c", lambda: 3)]), []
    assert next(done) == ("a", 1)
    with pytest.raises(ZeroDivisionError):
        next(done)
    assert list(done) == later


def test_whoever_stops_early_leaves_no_thread():
    results = ahead((i, partial(int, i)) for i in range(100))
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_of_no_jobs_nothing_comes():
    assert list(ahead([])) == []
