"""Questions with four options, and for every option the reason why it is right or wrong.

Parts: "final" is the quiz at the end of the course (notebooks/10_which_representation.ipynb), "02" the short quiz of notebook
02, "02_predict" what that notebook asks before it measures. The content is data/quiz/.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape

from .checkpoints import data_folder
from .inputs import one_of, short

LETTERS = "ABCD"


@dataclass(frozen=True)
class Option:
    """One answer to choose from; why says what makes it right or wrong."""

    text: str
    right: bool
    why: str


@dataclass(frozen=True)
class Question:
    """A question with four options, exactly one of them right; notebook says where to read about it."""

    text: str
    notebook: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Checked:
    """A chosen answer: the letter, whether it is right, why, and the notebook to read again."""

    letter: str
    right: bool
    why: str
    notebook: str


def quiz_parts() -> list[str]:
    """The names of all parts.

    >>> quiz_parts()[-1]
    'final'
    """
    return sorted(path.stem for path in (data_folder() / "quiz").glob("*.json"))


def quiz_questions(part: str = "final") -> tuple[Question, ...]:
    """The questions of a part, in the order of the course; ValueError if there is no such part.

    >>> len(quiz_questions())
    20
    """
    return _questions(one_of(part, quiz_parts(), "quiz"))


@cache
def _questions(part: str) -> tuple[Question, ...]:
    with open(data_folder() / "quiz" / f"{part}.json", encoding="utf-8") as file:
        return tuple(Question(q["question"], q["notebook"], tuple(Option(**o) for o in q["options"])) for q in json.load(file))


def check_answer(number: int, letter: str, part: str = "final") -> Checked:
    """Check one answer: the question's number from 1, the option's letter.

    Raises ValueError if there is no such question, option or part.

    >>> check_answer(1, "a").right
    False
    """
    questions = quiz_questions(part)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= len(questions):
        raise ValueError(f"There is no question {short(number)}: give a number from 1 to {len(questions)}.")
    at = LETTERS.find(letter.strip().upper() or "?") if isinstance(letter, str) else -1
    if at < 0 or len(letter.strip()) != 1:
        raise ValueError(f"There is no option {short(letter)}: choose from {', '.join(LETTERS)}.")
    question = questions[number - 1]
    option = question.options[at]
    return Checked(LETTERS[at], option.right, option.why, question.notebook)


def numbered(number: int, of: int, text: str) -> str:
    """A question with its number, if there are others.

    >>> numbered(1, 3, "Why?"), numbered(1, 1, "Why?")
    ('1. Why?', 'Why?')
    """
    return f"{number}. {text}" if of > 1 else text


def quiz_html(questions: Sequence[Question]) -> str:
    """Questions as a page that needs no kernel: open an option to see whether it is right, and why.

    Where the questions are of several notebooks, each says in which one to read again.

    >>> quiz_html(quiz_questions()).count("<details>")
    80
    """
    parts, course = [], len({question.notebook for question in questions}) > 1
    for number, question in enumerate(questions, 1):
        parts.append(f"<p><b>{escape(numbered(number, len(questions), question.text))}</b></p>")
        for letter, option in zip(LETTERS, question.options):
            verdict = "Right." if option.right else "Not this one."
            parts.append(f"<details><summary>{letter}. {escape(option.text)}</summary><p><b>{verdict}</b> {escape(option.why)}</p></details>")
        if course:
            link = escape(question.notebook, quote=True)
            parts.append(f'<p>Read again: <a href="{link}.ipynb">{link}</a></p>')
    return f"<section>{''.join(parts)}</section>"
