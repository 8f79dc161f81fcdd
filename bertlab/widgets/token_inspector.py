"""TokenInspector: what BERT sees of a text. Taught in notebooks/01_cls_token.ipynb."""

from __future__ import annotations

from html import escape

import ipywidgets

from ..tokens import Tokens, Word, inspect_tokens
from .panel import STYLE, WIDE, Panel, table

MOST = 60  # tokens in the table; word pieces of one segment above it
NAMED = 15  # words in a list
LETTERS = 30  # of a word


def render_tokens(result: Tokens) -> str:
    """Tokens (see bertlab.tokens) -> escaped HTML: what is unknown, what was cut, each word with its pieces, a table of the tokens."""
    typed = iter([word.text for word in result.all_words for _ in range(word.kept)])
    rows = [
        [position, token, number, "AB"[segment], "special" if word is None else f"word {word + 1}: {_short(next(typed))}"]
        for position, (token, number, segment, word) in enumerate(zip(result.tokens, result.input_ids, result.token_type_ids, result.words))
    ]
    counts = f"<p>{len(rows)} tokens, {result.unknown} unknown, {result.cut} cut.</p>"
    empty = "" if result.all_words else "<p>No word is left: BERT's tokenizer drops invisible characters.</p>"
    segments = _segment(result, 0) + _segment(result, 1)
    more = f"<p>The table shows the first {MOST} of {len(rows)} tokens.</p>" if len(rows) > MOST else ""
    tokens = table(["position", "token", "id", "segment", "belongs to"], rows[:MOST], "What BERT reads")
    return counts + empty + _unknown(result) + _cut(result) + segments + tokens + more


def _short(word: str) -> str:
    return word if len(word) <= LETTERS else word[:LETTERS] + "…"


def _unknown(result: Tokens) -> str:
    """Which words became [UNK], each with its reason."""
    reasons = {word.text: word.unknown for word in result.all_words if word.unknown and word.kept}
    if not reasons:
        return ""
    items = [f"<li><b>{escape(_short(text))}</b>: {escape(why)}</li>" for text, why in reasons.items()]
    items[NAMED:] = [f"<li>and {len(items) - NAMED} more</li>"] if len(items) > NAMED else []
    return f"<p>Words that became [UNK], and why:</p><ul>{''.join(items)}</ul>"


def _cut(result: Tokens) -> str:
    """Which words did not fit."""
    if not result.cut:
        return ""
    lost = [_short(word.text) for word in result.all_words if not word.kept]
    partly = [f" Of {_short(w.text)} only {' '.join(w.pieces[: w.kept])} is read." for w in result.all_words if 0 < w.kept < len(w.pieces)]
    more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    named = f" Lost, {len(lost)} of {len(result.all_words)} words: <code>{escape(' '.join(lost[:NAMED]))}</code>{more}." if lost else ""
    return f"<p><b>Cut:</b> {result.cut} tokens do not fit into {len(result.tokens)}.{named}{escape(''.join(partly))}</p>"


def _segment(result: Tokens, segment: int) -> str:
    """One segment as a list of its words, each with its pieces; pieces that were cut are struck out."""
    words = [word for word in result.all_words if word.segment == segment]
    special = [t for t, s, w in zip(result.tokens, result.token_type_ids, result.words) if w is None and s == segment]
    if not words and not special:
        return ""
    chips, pieces = [], 0
    for number, word in enumerate(words):
        pieces += len(word.pieces)
        if pieces > MOST:
            chips.append(f"<li>… and {len(words) - number} more words</li>")
            break
        chips.append(_chip(word))
    ends = [f'<li class="bertlab-special">{escape(token)}</li>' for token in special]
    first = 1 if segment == 0 else 0  # [CLS] comes before the words
    name = "AB"[segment]
    return (
        f'<p>Segment {name}, a box for each word:</p><ul class="bertlab-chips" aria-label="Words of segment {name} with their pieces">'
        f"{''.join([*ends[:first], *chips, *ends[first:]])}</ul>"
    )


def _chip(word: Word) -> str:
    """The word as it was typed, where that tells more than its pieces do, and the pieces."""
    typed = "" if word.pieces == (word.text.lower(),) else f"<b>{escape(_short(word.text))}:</b> "
    pieces = [f"<span>{escape(p)}</span>" if i < word.kept else f"<del>{escape(p)}</del>" for i, p in enumerate(word.pieces)]
    return f'<li dir="auto">{typed}{" ".join(pieces)}{" (cut)" if word.kept < len(word.pieces) else ""}</li>'


class TokenInspector(Panel):
    """Type a text, and a second one if you like; see word pieces, ids, segments, special tokens, unknown words and what is cut."""

    title = "Token inspector"

    def __init__(self, text: str, text_pair: str | None = None):
        self.text = ipywidgets.Text(value=text, description="Text", style=STYLE, layout=WIDE, continuous_update=False)
        self.text_pair = ipywidgets.Text(value=text_pair or "", description="Second text", style=STYLE, layout=WIDE, continuous_update=False)
        self.room = ipywidgets.BoundedIntText(value=512, min=5, max=512, description="Tokens that fit", style=STYLE)
        super().__init__([self.text, self.text_pair, self.room])

    def compute(self) -> Tokens:
        return inspect_tokens(self.text.value, self.text_pair.value.strip() or None, self.room.value)

    def render(self, result: Tokens) -> str:
        return render_tokens(result)
