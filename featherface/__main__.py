"""The program `featherface`, and `python -m featherface`, which is how `torchrun` starts it."""

import sys


def start() -> None:
    """Run the command line; Ctrl-C before it is there, or after, ends without a word."""
    try:
        from featherface.cli import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    start()
