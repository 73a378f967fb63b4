"""`python -m readroom`."""

from readroom.cli import run

if __name__ == "__main__":
    run()
