"""`python -m shmpool`: the command."""

from __future__ import annotations

import sys

from shmpool.cli import main

if __name__ == "__main__":  # workers, which are spawned, import this module under another name
    sys.exit(main())
