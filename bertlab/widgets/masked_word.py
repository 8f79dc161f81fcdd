"""MaskedWord: hide words and see the guesses, replay 80/10/10, measure surprise. Taught in notebooks/03_masked_language_model.ipynb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from html import escape
from itertools import groupby

import ipywidgets

from ..checkpoints import CheckpointError
from ..mlm import Corrupted, Place, Surprise, Word, guess_hidden, pseudo_perplexity, replay_masking, split_words, surprise
from .panel import STYLE, WIDE, Panel, bar, table
from .words import Words

MOST_HIDDEN = 12  # words, so that the page stays readable
MOST_SURPRISE = 128  # pieces, so that it takes seconds
AT_ONCE, IN_TURN = "all at once", "one at a time"


# ---------------------------------------------------------------- guesses


@dataclass(frozen=True)
class Guesses:
    """Words of a sentence hidden, and what the model says.

    words     the words of the sentence
    together  whether all were hidden in one pass, or each alone
    masked    the sentences that the model read: one if together, else one a hidden word
    places    one a hidden piece
    """

    words: tuple[Word, ...]
    together: bool
    masked: tuple[str, ...]
    places: tuple[Place, ...]


def hide_words(text: str, hidden: Sequence[int] = (), together: bool = True, top_k: int = 5) -> Guesses:
    """Hide the words with the numbers `hidden` (0 = first), one [MASK] a piece; a [MASK] in the text is hidden anyway.

    >>> hide_words("The cat sat on the mat.", [1, 5]).masked
    ('The [MASK] sat on the [MASK].',)
    >>> hide_words("The cat sat on the mat.", [1, 5], together=False).masked
    ('The [MASK] sat on the mat.', 'The cat sat on the [MASK].')
    """
    words = split_words(text)
    if (count := len({n for n, word in enumerate(words) if word.text == "[MASK]"} | set(hidden))) > MOST_HIDDEN:
        raise ValueError(f"{count} words are hidden: hide at most {MOST_HIDDEN}, so that the answers can be read.")
    places = guess_hidden(text, hidden, top_k, together=together)
    asked = sorted({place.word for place in places})
    return Guesses(words, together, tuple(_mask(text, words, of) for of in ([asked] if together else [[n] for n in asked])), tuple(places))


def _mask(text: str, words: Sequence[Word], hidden: Sequence[int]) -> str:
    for number in sorted(hidden, reverse=True):
        word = words[number]
        text = text[: word.start] + " ".join(["[MASK]"] * len(word.tokens)) + text[word.end :]
    return text


def render_guesses(result: Guesses) -> str:
    """Guesses -> the sentence with its holes and a table a hidden piece, escaped."""
    if not result.places:
        return "<p>Press a word to hide it, or type [MASK] in the sentence.</p>"
    html = []
    for i, (number, places) in enumerate(groupby(result.places, key=lambda place: place.word)):
        places, word = list(places), result.words[number]
        if not result.together or i == 0:
            html.append(f'<p dir="auto">{escape(result.masked[i])}</p>')
        if len(places) > 1:
            html.append(
                f"<p><b>{escape(word.text)}</b> has {len(places)} pieces: {escape(' '.join(word.pieces))}. "
                "Each gets its own [MASK], and the guesses do not know one another.</p>"
            )
        html += [_guess_table(place, word) for place in places]
    return "".join(html)


def _guess_table(place: Place, word: Word) -> str:
    rows = [[g.token, n, said_probability(g.probability), bar(g.probability), "hidden" if g.token == place.piece else ""] for n, g in enumerate(place.guesses, 1)]
    if place.rank is None:
        caption = f"Guesses for [MASK], word {place.word + 1}"
    else:
        caption = f"Guesses for word {place.word + 1}, {place.piece}"
        if place.rank > len(place.guesses):
            rows.append([place.piece, said_rank(place.rank), said_probability(place.probability), bar(place.probability), "hidden"])
    return table(["guess", "rank", "probability", "as a bar", "note"], rows, caption)


def said_rank(rank: int) -> str:
    """A rank in words; far down it is rounded, for there the order hangs on the last digits.

    >>> said_rank(7), said_rank(2345)
    ('7', 'about 2,300')
    """
    if rank <= 100:
        return str(rank)
    unit = 10 ** (len(str(rank)) - 2)
    return f"about {round(rank / unit) * unit:,}"


def said_probability(p: float) -> str:
    """Two decimals; no 0.00, for nothing is impossible after a softmax.

    >>> said_probability(0.25), said_probability(0.001)
    ('0.25', 'under 0.01')
    """
    return f"{p:.2f}" if p >= 0.005 else "under 0.01"


# ---------------------------------------------------------------- 80/10/10


@dataclass(frozen=True)
class Replay:
    """One draw of BERT's corruption: the tokens between [CLS] and [SEP], the chance and the seed."""

    tokens: tuple[Corrupted, ...]
    probability: float
    seed: int


