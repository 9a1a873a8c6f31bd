"""A progress bar for people at a terminal; nothing where nobody looks, and nothing without tqdm."""

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator

Show = Callable[[float, float], None]
"""(mean loss so far, learning rate): one more step is done."""


@contextlib.contextmanager
def epoch_progress(label: str, *, total: int, done: int = 0) -> Iterator[Show]:
    """Show a bar of `total` steps on stderr, `done` of them already taken.

    Silent where stderr is no terminal (a log would fill with carriage returns) and where tqdm is missing.
    """
    if not sys.stderr.isatty() or importlib.util.find_spec("tqdm") is None:
        yield lambda _loss, _lr: None
        return
    from tqdm import tqdm

    with tqdm(total=total, initial=done, desc=label, unit="batch", dynamic_ncols=True) as bar:

        def show(mean_loss: float, lr: float) -> None:
            bar.set_postfix_str(f"loss {mean_loss:.3f}, lr {lr:.1e}", refresh=False)
            bar.update()

        yield show
