"""How long a panel takes from a person's change to the painted result, measured in the browser.

    python tests/runs/panel_speed.py --repeats 40 --output panel_speed.json

For MaskedWord one word of the sentence is changed. Beside it, on the same page and by turns:
empty  a Text and an HTML widget with a callback that does nothing else: the way to the kernel and back
model  the bare model call, timed in the kernel
ratio = median(MaskedWord) / (median(empty) + median(model)); the bar is 1.3. For every panel the 95th percentile.
A painted frame can hide some milliseconds of work, so the time when the result is in the page is given too.
Needs a quiet machine. No setting is used twice, except where a panel has only a few.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from browser import LabPage, chromium, lab_server, write_notebook
from test_browser import CASES

SENTENCE = "The cat sat on the {} because it was [MASK]."
WORDS = (
    "mat bed roof chair table floor wall car boat bench stone grass sofa shelf desk bridge fence tree hill road step box bag book coat "
    "rug porch truck wagon hay sand snow ice beach deck dock lawn log rock stool couch ladder barrel crate basket pillow blanket carpet "
    "counter stove piano drum statue fountain tower gate door path street corner bank shore island rope chain wheel plank board"
).split()
WARM_UP = 5
BESIDE = """
import time, ipywidgets
def beside(description, work):
    text = ipywidgets.Text(description=description, continuous_update=False)
    answer = ipywidgets.HTML()
    def changed(change):
        answer.value = f'<p class="bertlab-panel" aria-live="off">{work(change.new)}</p>'
    text.observe(changed, names="value")
    answer.value = '<p class="bertlab-panel" aria-live="off">nothing yet</p>'
    return ipywidgets.VBox([text, answer])
def timed(text):
    began = time.perf_counter()
    bl.predict_masked(text)
    return 1000 * (time.perf_counter() - began)
"""
# Sets the control and resolves with the milliseconds until the new result (with `word` in it) was in the page, and was painted; null if none came.
CHANGE = """([output, control, value, word]) => new Promise((resolve) => {
  const before = output.querySelector(".bertlab-panel[aria-live]");
  const watch = new MutationObserver(() => {
    const result = output.querySelector(".bertlab-panel[aria-live]");
    if (!result || result === before || !result.textContent.includes(word)) return;
    watch.disconnect();
    clearTimeout(waiting);
    const arrived = performance.now() - began;
    requestAnimationFrame(() => {
      const painted = new MessageChannel();  // its message comes after the frame's paint
      painted.port1.onmessage = () => resolve([arrived, performance.now() - began]);
      painted.port2.postMessage(0);
    });
  });
  const waiting = setTimeout(() => resolve(null), 20000);
  watch.observe(output, { childList: true, subtree: true, characterData: true });
  if (control.type === "checkbox") control.checked = !control.checked;
  else if (control.tagName === "SELECT") control.selectedIndex = (control.selectedIndex + 1) % control.options.length;
  else if (control.type === "number") control.value = Number(control.min) + (control.value === control.min);
  else control.value = value;
  const began = performance.now();
  control.dispatchEvent(new Event("input", { bubbles: true }));
  control.dispatchEvent(new Event("change", { bubbles: true }));
})"""


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40, help=f"at most {len(WORDS) - WARM_UP}")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not 1 <= options.repeats <= len(WORDS) - WARM_UP:
        parser.error(f"--repeats must lie between 1 and {len(WORDS) - WARM_UP}")
    codes = {
        "empty": 'beside("empty", str)',
        "model": 'beside("model", timed)',
        "MaskedWord": f"bl.widgets.MaskedWord({SENTENCE.format('sill')!r})",
        **{name: case.code for name, case in CASES.items() if name != "MaskedWord"},
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        notebooks, home = Path(folder, "notebooks"), Path(folder, "home")
        notebooks.mkdir(), home.mkdir()
        write_notebook(notebooks / "speed.ipynb", [f"import bertlab as bl\n%load_ext bertlab{BESIDE}", *codes.values()])
        with lab_server(notebooks, home) as address, chromium() as browser:
            lab = LabPage(browser, address, "speed.ipynb")
            lab.run_all()
            times = measure(lab, list(codes), options.repeats)
            lab.close()
            if lab.troubles:
                print("\n".join(lab.troubles), file=sys.stderr)
                return 1
    return report(times, options)


def measure(lab: LabPage, names: list[str], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """(arrived, painted) in milliseconds for each name; the three that are compared take turns, in a new order each time."""
    outputs = {name: lab.output(1 + number) for number, name in enumerate(names)}
    labels = {"empty": "empty", "model": "model", **{name: case.sentence or case.control for name, case in CASES.items()}}
    controls = {name: outputs[name].get_by_label(labels[name], exact=True).element_handle() for name in names}
    handles = {name: output.element_handle() for name, output in outputs.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    compared, others = names[:3], names[3:]

    def once(name: str, word: str) -> None:
        value = SENTENCE.format(word) + ("\nIt rained." if name == "SimilarityMap" else "")
        shown = word if name in ("empty", "MaskedWord") else ""
        took = lab.page.evaluate(CHANGE, [handles[name], controls[name], value, shown])
        if took is None:
            print(f"{name}: no new result within 20 s for {value!r}", file=sys.stderr, flush=True)
        else:
            if name == "model":  # what the kernel measured
                took = [float(outputs[name].locator(".bertlab-panel[aria-live]").inner_text())] * 2
            times[name].append(tuple(took))

    draw = random.Random(0)
    for word in WORDS[: WARM_UP + repeats]:
        for name in draw.sample(compared, 3):
            once(name, word)
    for name in others:
        for word in WORDS[: WARM_UP + repeats]:
            once(name, word)
    return {name: values[WARM_UP:] for name, values in times.items()}


def report(times: dict[str, list[tuple[float, float]]], options) -> int:
    painted = {name: [p for _, p in values] for name, values in times.items()}
    arrived = {name: statistics.median(a for a, _ in values) for name, values in times.items()}
    medians = {name: statistics.median(values) for name, values in painted.items()}
    ratio, arrival = (of["MaskedWord"] / (of["empty"] + of["model"]) for of in (medians, arrived))
    rows = {
        name: {"arrived_ms": round(arrived[name], 1), "painted_ms": round(medians[name], 1), "p95_ms": round(percentile(painted[name], 0.95), 1)}
        for name in times
    }
    for name, row in rows.items():
        print(f"{name:16}in the page {row['arrived_ms']:7.1f} ms   painted {row['painted_ms']:7.1f} ms   p95 {row['p95_ms']:7.1f} ms")
    print(f"MaskedWord / (empty + model) = {ratio:.2f} (bar: at most 1.3), {arrival:.2f} without the painting; {options.repeats} repeats")
    if options.output:
        options.output.write_text(json.dumps({"ratio": round(ratio, 3), "repeats": options.repeats, "panels": rows}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
