"""The loop that every fine-tuning shares: it learns, stops, resumes bit for bit and says what is wrong."""

import os

import pytest
import torch

from bertlab.fine_tuning import FitOptions, fit

POINTS = [(x / 8, 3 * x / 8 - 1) for x in range(-8, 9)]


class Line(torch.nn.Module):
    """y = a x + b behind a dropout layer, so that random states matter too."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.body, self.drop, self.head = torch.nn.Linear(1, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.drop(self.body(x)))


def loss_of(model, batch):
    x, y = torch.tensor(batch).T.unsqueeze(-1)
    return (model(x) - y).square().mean()


OPTIONS = FitOptions(epochs=12, batch_size=4, learning_rate=0.02)


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def test_it_learns_and_leaves_the_model_ready():
    model = Line()
    log = fit(model, POINTS, loss_of, OPTIONS)
    assert log[-1]["loss"] < 0.3 * log[0]["loss"] and not model.training
    assert [entry["step"] for entry in log] == list(range(1, 12 * 5 + 1))


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    models = [Line() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1)):
        fit(model, POINTS, loss_of, FitOptions(epochs=2, batch_size=4, seed=seed))
    a, b, c = map(weights, models)
    assert all(map(torch.equal, a, b)) and not all(map(torch.equal, a, c))


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    whole, broken, again = Line(), Line(), Line()
    whole_log = fit(whole, POINTS, loss_of, OPTIONS)
    fit(broken, POINTS, loss_of, OPTIONS, output=tmp_path, callback=lambda record: record["step"] < 17)
    log = fit(again, POINTS, loss_of, OPTIONS, output=tmp_path, resume=True)
    assert log == whole_log and all(map(torch.equal, weights(again), weights(whole)))


def test_a_crash_loses_no_more_than_save_steps(tmp_path):
    def crash(record):
        if record["step"] == 23:
            raise RuntimeError("power cut")

    whole, again = Line(), Line()
    fit(whole, POINTS, loss_of, OPTIONS)
    with pytest.raises(RuntimeError):
        fit(Line(), POINTS, loss_of, OPTIONS, output=tmp_path, save_steps=10, callback=crash)
    assert torch.load(tmp_path / "training.pt", weights_only=True)["state"] == {"step": 20}
    fit(again, POINTS, loss_of, OPTIONS, output=tmp_path, resume=True)
    assert all(map(torch.equal, weights(again), weights(whole)))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path):
    def fill(record):
        if record["step"] == 20:
            (tmp_path / "training.pt.partial").symlink_to("/dev/full")

    with pytest.raises(OSError, match="No room is left .* is whole: free some room, then resume"):
        fit(Line(), POINTS, loss_of, OPTIONS, output=tmp_path, save_steps=10, callback=fill)
    whole, again = Line(), Line()
    fit(whole, POINTS, loss_of, OPTIONS)
    assert torch.load(tmp_path / "training.pt", weights_only=True)["state"] == {"step": 10}
    fit(again, POINTS, loss_of, OPTIONS, output=tmp_path, resume=True)
    assert all(map(torch.equal, weights(again), weights(whole)))


def test_a_gradient_that_is_no_number_never_reaches_weights_or_checkpoint(tmp_path):
    """The loss itself is fine, so that a check of the loss alone would save broken weights after this step."""
    model, steps = Line(), []

    def breaks_at_7(model, batch):
        steps.append(len(steps))
        return loss_of(model, batch) + ((model.head.weight * 0).sqrt().sum() if len(steps) == 8 else 0)

    with pytest.raises(FloatingPointError, match="gradients are no longer finite at step 7. Lower learning_rate .* still holds the last good checkpoint"):
        fit(model, POINTS, breaks_at_7, OPTIONS, output=tmp_path, save_steps=1)
    saved = torch.load(tmp_path / "training.pt", weights_only=True)
    assert saved["state"] == {"step": 7} and all(torch.isfinite(value).all() for value in [*saved["model"].values(), *weights(model)])


def test_frozen_parameters_stay_and_heads_have_their_own_rate():
    model = Line()
    model.body.requires_grad_(False)
    before = weights(model.body)
    fit(model, POINTS, loss_of, OPTIONS)
    assert all(map(torch.equal, before, weights(model.body)))
    slow, fast = Line(), Line()
    for one, rate in ((slow, 1.0), (fast, 10.0)):
        fit(one, POINTS, loss_of, FitOptions(epochs=0.2, batch_size=4, learning_rate=1e-3, head_rate=rate))
    start = Line()
    moved = [(one.head.weight - start.head.weight).abs().max().item() for one in (slow, fast)]
    assert moved[1] > 5 * moved[0]


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(ValueError, match="no examples"):
        fit(Line(), [], loss_of)
    with pytest.raises(ValueError, match="batch_size at least 1"):
        FitOptions(batch_size=0)
    with pytest.raises(FloatingPointError, match="Lower learning_rate"):
        fit(Line(), POINTS, lambda model, batch: loss_of(model, batch) * float("nan"))
    with pytest.raises(ValueError, match="resume needs output"):
        fit(Line(), POINTS, loss_of, resume=True)
    frozen = Line().requires_grad_(False)
    with pytest.raises(ValueError, match="frozen"):
        fit(frozen, POINTS, loss_of)
    fit(Line(), POINTS, loss_of, FitOptions(epochs=1), output=tmp_path)
    with pytest.raises(ValueError, match="another recipe"):
        fit(Line(), POINTS, loss_of, FitOptions(epochs=2), output=tmp_path, resume=True)
