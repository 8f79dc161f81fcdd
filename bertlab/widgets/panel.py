"""What every panel shares: controls above, an escaped result below, errors in words, a page without a kernel."""

from __future__ import annotations

import re
import warnings
from html import escape, unescape

import ipywidgets

from ..checkpoints import CheckpointError

STYLE = {"description_width": "9em"}
WIDE = ipywidgets.Layout(width="min(100%, 46em)")


class Panel(ipywidgets.VBox):
    """Base of all panels: a subclass gives `compute()` -> frozen dataclass and `render(result)` -> escaped HTML.

    result  the last frozen dataclass, or None after bad input
    html    the last rendered HTML
    """

    title = "panel"

    def __init__(self, controls: list[ipywidgets.Widget]):
        self.result = None
        self._controls = controls
        self._view = ipywidgets.HTML()
        super().__init__([*controls, self._view])
        for control in controls:
            control.observe(self._changed, names="value")
        self._changed()

    @property
    def html(self) -> str:
        return self._view.value

    def compute(self):
        raise NotImplementedError

    def render(self, result) -> str:
        raise NotImplementedError

    def _changed(self, _=None) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                self.result = self.compute()
                body = self.render(self.result)
            except (ValueError, CheckpointError) as error:
                self.result = None
                body = f'<p role="alert"><b>Please check:</b> {escape(str(error))}</p>'
        notes = "".join(f"<p><b>Note:</b> {escape(str(w.message))}</p>" for w in caught if w.category is UserWarning)
        self._view.value = f'<div class="bertlab-panel" aria-live="polite">{body}{notes}</div>'

    def _repr_mimebundle_(self, **kwargs):
        """The live panel where there is a kernel; elsewhere its first result as HTML and as text."""
        bundle = super()._repr_mimebundle_(**kwargs) or {}
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        controls = "".join(
            f"<li>{escape(c.description)}: <code>{escape(str(c.value))}</code></li>" for c in self._controls if getattr(c, "description", "")
        )
        static = f"<section><b>{escape(self.title)}</b> (run the notebook to use its controls)<ul>{controls}</ul>{self.html}</section>"
        return {**data, "text/plain": f"{self.title}\n{as_text(self.html)}", "text/html": static}, metadata


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
    return (
        f'<table cellpadding="6" style="text-align: left"><caption style="text-align: left; white-space: nowrap">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def bar(share: float, width: int = 20) -> str:
    """A bar of text characters for a share from 0 to 1: it scales with the font and copies as text.

    >>> bar(0.5, 4)
    '██░░'
    """
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full + "░" * (width - full)


def as_text(html: str) -> str:
    """The words of a panel's HTML, a row a line."""
    lines = re.sub(r"</(tr|p|caption|li|div)>", "\n", html)
    lines = re.sub(r"</t[hd]>", "  ", lines)
    return "\n".join(filter(None, (line.strip() for line in unescape(re.sub(r"<[^>]+>", "", lines)).splitlines())))
