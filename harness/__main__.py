"""``python -m harness``: the command line, with the interpreter that is named."""

from harness.cli import main

main()
