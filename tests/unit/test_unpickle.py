"""Files that are after something: nothing in them runs, and memory stays in proportion to what they are."""

import argparse
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from stylegans import modules, torch_saved

from reenact import unpickle
from reenact.errors import WeightsError

MEGABYTE = 1 << 20


class Calls:
    """Pickles to a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def read(tmp_path, data):
    file = tmp_path / "network.pkl"
    file.write_bytes(data)
    return unpickle.read(file)


def complaint(tmp_path, data, most=8 * MEGABYTE):
    """The one line that a file gives, having taken little memory."""
    (tmp_path / "network.pkl").write_bytes(data)
    del data
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as error:
            unpickle.read(tmp_path / "network.pkl")
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    message = str(error.value)
    assert message.startswith(str(tmp_path / "network.pkl"))
    assert "\n" not in message
    assert len(message) < 400
    assert {file.name for file in tmp_path.iterdir()} == {"network.pkl"}
    return message


# --- Programs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_that_would_write_a_file(tmp_path, protocol):
    evil = Calls(open, str(tmp_path / "written"), "w")
    assert "asks for" in complaint(tmp_path, pickle.dumps({"G_ema": evil}, protocol))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_that_would_run_a_command(tmp_path, protocol):
    evil = pickle.dumps(Calls(os.system, f"touch {tmp_path / 'written'}"), protocol)
    assert "system, which no generator's file needs; nothing in it was run" in complaint(tmp_path, evil)


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02cos\nsystem\n(S'true'\ntR.",  # by name
        b"\x80\x02(S'true'\nios\nsystem\n.",  # INST
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x0411+1\x85R.",  # by a name on the stack
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.fromkeys\x93)R.",  # an attribute of what is allowed
        b"\x80\x02\x82\x01.",  # copyreg's extensions
        b"\x80\x02cnumpy.core.multiarray\nload\n.",  # another name in an allowed module
        b"\x80\x02X\x01\x00\x00\x00aQ.",  # something outside
    ],
)
def test_programs_by_hand(tmp_path, program):
    complaint(tmp_path, program)


def test_allowed_names_do_nothing_but_hold(tmp_path):
    """Whatever is done with a name that is allowed, no attribute of a real class can be set."""
    program = b"\x80\x02ccollections\nOrderedDict\n)R}(X\x05\x00\x00\x00itemsK\x01ub."
    found = read(tmp_path, program)
    assert found == {}
    assert list(found.items()) == []


class Nested:
    """Pickles as a storage does, but with bytes of one's own."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.data,)


def test_a_program_nested_in_a_storage(tmp_path):
    evil = pickle.dumps(Calls(os.system, f"touch {tmp_path / 'written'}"))
    assert "system, which no" in complaint(tmp_path, pickle.dumps({"G_ema": Nested(evil)}))


def test_a_program_nested_where_a_storage_has_its_pickles(tmp_path):
    evil = Calls(os.system, f"touch {tmp_path / 'written'}")
    stream = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, evil))
    assert "system, which no" in complaint(tmp_path, pickle.dumps({"G_ema": Nested(stream)}))
    assert "system, which no" in complaint(tmp_path, stream)  # torch.save's older format itself


def test_an_archive_nested_in_a_storage(tmp_path):
    """torch.load would take any format there, such as one that inflates."""
    assert "is cut short or damaged" in complaint(tmp_path, pickle.dumps(Nested(torch_saved(torch.zeros(3)))))


def test_a_program_in_torchs_newer_format(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Calls(os.system, "true"), 2))
    assert "system, which no" in complaint(tmp_path, out.getvalue())


def test_source_code_in_nvidias_objects_stays_text(tmp_path):
    class Network:
        def __getstate__(self):
            return {"build_module_src": "import os; os.remove('x')", "variables": []}

    with modules(dnnlib__tflib__network=[Network]):
        data = pickle.dumps(Network())
    found = read(tmp_path, data)
    assert isinstance(found, unpickle.Network)
    assert found.state["build_module_src"] == "import os; os.remove('x')"


# --- Bombs --------------------------------------------------------------------------------------


