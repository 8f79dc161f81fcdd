"""The training monitor: what it reads from records, what it draws, what its controls do."""

from types import SimpleNamespace

import pytest

import bertlab as bl
from bertlab.widgets.training_monitor import CURVES, TrainingMonitor, read_progress, render_progress

PRETRAINING = [
    {"step": 0, "tokens": 0, "event": "evaluation", "mlm_loss": 6.0, "mlm_accuracy": 0.0, "nsp_accuracy": 0.5, "perplexity": 400.0, "samples": {}},
    {"step": 20, "tokens": 1000, "event": "train", "mlm_loss": 5.0, "nsp_loss": 0.7, "tokens_per_second": 9},
    {"step": 40, "tokens": 2000, "event": "train", "mlm_loss": 3.0, "nsp_loss": 0.6, "tokens_per_second": 9},
    {"step": 40, "tokens": 2000, "event": "evaluation", "mlm_loss": 3.5, "mlm_accuracy": 0.4, "nsp_accuracy": None},
    {"step": 50, "tokens": 2500, "event": "stopped"},
]


def test_curves_are_read_from_pretraining_records():
    assert read_progress(PRETRAINING).x == (1000, 2000) and read_progress(PRETRAINING).values == (5.0, 3.0)
    assert read_progress(PRETRAINING, "MLM loss", 2).values == (5.0, 4.0)
    assert read_progress(PRETRAINING, "held-out MLM loss").values == (6.0, 3.5)
    assert read_progress(PRETRAINING, "held-out NSP accuracy").values == (0.5,)  # None is no value
    assert dict(read_progress(PRETRAINING).latest) == {
        "MLM loss": 3.0, "NSP loss": 0.6, "held-out MLM loss": 3.5, "held-out MLM accuracy": 0.4, "held-out NSP accuracy": 0.5,
    }  # fmt: skip


def test_fine_tuning_records():
    records = [{"step": s, "share": s / 4, "loss": 1 / s, "seconds_left": 1} for s in range(1, 4)]
    progress = read_progress(records, "fine-tuning loss")
    assert progress.x == (1, 2, 3) and progress.share == 0.75 and progress.seconds_left == 1
    assert "75% done, a few seconds left" in render_progress(progress) and 'aria-valuenow="75"' in render_progress(progress)
    for ended, record in (("done", {"step": 4, "share": 1.0, "loss": 0.1, "seconds_left": 0}), ("stopped", {"step": 4, "share": 0.8, "event": "stopped"})):
        progress = read_progress([*records, record], "fine-tuning loss")
        assert progress.ended == ended and "left" not in render_progress(progress)
    assert "Stopped when 80% done" in render_progress(progress)


def test_the_time_left_of_a_pretraining_follows_from_its_speed():
    records = [{"step": 20, "tokens": 1000, "share": 0.25, "event": "train", "mlm_loss": 5.0, "nsp_loss": 0.7, "tokens_per_second": 10}]
    assert read_progress(records).seconds_left == 300 and "25% done, about 5 minutes left" in render_progress(read_progress(records))
    assert read_progress([{"step": 0, "tokens": 0, "share": 0.0, "event": "evaluation"}]).seconds_left is None
    assert read_progress(PRETRAINING).share is None and "progressbar" not in render_progress(read_progress(PRETRAINING))


def test_guesses_at_the_first_the_middle_and_the_last_evaluation():
    text = "It is [MASK] <b>."
    records = [
        {"step": s, "tokens": s, "share": s / 4, "event": "evaluation", "mlm_loss": 1.0, "samples": {text: [f"<{s}>", "b", "c", "d"]}} for s in range(5)
    ]
    assert read_progress(records).guesses == ((text, (("0%", ("<0>", "b", "c")), ("50%", ("<2>", "b", "c")), ("100%", ("<4>", "b", "c")))),)
    assert [where for where, _ in read_progress(records[:2]).guesses[0][1]] == ["0%", "25%"]
    html = render_progress(read_progress(records))
    assert "at 50%" in html and "&lt;4&gt;, b, c" in html and "<b>" not in html.replace("<b>Note", "")


def test_no_records_yet():
    monitor = TrainingMonitor()
    assert monitor.result.values == () and "No value for MLM loss yet" in monitor.html


@pytest.mark.parametrize("options, word", [({"curve": "accuracy of luck"}, "luck"), ({"smoothing": 0}, "smoothing")])
def test_bad_choices_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        read_progress(PRETRAINING, **options)


def test_the_drawing_is_described_and_stays_small():
    many = [{"step": i, "tokens": i, "event": "train", "mlm_loss": 5 - i / 1000, "nsp_loss": 0.5} for i in range(3000)]
    html = render_progress(read_progress(many))
    assert 'role="img"' in html and 'aria-label="MLM loss: from 5.00 to 2.00' in html
    assert len(html) < 6000 and html.count(",") <= 220


