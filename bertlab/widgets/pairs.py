"""PairPanel: what the panels about two sentences share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets

from .panel import STYLE, WIDE, Panel

OWN = "none: these are your own sentences"


class PairPanel(Panel):
    """A panel about two sentences, typed or chosen from a list.

    examples  {what the list says: anything with sentence_a and sentence_b}; the list shows which of them the sentences are
    name      the list's accessible name
    """

    def __init__(self, sentence_a: str, sentence_b: str, examples: Mapping, name: str, controls: Sequence, rows: Sequence):
        self.sentence_a, self.sentence_b = (
            ipywidgets.Text(value=text, description=f"Sentence {letter}", style=STYLE, layout=WIDE, continuous_update=False)
            for letter, text in (("A", sentence_a), ("B", sentence_b))
        )
        self.examples = ipywidgets.Dropdown(options=[(OWN, ""), *examples.items()], description=name, style=STYLE, layout=WIDE)
        self.examples.observe(self._chosen, names="value")
        super().__init__([self.sentence_a, self.sentence_b, *controls], [self.examples, self.sentence_a, self.sentence_b, *rows])

    def fill(self, sentence_a: str, sentence_b: str) -> None:
        """Both sentences at once."""
        with self.together():
            self.sentence_a.value, self.sentence_b.value = sentence_a, sentence_b

    def _chosen(self, change) -> None:
        if change.new:
            self.fill(change.new.sentence_a, change.new.sentence_b)

    def _changed(self, _=None) -> None:
        super()._changed()
        if not self._waiting:
            pair = (self.sentence_a.value, self.sentence_b.value)
            self.examples.value = next((e for _, e in self.examples.options[1:] if (e.sentence_a, e.sentence_b) == pair), "")  # None would leave the list blank
