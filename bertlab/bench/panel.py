"""How much a panel adds to the answer that it shows: from the change of its control to the new HTML, beside the bare library call.

Both are timed in one kernel, where a panel really sends its messages; the browser's part is in tests/runs/panel_speed.py.
No sentence is used twice, so that nothing comes from a panel's memory, and neither side ever sees the other's.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import Options, Row, environment, quartiles, ratio

SENTENCE = "The {} sat on the {} because the day had been long and the way home was still very far."
NOUNS = (
    "teacher sailor doctor farmer child dog bird king thief guard baker nurse poet cat horse boy girl man woman captain mat bed roof chair table floor wall car "
    "boat bench stone grass sofa shelf desk bridge fence tree hill road step box bag book coat rug porch truck wagon hay sand snow ice beach deck dock lawn log"
).split()
LENGTH = 20  # words in a sentence
AT_MOST, P95 = 1.5, 150.0


@dataclass(frozen=True)
class Case:
    """One panel: what it is made of, the control that is set, and the call that its answer needs, with the same arguments.

    make  sentence -> panel
    turn  (panel, sentence) sets the control
    bare  sentence -> anything
    said  the bare call in words
    """

    make: Callable
    turn: Callable
    bare: Callable
    said: str


def cases() -> dict[str, Case]:
    """Each panel that computes, by its name."""
    from .. import widgets
    from ..attention import attention_weights
    from ..checkpoints import resolve
    from ..mlm import guess_hidden
    from ..nsp import predict_next
    from ..pooling import cosine, pool, pooling_modes
    from ..sbert import sentence_vectors
    from ..tokens import encode, inspect_tokens

    other, five = "Nobody had expected that so much snow would fall in a single night.", ["It rained.", "Rain fell.", "Cats purr.", "The dog slept.", "Prices rose."]

    def pooled(sentence: str) -> list[float]:
        """Both sentences through the model, each mode's vectors and their cosine."""
        both = [encode(text) for text in (sentence, other)]
        return [float(cosine(*(pool(e.hidden_states[-1], e.attention_mask, mode) for e in both))) for mode in pooling_modes()]

    def first(panel, sentence: str) -> None:
        panel.text.value = sentence

    def in_pair(panel, sentence: str) -> None:
        panel.sentence_a.value = sentence

    def in_list(panel, sentence: str) -> None:
        panel.sentences.value = "\n".join([sentence, *five])

    return {
        "MaskedWord": Case(widgets.MaskedWord, first, lambda s: guess_hidden(s, [1], 5), "guess_hidden(text, [1], 5)"),
        "NextSentence": Case(lambda s: widgets.NextSentence(s, other), in_pair, lambda s: predict_next(s, other), "predict_next(a, b)"),
        "PoolingBench": Case(lambda s: widgets.PoolingBench(s, other), in_pair, pooled, "encode(a), encode(b), pool and cosine in each mode"),
        "AttentionView": Case(widgets.AttentionView, first, attention_weights, "attention_weights(text)"),
        "TokenInspector": Case(
            widgets.TokenInspector, first, inspect_tokens, "inspect_tokens(text); no model runs, so the messages to the page and the HTML, under 1 ms, weigh as much as the answer"
        ),
        "SimilarityMap": Case(
            lambda s: _similarity_map([s, *five]), in_list, lambda s: sentence_vectors([s, *five], "mean", model=resolve("SBERT")), "sentence_vectors(6 texts, 'mean', model=SBERT)"
        ),
    }


def _similarity_map(sentences: list[str]):
    from ..widgets import SimilarityMap

    panel = SimilarityMap(sentences)
    panel.model.value = "bl.SBERT"
    return panel


def sentence(draw: random.Random) -> str:
    """A sentence of `LENGTH` words, two of them drawn, as if a learner had exchanged them.

    >>> len(sentence(random.Random(0)).split())
    20
    """
    return SENTENCE.format(*draw.sample(NOUNS, 2))


def measure(name: str, rounds: int, threads: int, warm_up: int = 3) -> dict[str, list[float]]:
    """Milliseconds of each round: {"panel": ..., "bare": ...}, by turns; to be called in a kernel."""
    import torch

    torch.set_num_threads(threads)
    case, draw = cases()[name], random.Random(0)
    panel, used = case.make(sentence(draw)), set()
    times: dict[str, list[float]] = {"panel": [], "bare": []}
    for number in range(-warm_up, rounds):
        for side in draw.sample(list(times), 2):
            text = next(text for text in iter(lambda: sentence(draw), None) if text not in used)
            used.add(text)
            before = panel.html
            began = time.perf_counter()
            if side == "panel":
                case.turn(panel, text)
            else:
                case.bare(text)
            took = 1000 * (time.perf_counter() - began)
            if side == "panel" and (panel.html == before or panel.result is None):
                raise RuntimeError(f"{name} holds no new result for {text!r}: {panel.html:.200}")
            if number >= 0:
                times[side].append(took)
    return times


def rows(options: Options) -> Iterator[Row]:
    """Two rows a panel: the ratio, and the 95th percentile of the panel's time."""
    rounds = options.rounds_or(60)
    for name, case in cases().items():
        times = in_kernel(name, rounds, options.cores)
        sides = {f"{side}_ms": quartiles(values)[1] for side, values in times.items()}
        yield ratio("panel", f"{name}, new HTML / bare call, {LENGTH} words", times["panel"], times["bare"], at_most=AT_MOST, sides=sides, note=f"bare call: {case.said}")
        late = sorted(times["panel"])[min(rounds - 1, int(0.95 * rounds))]
        yield Row("panel", f"{name}, 95th percentile, milliseconds", late, rounds=rounds, at_most=P95)


def in_kernel(name: str, rounds: int, threads: int) -> dict[str, list[float]]:
    """What `measure` gives in a fresh kernel prepared as a notebook is."""
    import nbformat
    from nbclient import NotebookClient

    code = f"%load_ext bertlab\nimport json\nfrom bertlab.bench.panel import measure\nprint(json.dumps(measure({name!r}, {rounds}, {threads})))"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=600, kernel_name="python3", store_widget_state=False).execute(env=environment())
    printed = "".join(output.text for output in notebook.cells[0].outputs if output.output_type == "stream" and output.name == "stdout")
    return json.loads(printed.splitlines()[-1])
