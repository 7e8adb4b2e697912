"""``python -m hexavit``: the command line, for launchers that start Python themselves, such as torchrun."""

import sys

from hexavit.cli import main

if __name__ == "__main__":
    sys.exit(main())
