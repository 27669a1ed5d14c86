"""Subcommands: one file each, the file's name is the word after `reenact`.

A module's docstring is the command's help. `add_arguments(parser)` declares the words, `run(args, console)` does the
work; it may raise `ReenactError`s. What imports torch is imported inside `run`.
"""
