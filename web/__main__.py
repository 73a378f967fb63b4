"""`python -m web`: the pages; its settings are READROOM_WEB_… variables."""

import os
import sys

from web.main import main

if __name__ == "__main__":
    sys.exit(main(os.environ))
