"""TaskGuide: task, data and latency in, representation out. Taught in notebooks/10_which_representation.ipynb."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import ipywidgets

from ..guide import DATA, LATENCY, TASKS, Recommendation, alternatives, recommend
from .panel import STYLE, WIDE, Panel, table


def render_recommendation(result: Recommendation, others: Sequence[tuple[str, str, Recommendation]] = ()) -> str:
    """Recommendation (see bertlab.guide) -> escaped HTML with a link to the notebook, which lies in the same folder.

    others  from `alternatives`: a table says what changes if one choice were different
    """
    name = escape(result.notebook, quote=True)
    rows = [[f"{choice}: {value}", "the same" if found.representation == result.representation else found.representation, found.notebook] for choice, value, found in others]
    return (
        f"<p>Start with: <b>{escape(result.representation)}</b></p><p>Why: {escape(result.reason)}</p>"
        f'<p>See it at work: <a href="{name}.ipynb" target="_blank">{name}</a></p>'
    ) + (table(["if instead", "start with", "notebook"], rows, "If one choice were different") if rows else "")


class TaskGuide(Panel):
    """Choose a task, how many labelled examples you have, and how long an answer may take."""

    title = "Which representation?"

    def __init__(self, task: str = TASKS[0], data: str = DATA[0], latency: str = LATENCY[0]):
        recommend(task, data, latency)  # a ValueError that lists the choices
        self.task = ipywidgets.Dropdown(options=TASKS, value=task, description="Task", style=STYLE, layout=WIDE)
        self.data = ipywidgets.Dropdown(options=DATA, value=data, description="Labelled data", style=STYLE, layout=WIDE)
        self.latency = ipywidgets.Dropdown(options=LATENCY, value=latency, description="Latency", style=STYLE, layout=WIDE)
        super().__init__([self.task, self.data, self.latency])

    def compute(self) -> Recommendation:
        return recommend(self.task.value, self.data.value, self.latency.value)

    def render(self, result: Recommendation) -> str:
        return render_recommendation(result, alternatives(self.task.value, self.data.value, self.latency.value))
