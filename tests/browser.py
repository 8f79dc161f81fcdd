"""A real JupyterLab in a real Chromium, for what only a browser can show: see test_browser.py and runs/panel_speed.py.

    with lab_server(notebooks, home) as address, chromium() as browser:
        page = LabPage(browser, address, "03_masked_language_model.ipynb")
        page.run_all()
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
from playwright.sync_api import Browser, Locator, expect, sync_playwright

from bertlab.cli import lab_command

CHECKOUT = Path(__file__).resolve().parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = float(os.environ.get("BERTLAB_BROWSER_SECONDS", 120))  # how long anything may take: a busy machine is slow, not broken
TOKEN = secrets.token_hex(16)
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WATCH = """panel => {
  let last = null;
  new MutationObserver(() => { last = performance.now(); }).observe(panel, { childList: true, characterData: true, subtree: true });
  globalThis.atRest = () => last && performance.now() - last > 300 && !panel.textContent.includes("Running");
}"""
CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")

expect.set_options(timeout=SECONDS * 1000)


def find_chromium() -> str | None:
    """Debian's Chromium, or another one on the path."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments, timeout=SECONDS * 1000)
        yield browser
        browser.close()


@contextmanager
def lab_server(notebooks: Path, home: Path) -> Iterator[str]:
    """What `bertlab lab` starts, on a free port of this machine, with a home folder of its own; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = ["--LabApp.expose_app_in_browser=True", f"--IdentityProvider.token={TOKEN}"]
    command = lab_command(notebooks, port, browser=False, extra=more)
    address, log = f"http://127.0.0.1:{port}", home / "lab.log"
    asks_about_news = home / "config/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    asks_about_news.parent.mkdir(parents=True)
    asks_about_news.write_text('{"fetchNews": "false"}')
    with log.open("w") as out:
        server = subprocess.Popen(command, env=environment(home), cwd=home, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + SECONDS
        while not _answers(f"{address}/api/status?token={TOKEN}"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(5)
        except subprocess.TimeoutExpired:
            server.kill()  # a kernel ends when its server is gone
            server.wait()


def environment(home: Path) -> dict[str, str]:
    """This checkout's bertlab with the bundled weights; nothing from the person's own Jupyter, no network."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("JUPYTER", "BERTLAB_", "IPYTHON")) and not n.lower().endswith("_proxy")}
    folders = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython", "MPLCONFIGDIR": "mpl"}
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    return {
        **kept,
        **{name: str(home / folder) for name, folder in folders.items()},
        "HOME": str(home),
        "PYTHONPATH": path,
        "JUPYTER_PREFER_ENV_PATH": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _answers(address: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=5):
            return True
    except OSError:
        return False


def write_notebook(path: Path, sources: list[str]) -> None:
    """A notebook with one code cell for each source."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.metadata.kernelspec = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    nbformat.write(notebook, path)


class LabPage:
    """One notebook in its own JupyterLab page. Requests off the server are refused, and whatever goes wrong is kept in `troubles`."""

    def __init__(self, browser: Browser, address: str, notebook: str):
        self.troubles: list[str] = []
        self._server = urlsplit(address).netloc
        self.context = browser.new_context(viewport={"width": 1280, "height": 1000}, service_workers="block")
        self.context.set_default_timeout(SECONDS * 1000)
        self.context.route("**/*", self._gate)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.troubles.append(f"page error: {error}"))
        self.page.on("console", self._heard)
        self.page.on("websocket", self._socket)
        self.page.goto(f"{address}/lab/tree/{notebook}?token={TOKEN}&reset")
        self.page.wait_for_function("globalThis.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
        self.page.evaluate("jupyterapp.shell.currentWidget.context.ready")

    def _gate(self, route) -> None:
        address = urlsplit(route.request.url)
        if address.scheme in ("http", "https") and address.netloc != self._server:
            self.troubles.append(f"request off the server: {route.request.url}")
            route.abort()
        else:
            route.continue_()

    def _socket(self, socket) -> None:
        if urlsplit(socket.url).netloc != self._server:
            self.troubles.append(f"socket off the server: {socket.url}")

    def _heard(self, message) -> None:
        if message.type == "error":
            self.troubles.append(f"console error: {message.text} ({message.location.get('url', '')})")

    def close(self) -> None:
        self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.context.close()

    def start(self, command: str) -> None:
        """Execute one of JupyterLab's commands without waiting for its end."""
        self.page.evaluate("command => { globalThis.ran = false; jupyterapp.commands.execute(command).finally(() => (globalThis.ran = true)); }", command)

    def wait(self, seconds: float = SECONDS) -> None:
        """Until the command has ended and the kernel is idle."""
        self.page.wait_for_function(
            "globalThis.ran && jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'", timeout=seconds * 1000
        )

    def run_all(self) -> None:
        self.start("notebook:run-all-cells")
        self.wait(10 * SECONDS)

    def start_cell(self, number: int) -> Locator:
        """Run one cell, counted from 0, and return its cell in the page."""
        self.page.evaluate("number => { jupyterapp.shell.currentWidget.content.activeCellIndex = number; }", number)
        self.start("notebook:run-cell")
        return self.page.locator(".jp-Cell").nth(number)

    def run_cell(self, number: int) -> Locator:
        """Run one cell and return its last output."""
        self.start_cell(number)
        self.wait()
        return self.output(number)

    def output(self, number: int) -> Locator:
        return self.page.locator(".jp-Cell").nth(number).locator(".jp-OutputArea-output").last

    def cells(self) -> list[dict]:
        """What the notebook now holds, cell by cell, as in the file."""
        return self.page.evaluate("jupyterapp.shell.currentWidget.context.model.toJSON().cells")

    def theme(self, name: str) -> None:
        """Change to "light" or "dark", as a person does in the Settings menu."""
        self.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", THEMES[name])
        self.page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=THEMES[name])
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)  # it covers the page while the theme loads


