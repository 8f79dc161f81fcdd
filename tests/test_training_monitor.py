"""The training monitor: what it reads from records, what it draws, what its controls do."""

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
    assert progress.x == (1, 2, 3) and progress.share == 0.75
    assert "75% done" in render_progress(progress)


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
