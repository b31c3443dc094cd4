"""`python -m ropewalk`: the command-line tool, also where its script is not on the path."""

from ropewalk.cli import main

main()
