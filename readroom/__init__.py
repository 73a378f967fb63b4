"""The command line: `python -m readroom`. README.md shows the commands and the exit codes."""