def zipped(contents, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in contents.items():
            archive.writestr(f"archive/{name}", data)
    return out.getvalue()


def test_a_zip_bomb(tmp_path):
    bomb = zipped({"data.pkl": b"\x80\x02}.", "data/0": bytes(256 * MEGABYTE)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < MEGABYTE
    assert "would unpack" in complaint(tmp_path, bomb)


def test_a_small_file_that_claims_large_storages(tmp_path):
    pid = ("storage", torch.FloatStorage, "0", "cpu", 1 << 40)

    class Claims(pickle.Pickler):
        def persistent_id(self, thing):
            return pid if thing == "the storage" else None

    out = io.BytesIO()
    Claims(out, 2).dump({"g_ema": "the storage"})
    assert "missing or incomplete" in complaint(tmp_path, zipped({"data.pkl": out.getvalue(), "data/0": b"1234"}))
    head = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    older = head + out.getvalue() + pickle.dumps(["0"], 2) + struct.pack("<q", 1 << 40) + b"1234"
    assert "incomplete" in complaint(tmp_path, older)


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 33) + b"x.",  # bytes
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 33) + b"x.",  # text
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 33) + b"x.",  # a bytearray
        b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"x.",  # a whole number
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",  # a frame
        b"\x80\x02Nr" + struct.pack("<I", 1 << 31) + b".",  # the memo's place
        b"\x80\x02(" + b"}" * 5_001 + b"l.",  # many empty things
    ],
)
def test_lengths_beyond_the_file(tmp_path, program, monkeypatch):
    monkeypatch.setattr(unpickle, "_MOST_OPCODES", 5_000)
    complaint(tmp_path, program, most=MEGABYTE)


def numpy_array(shape, dtype, data, first=(0,)):
    """numpy's pickle of an array, its numbers as given."""
    made = np.zeros(1, np.float32).__reduce__()
    kind = Calls(np.dtype, dtype, False, True)

    class Made:
        def __reduce__(self):
            return made[0], (np.ndarray, first, b"b"), (1, shape, kind, False, data)

    return pickle.dumps({"x": Made()}, 3)


def test_an_array_of_numbers(tmp_path):
    found = read(tmp_path, numpy_array((2, 2), "f4", np.arange(4, dtype=np.float32).tobytes()))
    assert found["x"].value.tolist() == [[0, 1], [2, 3]]


def test_arrays_that_are_larger_than_their_numbers_or_hold_objects(tmp_path):
    assert "wants another number" in complaint(tmp_path, numpy_array((1 << 20, 1 << 20), "f4", b"1234"))
    assert "are no numbers" in complaint(tmp_path, numpy_array((1,), "O8", [os.getpid]).replace(b"getpid", b"system"))
    assert "are no numbers" in complaint(tmp_path, numpy_array((1,), "O8", [0]))
    # What numpy itself would allocate before the numbers come.
    assert read(tmp_path, numpy_array((1,), "f4", b"1234", first=(1 << 40,)))["x"].value.shape == (1,)


def test_a_tensor_larger_than_its_storage(tmp_path):
    one = torch.zeros(4)
    for wide in (one.as_strided((4,), (1,)).expand(1 << 30, 4), one[:1].expand(5)):
        assert "larger than its storage" in complaint(tmp_path, torch_saved(wide))


# --- Honest files -------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False], ids=["newer", "older"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_what_torch_saves(tmp_path, zipped, dtype):
    x = torch.arange(24).reshape(2, 3, 4).to(dtype)
    shared = torch.arange(10).to(dtype)
    saved = OrderedDict(whole=x, turned=x.permute(2, 0, 1), part=shared[3:7], last=shared, none=x[:0])
    found = read(tmp_path, torch_saved({"g_ema": saved, "args": argparse.Namespace(size=256)}, zipped))
    assert isinstance(found["args"], unpickle.Namespace)
    for name, value in saved.items():
        loaded = found["g_ema"][name].load()
        assert loaded.dtype == dtype
        assert torch.equal(loaded, value)


@pytest.mark.parametrize("protocol", range(3, 6))
def test_what_pickle_makes_of_modules(tmp_path, protocol):
    layer = torch.nn.Linear(3, 2)
    found = read(tmp_path, pickle.dumps({"a": layer.state_dict(), "b": {1, 2}, "c": np.float64(0.5)}, protocol))
    assert torch.equal(found["a"]["weight"].load(), layer.weight)
    assert found["c"] == 0.5


@pytest.mark.parametrize("zipped", [True, False], ids=["newer", "older"])
def test_files_cut_anywhere(tmp_path, zipped):
    whole = torch_saved({"g_ema": {"x": torch.randn(2000)}}, zipped)
    for share in (0.02, 0.3, 0.9, 0.9999):
        assert "is cut short or damaged" in complaint(tmp_path, whole[: int(len(whole) * share)])


def test_noise_and_text(tmp_path):
    for data in (b"", b"hello", b"\x80", b"\x80\x04", bytes(range(256)), b"PK\x03\x04 and no more"):
        complaint(tmp_path, data)
