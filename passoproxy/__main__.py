"""`python -m passoproxy` is the same program as `passoproxy`."""

import sys

from passoproxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