def render_replay(result: Replay) -> str:
    """Replay -> what the model reads, and a row a chosen token, escaped."""
    chosen = [token for token in result.tokens if token.fate]
    counts = ", ".join(f"{sum(token.fate == fate for token in chosen)} {said}" for fate, said in FATES.items())
    reads = " ".join(f"<b>{escape(t.piece)} → {escape(t.seen)}</b>" if t.fate else escape(t.seen) for t in result.tokens)
    html = (
        f"<p>Seed {result.seed}: {len(chosen)} of {len(result.tokens)} pieces chosen, each with a chance of {result.probability:.0%}"
        f"{f': {counts}' if chosen else ''}.</p>"
        f'<p>Chosen pieces are bold, each with what the model reads in its place:</p><p dir="auto">{reads}</p>'
    )
    if not chosen:
        return html + "<p>Nothing is asked for here. A mean loss over no token is NaN: training skips such a step.</p>"
    rows = [[t.piece, t.seen, FATES[t.fate], said_probability(t.probability), bar(t.probability, 12)] for t in chosen]
    return html + table(["true piece", "model reads", "what happened", "probability", "as a bar"], rows, "Chosen pieces: what became of them, how probable the true piece is")


FATES = {"[MASK]": "became [MASK]", "random": "became a random piece", "kept": "stayed"}


# ---------------------------------------------------------------- surprise


@dataclass(frozen=True)
class Strip:
    """The surprise at each piece of a sentence.

    bits               their sum
    pseudo_perplexity  2 ** their mean
    """

    words: tuple[Word, ...]
    surprises: tuple[Surprise, ...]
    bits: float
    pseudo_perplexity: float


def measure_surprise(text: str) -> Strip:
    """The surprise at each piece of a sentence of at most MOST_SURPRISE pieces (else ValueError).

    >>> strip = measure_surprise("The cat sat on the mat.")
    >>> len(strip.surprises), round(strip.bits, 3) == round(sum(s.bits for s in strip.surprises), 3)
    (7, True)
    """
    words = split_words(text)
    if (pieces := sum(len(word.pieces) for word in words)) > MOST_SURPRISE:
        raise ValueError(f"The sentence has {pieces} pieces, and each needs a pass of the model: give at most {MOST_SURPRISE} here.")
    found = surprise(text)
    return Strip(words, tuple(found), sum(s.bits for s in found), pseudo_perplexity(found))


def render_surprise(result: Strip) -> str:
    """Strip -> a row a word with bits and a bar, the sum and the pseudo-perplexity, escaped."""
    rows, most = [], max(15.0, *(s.bits for s in result.surprises))
    for number, of in groupby(result.surprises, key=lambda s: s.word):
        of = list(of)
        bits = sum(s.bits for s in of)
        parts = " + ".join(f"{s.piece} {s.bits:.1f}" for s in of) if len(of) > 1 else ""
        rows.append([result.words[number].text, f"{bits:.1f}", bar(bits / most), parts])
    return (
        f"<p>{len(result.surprises)} pieces, each hidden in turn. Sum: <b>{result.bits:.1f} bits</b>. "
        f"Pseudo-perplexity: <b>{result.pseudo_perplexity:.1f}</b>.</p>"
        + table(["word", "surprise in bits", f"as a bar, 0 to {most:.0f}", "its pieces"], rows, "The model's surprise at each word")
        + "<p>0 bits: it was sure. 1 bit: a probability of 0.5. 15 bits: no better than a blind guess among all pieces.</p>"
    )


