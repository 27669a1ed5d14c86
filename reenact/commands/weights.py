"""The networks that others trained: what there is, fetching, checking, licences, and generators of one's own.

  reenact weights list|fetch|verify|licenses [NAME ...]
  reenact weights convert IN OUT.safetensors

They are kept in the user's cache folder; $REENACT_WEIGHTS names another one. `convert` takes a StyleGAN 1 or 2 in any
of its formats: see docs/generators.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import weights
from ..console import Console
from ..errors import UsageError, WeightsError
from ..weights import WeightStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's words."""
    add = parser.add_argument
    add("action", metavar="list|fetch|verify|licenses|convert", choices=(*_ACTIONS, "convert"), help="what to do")
    names = "with which files (default: all that are needed); with convert: a generator's file, and the one to make"
    add("names", metavar="NAME", nargs="*", help=names)
    add("-y", "--overwrite", action="store_true", help="convert: replace what is there")


def run(args: argparse.Namespace, console: Console) -> None:
    """Do it."""
    if args.action == "convert":
        _convert(args.names, args.overwrite, console)
        return
    store = WeightStore(
        weights.default_root(), offline=args.offline, on_progress=console.download, on_licence=console.licence
    )
    everything = [weight.name for weight in weights.entries() if args.action != "fetch" or not weight.optional]
    # An unknown name ends it before anything is done.
    _ACTIONS[args.action](store, [store.weight(name).name for name in args.names or everything], console)


def _convert(names: Sequence[str], overwrite: bool, console: Console) -> None:
    if len(names) != 2 or Path(names[1]).suffix != ".safetensors":
        raise UsageError(
            "weights convert: write a generator's file and the file to make, as in net.pkl net.safetensors"
        )
    source, out = map(Path, names)
    if out.exists() and (source.resolve() == out.resolve() or not overwrite):
        raise UsageError(f"{out}: exists; -y replaces it, unless it is what is converted")
    from ..generators import convert

    made = convert(source, out)
    exits = ", ".join(map(str, made.exits or ())) or "none"
    console.say(f"{out}: {made.kind}, {made.resolution}x{made.resolution}; early exits: {exits}")


def _list(store: WeightStore, names: Sequence[str], console: Console) -> None:
    for name in names:
        weight = store.weight(name)
        state = store.verify(name) or "here"
        size = f"{weight.bytes / 1e6:8.1f} MB" if weight.bytes else f"{'?':>8} MB"
        print(f"{name:28}{size}  {state:14}{weight.licence}")


def _fetch(store: WeightStore, names: Sequence[str], console: Console) -> None:
    paths = store.fetch(names)
    console.close()
    print(*paths, sep="\n")


def _verify(store: WeightStore, names: Sequence[str], console: Console) -> None:
    faults = {name: store.verify(name) for name in names}
    for name, fault in faults.items():
        print(f"{name}: {fault or 'whole'}")
    damaged = [name for name, fault in faults.items() if fault and (store.root / name).exists()]
    if damaged:
        raise WeightsError(f"damaged in {store.root}: {', '.join(damaged)}; `reenact weights fetch` mends it")


def _licenses(store: WeightStore, names: Sequence[str], console: Console) -> None:
    for line in weights.licences():
        if any(name in names for name in line.partition(": ")[0].split(", ")):
            print(line)


_ACTIONS: dict[str, Callable[[WeightStore, Sequence[str], Console], None]] = {
    "list": _list,
    "fetch": _fetch,
    "verify": _verify,
    "licenses": _licenses,
}
