"""Quiz: questions of the course, one at a time. Every notebook has some; the last one's are about all of it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import ipywidgets

from ..quiz import LETTERS, Checked, Question, check_answer, numbered, quiz_html, quiz_questions
from .panel import STYLE, Panel


@dataclass(frozen=True)
class Asked:
    """A question, its number of how many, the answer chosen so far (None before one is chosen), and whether to name its notebook."""

    number: int
    of: int
    course: bool
    question: Question
    checked: Checked | None


def render_asked(result: Asked) -> str:
    """Asked -> escaped HTML: the question, its options, and once one is chosen the verdict and the reason."""
    options = "".join(f"<p>{letter}. {escape(option.text)}</p>" for letter, option in zip(LETTERS, result.question.options))
    body = f"<p><b>{escape(numbered(result.number, result.of, result.question.text))}</b></p>{options}"
    if result.checked is None:
        return body + "<p>Choose an answer.</p>"
    verdict = "is right" if result.checked.right else "is not right"
    body += f"<p><b>{result.checked.letter} {verdict}.</b> {escape(result.checked.why)}</p>"
    name = escape(result.checked.notebook, quote=True)
    return body + f'<p>Read again: <a href="{name}.ipynb" target="_blank">{name}</a></p>' if result.course else body


class Quiz(Panel):
    """Choose a question and an answer: see whether it is right, and why. Without a kernel all questions are there, folded.

    part  one of `bertlab.quiz.quiz_parts()`
    """

    def __init__(self, part: str = "final", number: int = 1):
        self.questions = quiz_questions(part)
        self.part, self.title = part, "Predict" if part.endswith("_predict") else "Quiz"
        self.number = ipywidgets.BoundedIntText(value=number, min=1, max=len(self.questions), description="Question", style=STYLE)
        if len(self.questions) == 1:
            self.number.layout.display = "none"
        self.answer = ipywidgets.Dropdown(options=["choose", *LETTERS], value="choose", description="Answer", style=STYLE)
        super().__init__([self.number, self.answer])

    def _changed(self, change=None) -> None:
        if change and change["owner"] is self.number and self.answer.value != "choose":
            self.answer.value = "choose"  # a new question: this calls _changed again
            return
        super()._changed(change)

    def compute(self) -> Asked:
        number, answer = self.number.value, self.answer.value
        several = len({question.notebook for question in self.questions}) > 1
        return Asked(number, len(self.questions), several, self.questions[number - 1], None if answer == "choose" else check_answer(number, answer, self.part))

    def render(self, result: Asked) -> str:
        return render_asked(result)

    def without_kernel(self) -> str:
        return quiz_html(self.questions)
