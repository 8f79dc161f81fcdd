"""Python's garbage collector, while much is loaded that will stay."""

import gc
from contextlib import contextmanager


@contextmanager
def paused():
    """No search for garbage meanwhile; afterwards all is as it was, and what was made counts as old.

    Importing torch and transformers makes 370,000 objects that stay. On the way Python looks through all of them for garbage
    again and again, which is a sixth of the time (tests/README.md, "What the start is spent on"). Nothing is exempt for good:
    gc.freeze and gc.unfreeze together only move the objects to the oldest generation, whose turn comes less often.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():  # somebody else's frozen objects stay frozen
            gc.freeze()
            gc.unfreeze()
        gc.enable()
