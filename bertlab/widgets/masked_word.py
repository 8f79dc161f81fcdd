"""MaskedWord: hide words of a sentence and see the guesses. Taught in notebooks/03_masked_language_model.ipynb."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import ipywidgets

from ..mlm import Prediction, predict_masked
from ..tokens import check_text
from .panel import STYLE, WIDE, Panel, bar, table


@dataclass(frozen=True)
class HiddenWord:
    """A sentence with one word hidden: the word (or None if the text had its own [MASK]) and the guesses for each [MASK]."""

    masked: str
    word: str | None
    predictions: tuple[tuple[Prediction, ...], ...]


def hide_word(text: str, position: int, top_k: int = 5) -> HiddenWord:
    """Hide the word at `position` (0 = first); a text with [MASK] in it is taken as it stands.

    >>> hide_word("The cat sat on the mat.", 1).masked
    'The [MASK] sat on the mat.'
    """
    words = check_text(text).split()
    if "[MASK]" in text:
        masked, word = text, None
    else:
        if not 0 <= position < len(words):
            raise ValueError(f"There is no word {position + 1}: the sentence has {len(words)} words.")
        core = words[position].strip(".,;:!?\"'()")
        word = core or words[position]
        words[position] = words[position].replace(word, "[MASK]", 1)
        masked = " ".join(words)
    return HiddenWord(masked, word, tuple(tuple(p) for p in predict_masked(masked, top_k)))


def render_hidden(result: HiddenWord) -> str:
    """HiddenWord -> one table of guesses a mask, escaped."""
    tables = []
    for number, guesses in enumerate(result.predictions, 1):
        rows = [[g.token, f"{g.probability:.2f}", bar(g.probability), "the hidden word" if result.word and g.token == result.word.lower() else ""] for g in guesses]
        tables.append(table(["guess", "probability", "", ""], rows, f"Guesses for [MASK] {number}"))
    return f"<p>{escape(result.masked)}</p>" + "".join(tables)


class MaskedWord(Panel):
    """Choose which word of the sentence is hidden (or type [MASK] yourself); see the model's guesses."""

    title = "Masked word"

    def __init__(self, text: str):
        self.text = ipywidgets.Text(value=text, description="Sentence", style=STYLE, layout=WIDE, continuous_update=False)
        self.position = ipywidgets.BoundedIntText(value=2, min=1, max=400, description="Hide word no.", style=STYLE)
        super().__init__([self.text, self.position])

    def compute(self) -> HiddenWord:
        return hide_word(self.text.value, self.position.value - 1)

    def render(self, result: HiddenWord) -> str:
        return render_hidden(result)
