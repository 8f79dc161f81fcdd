"""NextSentence: does B follow A? Taught in notebooks/04_next_sentence_prediction.ipynb."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import ipywidgets

from ..datasets import GalleryPair, next_sentence_gallery, random_sentence
from ..nsp import NextSentence as Answer
from ..nsp import predict_next
from .pairs import PairPanel
from .panel import STYLE, bar, button

MEANING = ("B follows A", "B does not follow A")  # by label


@dataclass(frozen=True)
class JudgedPair(Answer):
    """The NSP head's answer (see bertlab.nsp), and what is known of the pair.

    segments  whether the model was told which tokens belong to B
    known     the gallery's entry, if the pair is one of it
    origin    where B comes from, if it was drawn
    """

    segments: bool
    known: GalleryPair | None = None
    origin: str | None = None


def judge_pair(sentence_a: str, sentence_b: str, segments: bool = True, seed: int = 0) -> JudgedPair:
    """Ask the head about a pair; seed is that of the last random B, 0 if none was drawn.

    >>> judge_pair("The museum opens at nine on Sundays.", "On Sundays the museum opens at nine.").known.label
    1
    """
    answer = predict_next(sentence_a, sentence_b, segments=segments)
    known = next((g for g in next_sentence_gallery() if (g.sentence_a, g.sentence_b) == (sentence_a, sentence_b)), None)
    origin = None
    if seed:
        document, place = random_sentence(seed)
        if document.sentences[place] == sentence_b:
            origin = f"drawn at random with seed {seed}: sentence {place + 1} of “{document.title}” ({document.source})"
    return JudgedPair(answer.sentence_a, answer.sentence_b, answer.is_next, segments, known, origin)


def render_judged(result: JudgedPair) -> str:
    """JudgedPair -> escaped HTML: the input by segments, the probability as a number and a bar, the choice, and what is true."""
    a, b = (f"<bdi>{escape(text)}</bdi>" for text in (result.sentence_a, result.sentence_b))
    parts = [
        f"Segment 0: <code>[CLS] {a} [SEP]</code>",
        f"Segment {int(result.segments)}: <code>{b} [SEP]</code>" + ("" if result.segments else " (segment ids are off: the model takes B for a part of A)"),
        f"Probability that B follows A: <b>{result.is_next:.2f}</b> {bar(result.is_next)}",
        f"The model's choice: label {result.label}, {MEANING[result.label]}.",
    ]
    if result.known:
        agrees = "The model's choice is right." if result.known.label == result.label else "The model's choice is wrong."
        parts += [
            f"<b>What is true:</b> label {result.known.label}, {MEANING[result.known.label]}. {escape(result.known.truth)} {agrees}",
            f"<b>What it teaches:</b> {escape(result.known.lesson)}",
        ]
    if result.origin:
        parts.append(f"B was {escape(result.origin)}.")
    return "".join(f"<p>{part}</p>" for part in parts)


class NextSentence(PairPanel):
    """Type A and B, or choose a pair: the probability that B follows A. Swap them, draw a random B, switch the segment ids off.

    The n-th press of "Another random B" draws with seed n; a seed can be typed, too.
    """

    title = "Next sentence"

    def __init__(self, sentence_a: str, sentence_b: str):
        self.swap = button("Swap A and B", self._swap)
        self.another = button("Another random B", self._another)
        self.seed = ipywidgets.BoundedIntText(value=0, min=0, max=9999, description="Seed of random B", style=STYLE, layout={"width": "15em"})
        self.seed.observe(self._draw, names="value")
        self.segments = ipywidgets.Checkbox(value=True, description="Segment ids on", style=STYLE, indent=False)
        buttons = ipywidgets.HBox([self.swap, self.another, self.seed], layout={"flex_flow": "row wrap"})
        examples = {pair.title: pair for pair in next_sentence_gallery()}
        super().__init__(sentence_a, sentence_b, examples, "Gallery", [self.seed, self.segments], [buttons, self.segments])

    def _swap(self) -> None:
        self.fill(self.sentence_b.value, self.sentence_a.value)

    def _another(self) -> None:
        self.seed.value += 1

    def _draw(self, change) -> None:
        if change.new:
            document, place = random_sentence(change.new)
            self.fill(self.sentence_a.value, document.sentences[place])

    def compute(self) -> JudgedPair:
        return judge_pair(self.sentence_a.value, self.sentence_b.value, self.segments.value, self.seed.value)

    def render(self, result: JudgedPair) -> str:
        return render_judged(result)
