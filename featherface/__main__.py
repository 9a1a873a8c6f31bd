"""The program `featherface`, and `python -m featherface`, which is how `torchrun` starts it."""

import atexit
import gc
import sys


def start() -> None:
    """Run the command line; Ctrl-C before it is there, or after, ends without a word."""
    # Else Python looks through all that torch and MLflow are made of before it ends, for a second.
    atexit.register(gc.freeze)
    try:
        from featherface.cli import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    start()
