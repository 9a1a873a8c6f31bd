"""`python -m featherface`, which is how `torchrun` starts it."""

from featherface.cli import main

main()
