"""`python -m tfguide.cli` is the command `tfguide`."""

import sys

from tfguide.cli import main

if __name__ == "__main__":
    sys.exit(main())
