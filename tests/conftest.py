import pytest

from reenact.weights import WeightStore, default_root


@pytest.fixture(scope="session")
def store() -> WeightStore:
    """The user's own cache, filled at first use: for tests marked `pretrained`."""
    return WeightStore(default_root())
