"""What every panel shares: controls above, an escaped result below, errors in words, a page without a kernel."""

from __future__ import annotations

import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape, unescape
from pathlib import Path

import anywidget
import ipywidgets

from .. import memory
from ..checkpoints import CheckpointError

STYLE = {"description_width": "9em"}
WIDE = ipywidgets.Layout(width="min(100%, 46em)")
STATIC = Path(__file__).parent / "static"
RUNNING = '<p role="status">Running …</p>'
KEPT = 32  # results that a panel remembers
SLOW = 0.15  # seconds, after which a panel says that it is running


class Page(anywidget.AnyWidget):
    """What a panel brings to its page: its style sheet, and its keys kept from JupyterLab's shortcuts."""

    _esm = STATIC / "panel.js"
    _css = STATIC / "panel.css"


class Panel(ipywidgets.VBox):
    """Base of all panels: a subclass gives `compute()` -> frozen dataclass and `render(result)` -> escaped HTML.

    controls  what the result depends on: widgets with a `value`; each is observed
    rows      what is shown above the result, if not just the controls one below the other
    result    the last frozen dataclass, or None after bad input
    html      the last rendered HTML

    While it computes it says "Running". The last results are kept: going back to an earlier setting costs nothing.
    ipywidgets sends the changes of one control one after another and merges those that pile up meanwhile.
    """

    title = "panel"
    live = "polite"  # aria-live of the result: "off" where it changes by itself
    _waiting = False

    def __init__(self, controls: Sequence[ipywidgets.Widget], rows: Sequence[ipywidgets.Widget] | None = None):
        self.result = None
        self._controls = list(controls)
        self._kept: OrderedDict = OrderedDict()
        self._status, self._view = ipywidgets.HTML(), ipywidgets.HTML()
        super().__init__([Page(layout=ipywidgets.Layout(display="none")), *(self._controls if rows is None else rows), self._status, self._view])
        for control in self._controls:
            control.observe(self._changed, names="value")
        self._changed()

    @property
    def html(self) -> str:
        return self._view.value

    def compute(self):
        raise NotImplementedError

    def render(self, result) -> str:
        raise NotImplementedError

    def state(self) -> tuple:
        """What the result depends on; equal states have equal results."""
        return tuple(tuple(c.value) if isinstance(c.value, list) else c.value for c in self._controls)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Controls that are set inside change together: one result at the end, none in between."""
        waiting, self._waiting = self._waiting, True
        try:
            yield
        finally:
            self._waiting = waiting
        self._changed()

    def _changed(self, _=None) -> None:
        if self._waiting:
            return
        state = self.state()
        if state not in self._kept:
            with self._running():
                self._kept[state] = self._answer()
        self._kept.move_to_end(state)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        self._show(*self._kept[state])

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Say "Running" if what is done inside takes long; a quick answer sends no message for it."""
        timer = threading.Timer(SLOW, setattr, (self._status, "value", RUNNING))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            self._status.value = ""

    def _show(self, result, body: str) -> None:
        self.result = result
        self._view.value = f'<div class="bertlab-panel" aria-live="{self.live}">{body}</div>'

    def _answer(self) -> tuple[object, str]:
        """(result, escaped HTML); after an error (None, what to do)."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                result = self.compute()
                body = self.render(result)
            except (ValueError, CheckpointError) as error:
                result, body = None, f'<p role="alert"><b>Please check:</b> {escape(str(error))}</p>'
            except Exception as error:  # a callback's traceback would reach nobody
                what = f"{type(error).__name__}: {error}. Change the input; if it stays, restart the kernel."
                result, body = None, f'<p role="alert"><b>This failed:</b> {escape(memory.sentence() if memory.is_lack(error) else what)}</p>'
        notes = "".join(f"<p><b>Note:</b> {escape(str(w.message))}</p>" for w in caught if w.category is UserWarning)
        return result, body + notes

    def _repr_mimebundle_(self, **kwargs):
        """The live panel where there is a kernel; elsewhere its present result as HTML and as text."""
        data = super()._repr_mimebundle_(**kwargs) or {}
        _, metadata = self.children[0]._repr_mimebundle_()  # anywidget's: Colab needs it
        static = f"<section><style>{style_sheet()}</style><b>{escape(self.title)}</b> (run the notebook to use its controls){self.without_kernel()}</section>"
        return {**data, "text/plain": f"{self.title}\n{as_text(self.html)}", "text/html": static}, metadata

    def without_kernel(self) -> str:
        """What a page without a kernel shows: the visible settings and the present result."""
        visible = [c for c in self._controls if getattr(c, "description", "") and c.layout.display != "none"]
        settings = "".join(f"<li>{escape(c.description)}: <code>{escape(shown(c))}</code></li>" for c in visible)
        return f"<ul>{settings}</ul>{self.html}"


def button(description: str, work: Callable[[], None]) -> ipywidgets.Button:
    """A button that does `work` and cannot be pressed meanwhile."""
    made = ipywidgets.Button(description=description, layout=ipywidgets.Layout(width="auto"))

    def pressed(_) -> None:
        made.disabled = True
        try:
            work()
        finally:
            made.disabled = False

    made.on_click(pressed)
    return made


def shown(control: ipywidgets.Widget) -> str:
    """A control's value in words; half a character, which no page can show, becomes a question mark."""
    value = control.value
    if isinstance(value, bool):
        return "yes" if value else "no"
    words = control.said() if hasattr(control, "said") else str(value)
    return words.encode(errors="replace").decode()


