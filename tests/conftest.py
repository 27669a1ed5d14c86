import signal

import pytest

from reenact.weights import WeightStore, default_root

# A shell's background job starts with Ctrl-C ignored, and so do its children: the tests that send it want it heard.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def store() -> WeightStore:
    """The user's own cache, filled at first use: for tests marked `pretrained`."""
    return WeightStore(default_root())
