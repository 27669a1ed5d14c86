"""Rows on disk."""

import tempfile

import numpy as np
import pytest

from reenact.errors import ReenactError
from reenact.spool import Spool


def test_rows_come_back_as_they_were_in_any_order():
    rows = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float32)[:, ::-1]
    spool = Spool(rows)
    assert len(spool) == 7
    for index in (3, 0, 6, 3):
        assert np.array_equal(spool[index], rows[index])
    for index in (-1, 7):
        with pytest.raises(IndexError):
            spool[index]


def test_a_row_may_be_changed_and_the_spool_stays():
    spool = Spool(np.ones((2, 3), np.float32))
    spool[0][:] = 5
    assert np.array_equal(spool[0], np.ones(3))


def test_no_row_at_all():
    assert len(Spool(np.zeros((0, 3), np.float32))) == 0


def test_no_room_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ReenactError, match="gone"):
        Spool(np.zeros((1, 3), np.float32))