# ---------------------------------------------------------------- the panel


def carry_over(old: Sequence[str], new: Sequence[str], pressed: Sequence[int]) -> list[int]:
    """Where pressed words stand after the sentence was edited; one that was exchanged for another stays pressed.

    >>> carry_over(["The", "cat", "sat"], ["The", "black", "cat", "sat"], [1])
    [2]
    >>> carry_over(["The", "cat", "sat"], ["The", "dog", "sat"], [1])
    [1]
    >>> carry_over(["The", "cat", "sat"], ["Rain", "fell"], [1])
    []
    """
    moved = {}
    for what, i, end, j, other_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal" or (what == "replace" and end - i == other_end - j == 1):
            moved |= dict(zip(range(i, end), range(j, other_end)))
    return sorted(moved[n] for n in pressed if n in moved)


class MaskedWord(Panel):
    """Press words to hide them and see the guesses; replay 80/10/10 on the sentence; measure the surprise at each word.

    text, view            the sentence, and what is shown: "guesses", "80/10/10" or "surprise"
    words, passes         for the guesses: the numbers of the hidden words (0 = first), "all at once" or "one at a time"
    percent, seed         for 80/10/10: the chance of each piece to be chosen, and the seed of the draw
    """

    title = "Masked word"

    def __init__(self, text: str):
        self.text = ipywidgets.Text(value=text, description="Sentence", style=STYLE, layout=WIDE, continuous_update=False)
        self.view = ipywidgets.Dropdown(options=["guesses", "80/10/10", "surprise"], description="View", style=STYLE)
        words = _words(text)
        self.words = Words(words=words, value=[1] if len(words) > 1 and "[MASK]" not in words else [], description="Hide")
        self.passes = ipywidgets.Dropdown(options=[AT_ONCE, IN_TURN], description="Hide them", style=STYLE)
        self.percent = ipywidgets.BoundedIntText(value=15, min=1, max=99, description="Chosen, in %", style=STYLE)
        self.seed = ipywidgets.BoundedIntText(value=0, min=0, max=2**31 - 1, description="Seed", style=STYLE)
        self._of_view = {"guesses": [self.words, self.passes], "80/10/10": [self.percent, self.seed], "surprise": []}
        super().__init__([self.text, self.view, self.words, self.passes, self.percent, self.seed])

    def state(self) -> tuple:
        """Only what the view depends on."""
        used = [self.text, self.view, *self._of_view[self.view.value]]
        return tuple(tuple(c.value) if c is self.words else c.value for c in used)

    def _changed(self, change=None) -> None:
        if change is None or change["owner"] is self.view:
            for view, controls in self._of_view.items():
                for control in controls:
                    control.layout.display = None if view == self.view.value else "none"
        elif change["owner"] is self.text:
            words = _words(self.text.value)
            hidden = [n for n in carry_over(self.words.words, words, self.words.value) if words[n] != "[MASK]"]
            with self.together():
                self.words.replace(words, hidden)
            return
        super()._changed(change)

    def compute(self) -> Guesses | Replay | Strip:
        text = self.text.value
        if self.view.value == "80/10/10":
            chance, seed = self.percent.value / 100, self.seed.value
            return Replay(tuple(replay_masking(text, chance, seed)), chance, seed)
        if self.view.value == "surprise":
            return measure_surprise(text)
        return hide_words(text, self.words.value, self.passes.value == AT_ONCE)

    def render(self, result: Guesses | Replay | Strip) -> str:
        return {Guesses: render_guesses, Replay: render_replay, Strip: render_surprise}[type(result)](result)


def _words(text: str) -> list[str]:
    """The words to press; none where the text cannot be read, which `compute` then says."""
    try:
        return [word.text for word in split_words(text)]
    except (ValueError, CheckpointError):
        return []