class PanelView:
    """A panel on the page, as a person meets it: controls by their label, the result as text."""

    def __init__(self, output: Locator):
        self.output = output
        self.page = output.page
        self.result = output.locator(".bertlab-panel[aria-live]")

    def control(self, label: str) -> Locator:
        return self.output.get_by_label(label, exact=True)

    def write(self, label: str, text: str) -> None:
        """Type a text and leave the control."""
        self.control(label).fill(text)
        self.page.keyboard.press("Tab")

    def choose(self, label: str, option: str) -> None:
        self.control(label).select_option(label=option)

    def tick(self, label: str, on: bool = True) -> None:
        self.control(label).set_checked(on)

    def press(self, name: str) -> None:
        """Press a button; a word is one too."""
        self.output.get_by_role("button", name=name, exact=True).click()

    def shows(self, *texts: str) -> None:
        for text in texts:
            expect(self.result).to_contain_text(text)

    def says(self) -> str:
        """The result's words."""
        return self.result.inner_text()

    @contextmanager
    def changes(self) -> Iterator[None]:
        """What is done inside must change something on the panel; it is waited for until that has come to rest."""
        self.output.evaluate(WATCH)
        yield
        self.page.wait_for_function("globalThis.atRest()")

    def tab_to(self, label: str) -> None:
        """Reach a control with the Tab key alone, from the notebook's cell above the output."""
        for _ in range(60):
            if self.control(label).evaluate("e => e === document.activeElement || e.contains(document.activeElement)"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not reach {label!r}")

    def unnamed(self) -> list[str]:
        """Controls without an accessible name, as a screen reader would meet them."""
        roles = "textbox|combobox|listbox|spinbutton|checkbox|radio|slider|switch|button|link|group|region"
        return re.findall(rf"^\s*- (?:{roles})(?!\S)(?! \").*$", self.output.aria_snapshot(), re.MULTILINE)

    def low_contrast(self) -> list[dict]:
        """Visible texts with less than WCAG AA's 4.5 to 1 against their ground."""
        return self.output.evaluate(CONTRAST)