def test_the_panel_takes_records_and_observes_its_controls():
    monitor = bl.widgets.TrainingMonitor()
    for record in PRETRAINING:
        assert monitor.record(record) is None  # False would stop the training
    assert monitor.result.values == (5.0, 3.0) and "from 5.00 to 3.00" in monitor.html
    monitor.curve.value = "NSP loss"
    assert monitor.result.curve == "NSP loss" and "from 0.70 to 0.60" in monitor.html
    monitor.smoothing.value = 2
    assert monitor.result.values == pytest.approx((0.7, 0.65)) and "to 0.65" in monitor.html
    monitor.clear()
    assert monitor.result.values == () and "No value for NSP loss yet" in monitor.html


def test_a_smaller_step_begins_a_new_run():
    monitor = TrainingMonitor("fine-tuning loss")
    for step in (1, 2, 3, 1, 2):
        monitor.record({"step": step, "share": step / 4, "loss": float(step)})
    assert monitor.result.values == (1.0, 2.0)


class Shell:
    """As much of a notebook's shell as the monitor asks for; `subshells` are what the front end has opened."""

    def __init__(self, *subshells):
        self.hooks = []
        self.events = SimpleNamespace(register=lambda *hook: self.hooks.append(hook), unregister=lambda *hook: self.hooks.remove(hook))
        manager = SimpleNamespace(list_subshell=lambda: list(subshells))
        self.kernel = SimpleNamespace(shell_channel_thread=SimpleNamespace(manager=manager))

    def end_the_cell(self):
        for event, hook in [*self.hooks]:
            assert event == "post_run_cell"  # post_execute would also come after every message of a control
            hook(None)


@pytest.fixture
def notebook(monkeypatch):
    def begin(*subshells):
        shell = Shell(*subshells)
        monkeypatch.setattr("IPython.get_ipython", lambda: shell)
        return shell

    return begin


def tuning(monitor, steps, total=1000):
    """Steps of a loop until the monitor ends it; the last step."""
    for step in steps:
        if monitor.record({"step": step, "share": step / total, "loss": 1 / step, "seconds_left": 5}) is False:
            break
    return step


def test_while_a_cell_runs_it_draws_now_and_then_and_at_the_end(notebook, monkeypatch):
    shell, monitor, drawn = notebook("one"), TrainingMonitor("fine-tuning loss"), []
    monkeypatch.setattr(monitor, "_show", lambda *answer: drawn.append(answer) or TrainingMonitor._show(monitor, *answer))
    tuning(monitor, range(1, 901))
    assert len(drawn) < 20  # 900 records in less than a few seconds
    assert len(monitor.result.values) == 900 and "90% done" in monitor.html  # read from Python it is never late
    shell.end_the_cell()
    assert not shell.hooks and "Stopped when 90% done" in monitor.html
    tuning(monitor, range(901, 1001))
    assert len(drawn) < 40 and "100% done" in drawn[-1][1]  # the last record was drawn at once
    shell.end_the_cell()
    assert monitor.result.ended == "done" and "is done" in monitor._note.value


def test_the_stop_button_ends_the_run_and_is_gone_afterwards(notebook):
    shell, monitor = notebook("one"), TrainingMonitor("fine-tuning loss")
    assert monitor.stop.layout.display == "none"  # nothing to stop
    tuning(monitor, range(1, 11))
    assert monitor.stop.layout.display == "" and not monitor.stop.disabled
    monitor.stop.click()
    assert monitor.stop.disabled and "Stopping" in monitor._note.value
    assert tuning(monitor, range(11, 1001)) == 11 and monitor.result.ended == "stopped"
    shell.end_the_cell()
    assert monitor.stop.layout.display == "none" and "was stopped" in monitor._note.value
    monitor.stop.click()  # a late click must not end the next run
    assert tuning(monitor, range(1, 1001)) == 1000 and monitor.result.ended == "done"


def test_a_fine_tuning_that_was_stopped_leaves_the_model_ready(notebook):
    torch = pytest.importorskip("torch")
    from bertlab.fine_tuning import FitOptions, fit

    notebook("one")
    monitor, model = TrainingMonitor("fine-tuning loss"), torch.nn.Linear(1, 1)

    def callback(record):
        if record["step"] == 3:
            monitor.stop.click()
        return monitor.record(record)

    log = fit(model, [(x / 8, x / 4) for x in range(8)], lambda m, batch: m(torch.tensor(batch)[:, :1]).square().mean(), FitOptions(epochs=10, batch_size=4), callback=callback)
    assert len(log) == 3 and not model.training and monitor.result.ended == "stopped"


def test_without_a_way_to_hear_a_button_there_is_none(notebook):
    shell, monitor = notebook(), TrainingMonitor("fine-tuning loss")
    tuning(monitor, range(1, 4))
    assert monitor.stop.layout.display == "none" and "interrupt the kernel" in monitor._note.value
    shell.end_the_cell()
    assert "was stopped" in monitor._note.value


def test_the_page_without_a_kernel_shows_text():
    monitor = TrainingMonitor("NSP loss")
    for record in PRETRAINING:
        monitor.record(record)
    data, _ = monitor._repr_mimebundle_()
    assert data["text/plain"].startswith("Training monitor\n") and "NSP loss  0.60" in data["text/plain"]
    assert "<svg" in data["text/html"] and "Curve: <code>NSP loss</code>" in data["text/html"]


def test_every_curve_can_be_chosen():
    monitor = TrainingMonitor()
    for curve in CURVES:
        monitor.curve.value = curve
        assert monitor.result.curve == curve