def style_sheet() -> str:
    """The panels' CSS: JupyterLab's own colours, so light and dark themes both fit."""
    return (STATIC / "panel.css").read_text(encoding="utf-8")


# ---------------------------------------------------------------- pieces of a result


def table(headers: list[str], rows: list[list[object]], caption: str) -> str:
    """An HTML table; every cell is escaped, the first cell of a row is its header.

    >>> table(["a"], [["<b>"]], "c").count("&lt;b&gt;")
    1
    """
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in headers)
    body = "".join(
        "<tr>" + "".join(f'<th scope="row">{escape(str(c))}</th>' if i == 0 else f"<td>{escape(str(c))}</td>" for i, c in enumerate(row)) + "</tr>"
        for row in rows
    )
    return _table(head, body, caption)


def heat_table(headers: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]], caption: str, corner: str = "", decimals: int = 2) -> str:
    """A heat map as an HTML table: rows of (label, numbers); each cell has its number, and a ground that darkens from 0 to 1.

    >>> "0.50" in heat_table(["a"], [("b", [0.5])], "c")
    True
    """
    head = f'<th scope="col">{escape(corner)}</th>' + "".join(f'<th scope="col">{escape(h)}</th>' for h in headers)
    body = "".join(f'<tr><th scope="row">{escape(label)}</th>' + "".join(_cell(v, decimals) for v in values) + "</tr>" for label, values in rows)
    return _table(head, body, caption)


def _table(head: str, body: str, caption: str) -> str:
    return (
        f'<div class="bertlab-wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="bertlab-table" cellpadding="6">'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: float, decimals: int) -> str:
    """White at 0 and below, dark blue at 1; the letters change to white where that gives more contrast."""
    share = max(0.0, min(1.0, value))
    ground = ", ".join(str(round(255 - share * (255 - channel))) for channel in (8, 69, 148))
    return f'<td style="background: rgb({ground}); color: {"white" if share > 0.725 else "black"}">{round(value, decimals) + 0.0:.{decimals}f}</td>'


def bar(share: float, width: int = 20) -> str:
    """A bar of text characters for a share from 0 to 1: it scales with the font and copies as text.

    >>> bar(0.5, 4)
    '██░░'
    """
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full + "░" * (width - full)


def as_text(html: str) -> str:
    """The words of a panel's HTML, a row a line; drawings are left out."""
    lines = re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL)
    lines = re.sub(r"</(tr|p|caption|figcaption|li|div)>", "\n", lines)
    lines = re.sub(r"</t[hd]>", "  ", lines)
    return "\n".join(filter(None, (line.strip() for line in unescape(re.sub(r"<[^>]+>", "", lines)).splitlines())))
