"""Lists of pairs: what they may say, and what is refused in one line."""

import re

import pytest

from reenact.errors import UsageError
from reenact.manifest import Pair, read_manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("a.jpg", "clips/b.mp4", "clips/c.mp4"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def manifest(folder, text, name="list.toml"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def refusal(folder, text, name="list.toml"):
    with pytest.raises(UsageError) as refused:
        read_manifest(manifest(folder, text, name))
    line = str(refused.value)
    assert name in line
    assert "\n" not in line
    return line


CROSS = '[[pair]]\ntarget = "a.jpg"\ndriver = "clips/b.mp4"\n'


def test_paths_are_relative_to_the_list_and_names_come_from_them(folder, monkeypatch):
    monkeypatch.chdir("/")
    text = CROSS + 'truth = "clips/c.mp4"\n[[pair]]\nkind = "self"\nname = "me"\ndriver = "clips/b.mp4"\n'
    assert read_manifest(manifest(folder, text)) == (
        Pair("a-b", "cross", folder / "clips/b.mp4", folder / "a.jpg", folder / "clips/c.mp4"),
        Pair("me", "self", folder / "clips/b.mp4"),
    )


def test_csv_says_the_same(folder):
    text = "name,kind,target,driver,truth\n,,a.jpg,clips/b.mp4,clips/c.mp4\n\nme,self,,clips/b.mp4,\n"
    toml = CROSS + 'truth = "clips/c.mp4"\n[[pair]]\nkind = "self"\nname = "me"\ndriver = "clips/b.mp4"\n'
    assert read_manifest(manifest(folder, text, "list.csv")) == read_manifest(manifest(folder, toml))


def test_csv_of_spreadsheets_begins_with_a_mark(folder):
    (folder / "list.csv").write_bytes("\ufefftarget,driver\r\na.jpg,clips/b.mp4\r\n".encode())
    assert [pair.name for pair in read_manifest(folder / "list.csv")] == ["a-b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lists no pair"),
        ("[[pair]]\ntarget = ", "is no TOML"),
        ("pairs = 3", r"nothing but \[\[pair\]\]"),
        ('[pair]\ndriver = "clips/b.mp4"', r"nothing but \[\[pair\]\]"),
        (CROSS + "[[pair]]\ndriver = 3", "pair 2: driver = 3"),
        (CROSS + 'turth = "clips/c.mp4"', "pair 1: has a field 'turth'"),
        (CROSS + 'kind = "both"', "kind 'both'; expected cross or self"),
        ('[[pair]]\ndriver = "clips/b.mp4"', "pair 1: has no target"),
        ('[[pair]]\ntarget = "a.jpg"', "pair 1: has no driver"),
        (CROSS + 'kind = "self"', "leave target out"),
        (CROSS + 'truth = "clips/d.mp4"', "truth .*d.mp4: no such file"),
        ('[[pair]]\ntarget = "clips"\ndriver = "clips/b.mp4"', "target .*clips: no such file"),
        (CROSS + 'name = "../x"', "name '../x'"),
        (CROSS + 'name = ".."', "name '..'"),
        (CROSS + CROSS, "two pairs are called 'a-b'"),
        (CROSS + 'name = "X"\n' + CROSS + 'name = "x"', "two pairs are called 'X'"),
    ],
)
def test_what_can_not_be_meant_is_refused(folder, text, said):
    assert re.search(said, refusal(folder, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "lists no pair"),
        ("target,driver\n", "lists no pair"),
        ("a.jpg,clips/b.mp4\n", "names no column driver"),
        ("target,driver\na.jpg\n", "pair 1: 1 cells"),
        ("target,driver,wrong\na.jpg,clips/b.mp4,1\n", "has a field 'wrong'"),
    ],
)
def test_so_it_is_in_csv(folder, text, said):
    assert said in refusal(folder, text, "list.csv")


def test_a_list_that_is_none_is_refused(folder):
    with pytest.raises(UsageError, match=r"gone\.toml: no such file"):
        read_manifest(folder / "gone.toml")
    with pytest.raises(UsageError, match=r"a\.jpg: a list of pairs is a \.toml or \.csv file"):
        read_manifest(folder / "a.jpg")
    (folder / "bad.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"bad\.toml: can't be read as text"):
        read_manifest(folder / "bad.toml")
