"""`python -m readroom`."""

import sys

from readroom.cli import main

if __name__ == "__main__":
    sys.exit(main())
