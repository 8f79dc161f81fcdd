"""Words: a row of words to press, one or several. For panels in which a word is chosen by a click or with the keyboard."""

from __future__ import annotations

from collections.abc import Sequence

import anywidget
import traitlets

from .panel import STATIC


class Words(anywidget.AnyWidget):
    """A row of buttons, one a word; `value` holds the numbers of those that are pressed (0 = first), in ascending order.

    words        what stands on the buttons
    description  what they are for: stands before the row and names it for a screen reader
    many         whether several can be pressed at once

    Click, or move with the arrow keys, Home and End and press with space or Enter. Up and down move by a line.
    The row runs from right to left if its first letter does; a long one scrolls.

    >>> Words(words=["It", "rained"], description="Hide", value=[1]).said()
    'rained'
    """

    _esm = STATIC / "words.js"
    _css = STATIC / "words.css"
    words = traitlets.List(traitlets.Unicode()).tag(sync=True)
    value = traitlets.List(traitlets.Int()).tag(sync=True)
    description = traitlets.Unicode().tag(sync=True)
    many = traitlets.Bool(True).tag(sync=True)

    @traitlets.validate("value")
    def _check(self, proposal) -> list[int]:
        value = sorted(set(proposal["value"]))
        if wrong := [number for number in value if not 0 <= number < len(self.words)]:
            raise traitlets.TraitError(f"There is no word {wrong[0]}: the words have the numbers 0 to {len(self.words) - 1}.")
        if len(value) > 1 and not self.many:
            raise traitlets.TraitError(f"Only one word can be pressed here, not {len(value)}.")
        return value

    def replace(self, words: Sequence[str], value: Sequence[int] = ()) -> None:
        """Put other words on the buttons and press `value`, in one message to the page.

        >>> row = Words(words=["It", "rained"], value=[1])
        >>> row.replace(["Rain"])
        >>> row.value
        []
        """
        with self.hold_sync():
            self.value = []
            self.words = list(words)
            self.value = list(value)

    def said(self) -> str:
        """The pressed words."""
        return ", ".join(self.words[number] for number in self.value) or "none"
