"""NextSentence: does B follow A? Taught in notebooks/04_next_sentence_prediction.ipynb."""

from __future__ import annotations

from html import escape

import ipywidgets

from ..nsp import NextSentence as Answer
from ..nsp import predict_next
from .panel import STYLE, WIDE, Panel, bar


def render_answer(answer: Answer) -> str:
    """NextSentence (see bertlab.nsp) -> escaped HTML with the probability as a number and a bar."""
    verdict = "B follows A (label 0)" if answer.label == 0 else "B does not follow A (label 1)"
    return (
        f"<p><code>[CLS] {escape(answer.sentence_a)} [SEP] {escape(answer.sentence_b)} [SEP]</code></p>"
        f"<p>Probability that B follows A: <b>{answer.is_next:.2f}</b> {bar(answer.is_next)}</p><p>The model's choice: {verdict}.</p>"
    )


class NextSentence(Panel):
    """Type A and B; see the probability that B follows A. Swap them, or switch the segment ids off."""

    title = "Next sentence"

    def __init__(self, sentence_a: str, sentence_b: str):
        self.sentence_a = ipywidgets.Text(value=sentence_a, description="Sentence A", style=STYLE, layout=WIDE, continuous_update=False)
        self.sentence_b = ipywidgets.Text(value=sentence_b, description="Sentence B", style=STYLE, layout=WIDE, continuous_update=False)
        self.swap = ipywidgets.Checkbox(value=False, description="Swap A and B", style=STYLE, indent=False)
        self.segments = ipywidgets.Checkbox(value=True, description="Segment ids on", style=STYLE, indent=False)
        super().__init__([self.sentence_a, self.sentence_b, self.swap, self.segments])

    def compute(self) -> Answer:
        pair = (self.sentence_a.value, self.sentence_b.value)
        return predict_next(*(pair[::-1] if self.swap.value else pair), segments=self.segments.value)

    def render(self, result: Answer) -> str:
        return render_answer(result)
