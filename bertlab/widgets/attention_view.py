"""AttentionView: which tokens a token looks at, head by head. Taught in notebooks/01_cls_token.ipynb."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape

import ipywidgets

from ..attention import attention_weights
from ..checkpoints import CheckpointError, load_model, resolve
from ..tokens import inspect_tokens
from .panel import STYLE, WIDE, Panel, bar, heat_table, table
from .words import Words

MOST = 20  # tokens in the table
LISTED = 10  # tokens in the list
AVERAGE = "average of all heads"


@dataclass(frozen=True)
class Looks:
    """The attention of one head of one layer.

    tokens   all T tokens that the model read
    special  for each whether it is [CLS] or [SEP]
    layer    1 to L
    head     1 to the number of heads, or None for their average
    query    the position of the token whose looks are ranked
    hide     whether [CLS] and [SEP] are left out as targets; nothing is renormalised
    weights  one row of T weights, which sum to 1, for each of the first `MOST` tokens
    """

    tokens: tuple[str, ...]
    special: tuple[bool, ...]
    layer: int
    head: int | None
    query: int
    hide: bool
    weights: tuple[tuple[float, ...], ...]

    @property
    def targets(self) -> list[int]:
        """The positions that can be looked at: all, or all but [CLS] and [SEP]."""
        return [i for i, special in enumerate(self.special) if not (self.hide and special)]

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """(token, weight) of the targets, the most looked at first."""
        row, labels = self.weights[self.query], names(self.tokens)
        return [(labels[i], row[i]) for i in sorted(self.targets, key=lambda i: -row[i])]

    @property
    def on_text(self) -> float:
        """How much of the query's attention, 0 to 1, goes to other tokens than [CLS] and [SEP]."""
        return sum(weight for weight, special in zip(self.weights[self.query], self.special) if not special)


def names(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """The tokens; one that occurs more than once has its position behind it.

    >>> names(("[CLS]", "a", "rose", "is", "a", "rose"))
    ('[CLS]', 'a (1)', 'rose (2)', 'is', 'a (4)', 'rose (5)')
    """
    often = Counter(tokens)
    return tuple(token if often[token] == 1 else f"{token} ({position})" for position, token in enumerate(tokens))


def look(text: str, layer: int, head: int | None = None, query: int = 0, hide: bool = False) -> Looks:
    """Whom the tokens of `text` look at; layer and head count from 1, the query's position from 0 ([CLS]).

    Raises ValueError for an empty text and for a layer, head or query that does not exist.

    >>> look("A cat sat.", layer=1, head=2, hide=True).targets
    [1, 2, 3, 4]
    """
    attention = attention_weights(text)
    layers, heads, count, _ = attention.weights.shape
    for name, number, low, high in (("layer", layer, 1, layers), ("head", head, 1, heads), ("query", query, 0, min(count, MOST) - 1)):
        if number is not None and not low <= number <= high:
            raise ValueError(f"There is no {name} {number}: choose {low} to {high}.")
    of_layer = attention.weights[layer - 1]  # (heads, T, T)
    rows = (of_layer.mean(0) if head is None else of_layer[head - 1])[:MOST]
    weights = tuple(tuple(round(weight, 6) for weight in row) for row in rows.tolist())
    return Looks(attention.tokens, attention.special, layer, head, query, hide, weights)


def render_looks(result: Looks) -> str:
    """Looks -> escaped HTML: what the query looks at as a list with bars, then every token as a heat map."""
    labels = names(result.tokens)
    query, where = labels[result.query], f"layer {result.layer}, {AVERAGE if result.head is None else f'head {result.head}'}"
    ranked = [[rank, token, f"{weight:.2f}", bar(weight)] for rank, (token, weight) in enumerate(result.ranked[:LISTED], 1)]
    share = f"{query} gives {result.on_text:.2f} of its attention to the text, {1 - result.on_text:.2f} to [CLS] and [SEP]."
    columns = [i for i in result.targets if i < MOST]
    headers, heat = [labels[i] for i in columns], [(label, [row[i] for i in columns]) for label, row in zip(labels, result.weights)]
    left_out = ["[CLS] and [SEP] are hidden as targets."] if result.hide else []
    left_out += [f"The map shows the first {MOST} tokens; the list is drawn from all {len(labels)}."] if len(labels) > MOST else []
    if left_out:
        left_out.append('Nothing is renormalised: the column "not shown" holds the rest, so a row still sums to 1.')
        headers, heat = [*headers, "not shown"], [(label, [*row, max(0.0, 1 - sum(row))]) for label, row in heat]
    return (
        table(["rank", "token", "attention", ""], ranked, f"What {query} looks at: {where}")
        + f"<p>{escape(share)}</p>"
        + heat_table(headers, heat, "What every token (row) takes from every token (column); a row sums to 1", "token")
        + (f"<p>{escape(' '.join(left_out))}</p>" if left_out else "")
        + "<p>A weight says how much of a vector was mixed in. It does not explain the model's answer.</p>"
    )


class AttentionView(Panel):
    """Choose a layer, a head and a token; see what the token looks at."""

    title = "Attention view"

    def __init__(self, text: str):
        config = load_model(resolve("BERT")).config
        layers, heads = range(1, config.num_hidden_layers + 1), range(1, config.num_attention_heads + 1)
        self.text = ipywidgets.Text(value=text, description="Sentence", style=STYLE, layout=WIDE, continuous_update=False)
        self.layer = ipywidgets.Dropdown(options=list(layers), value=layers[-1], description="Layer", style=STYLE)
        self.head = ipywidgets.Dropdown(options=[AVERAGE, *heads], value=AVERAGE, description="Head", style=STYLE)
        self.query = Words(description="Token that looks", many=False)
        self.hide = ipywidgets.Checkbox(value=False, description="Hide [CLS] and [SEP] as targets", style=STYLE, indent=False)
        self._offer_tokens()
        self.text.observe(self._offer_tokens, names="value")  # before the panel computes with the new text
        super().__init__([self.text, self.layer, self.head, self.query, self.hide])

    def _offer_tokens(self, _=None) -> None:
        """The buttons of the present text, with [CLS] pressed."""
        try:
            tokens = names(inspect_tokens(self.text.value).tokens)[:MOST]
        except (ValueError, CheckpointError):
            tokens = ()  # `compute` says what is wrong
        with self.query.hold_trait_notifications():
            self.query.words, self.query.value = list(tokens), [0] if tokens else []

    def state(self) -> tuple:
        return self.text.value, self.layer.value, self.head.value, *(self.query.value or [0]), self.hide.value

    def compute(self) -> Looks:
        text, layer, head, query, hide = self.state()
        return look(text, layer, None if head == AVERAGE else head, query, hide)

    def render(self, result: Looks) -> str:
        return render_looks(result)
