"""What all panels share: "Running" only when it takes long, changes that go together, numbers without a minus zero."""

import dataclasses
import threading

import ipywidgets
import pytest

from bertlab.widgets import panel
from bertlab.widgets.panel import RUNNING, Panel, heat_table


@dataclasses.dataclass(frozen=True)
class Sum:
    total: int


class Adder(Panel):
    """Adds two numbers; `hold` may delay the answer."""

    title = "Adder"

    def __init__(self):
        self.a, self.b = (ipywidgets.IntText(value=1, description=name) for name in "ab")
        self.hold = lambda: None
        self.asked = 0
        super().__init__([self.a, self.b])

    def compute(self):
        self.asked += 1
        self.hold()
        return Sum(self.a.value + self.b.value)

    def render(self, result):
        return f"<p>{result.total}</p>"


@pytest.fixture
def said(monkeypatch):
    """An Adder, and what its status line says from now on."""
    made, said = Adder(), []
    made._status.observe(lambda change: said.append(change.new), names="value")
    return made, said


def test_a_slow_answer_says_running_and_then_no_longer(said, monkeypatch):
    made, statuses = said
    running = threading.Event()
    made._status.observe(lambda _: running.set(), names="value")
    made.hold = lambda: running.wait(20)
    made.a.value = 5
    assert statuses == [RUNNING, ""] and made.result == Sum(6)


def test_a_quick_answer_says_nothing_on_the_way(said, monkeypatch):
    monkeypatch.setattr(panel, "SLOW", 60)
    made, statuses = said
    made.a.value = 5
    assert statuses == [] and "6" in made.html


def test_running_ends_after_an_error_too(said, monkeypatch):
    made, statuses = said

    def hold():
        running.wait(20)
        raise RuntimeError("no <luck>")

    running = threading.Event()
    made._status.observe(lambda _: running.set(), names="value")
    made.hold = hold
    made.a.value = 5
    assert statuses == [RUNNING, ""] and made.result is None and "no &lt;luck&gt;" in made.html


def test_changes_that_go_together_are_one_answer():
    made = Adder()
    with made.together():
        made.a.value = 10
        with made.together():
            made.b.value = 20
        assert made.asked == 1
    assert made.asked == 2 and made.result == Sum(30)


def test_an_earlier_setting_costs_nothing():
    made = Adder()
    for value in (2, 3, 2, 3, 1):
        made.a.value = value
    assert made.asked == 3 and made.result == Sum(2)


def test_without_a_kernel_only_the_visible_controls_are_listed():
    made = Adder()
    made.b.layout.display = "none"
    data, metadata = made._repr_mimebundle_()
    assert "<li>a: <code>1</code></li>" in data["text/html"] and "<li>b:" not in data["text/html"]
    assert metadata == {}  # Colab alone gets some


def test_colab_gets_its_widget_manager(monkeypatch):
    from anywidget import _descriptor, _util

    for module in (_descriptor, _util):
        if hasattr(module, "get_repr_metadata"):
            monkeypatch.setattr(module, "get_repr_metadata", lambda: {"for": "Colab"})
    assert Adder()._repr_mimebundle_()[1] == {"for": "Colab"}


def test_no_minus_zero():
    assert "-0.00" not in heat_table(["a"], [("b", [-0.001])], "c") and "-0.01" in heat_table(["a"], [("b", [-0.0149])], "c")
