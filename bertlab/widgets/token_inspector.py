"""TokenInspector: what BERT sees of a text. Taught in notebooks/01_cls_token.ipynb."""

from __future__ import annotations

import ipywidgets

from ..tokens import Tokens, inspect_tokens
from .panel import STYLE, WIDE, Panel, table


def render_tokens(result: Tokens) -> str:
    """Tokens (see bertlab.tokens) -> an escaped HTML table."""
    rows = [
        [position, token, number, "AB"[segment], "special" if word is None else f"word {word + 1}"]
        for position, (token, number, segment, word) in enumerate(zip(result.tokens, result.input_ids, result.token_type_ids, result.words))
    ]
    notes = f"{len(rows)} tokens, {result.unknown} unknown"
    notes += f", {result.cut} cut off because BERT reads 512" if result.cut else ""
    return f"<p>{notes}.</p>" + table(["position", "token", "id", "segment", "belongs to"], rows[:60], "What BERT reads") + (
        f"<p>The first 60 of {len(rows)} tokens are shown.</p>" if len(rows) > 60 else ""
    )


class TokenInspector(Panel):
    """Type a text, and a second one if you like; see word pieces, ids, segments and special tokens."""

    title = "Token inspector"

    def __init__(self, text: str, text_pair: str | None = None):
        self.text = ipywidgets.Text(value=text, description="Text", style=STYLE, layout=WIDE, continuous_update=False)
        self.text_pair = ipywidgets.Text(value=text_pair or "", description="Second text", style=STYLE, layout=WIDE, continuous_update=False)
        super().__init__([self.text, self.text_pair])

    def compute(self) -> Tokens:
        return inspect_tokens(self.text.value, self.text_pair.value.strip() or None)

    def render(self, result: Tokens) -> str:
        return render_tokens(result)
