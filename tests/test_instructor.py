"""notebooks/instructor/README.md says what the notebooks say: their titles, inputs and numbers, and minutes that add up."""

import io
import json
import re
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest

import bertlab as bl

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
PAGE = FOLDER / "instructor" / "README.md"
TEXT = PAGE.read_text(encoding="utf-8")
NOTEBOOKS = {path.name[:2]: path for path in sorted(FOLDER.glob("[0-9]*.ipynb"))}
PLACE = re.compile(r'(\d\d), section (?:(\d+) )?"([^"]+)"')
PLACE_WITHOUT_TITLE = re.compile(r"\b(\d\d), sections? (\d+)")
# the forms of a measured number: 0.57, 13 of 40, 37%, 76 steps, 110,106,428
NUMBER = re.compile(r"(?<![\d.,])(?:\d+\.\d+(?![\d.]*\d)|\d+ of \d+|\d+%|\d+ steps|\d{1,3}(?:,\d{3})+)(?!\d)")


@cache
def cells(number: str) -> list[dict]:
    return json.loads(NOTEBOOKS[number].read_text(encoding="utf-8"))["cells"]


def source(number: str, kind: str) -> str:
    return "\n".join("".join(cell["source"]) for cell in cells(number) if cell["cell_type"] == kind)


@cache
def headings(number: str) -> set[tuple[str, str]]:
    """(the section's number or "", its title)."""
    return set(re.findall(r"^#{2,3} (?:(\d+)\. )?(.+?)\s*$", source(number, "markdown"), re.MULTILINE))


@cache
def said(number: str) -> str:
    """A notebook's prose and outputs."""
    outputs = [output for cell in cells(number) for output in cell.get("outputs", [])]
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return " ".join("\n".join([source(number, "markdown"), *("".join(text) for text in texts)]).split())


def part(title: str, level: int = 2) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    found = re.search(rf"^{'#' * level} {re.escape(title)}$(.*?)(?=^#{{1,{level}}} |\Z)", outside_code(TEXT), re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def outside_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def plans() -> list[tuple[str, list[list[str]]]]:
    """(heading, rows of cells) of each plan."""
    found = []
    for title in re.findall(r"^### (Plan .*)$", TEXT, re.MULTILINE):
        lines = [line for line in part(title, 3).splitlines() if line.startswith("|")]
        found.append((title, [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]))
    return found


def by_notebook() -> list[tuple[str, str]]:
    """(number, text) of each part of "Notebook by notebook"."""
    titles = re.findall(r"^### ((\d\d) .*)$", part("Notebook by notebook"), re.MULTILINE)
    return [(number, part(title, 3)) for title, number in titles]


def answers() -> list[str]:
    return [text for text in part("Questions that always come").split("\n\n") if text.strip()]


def test_links_lead_to_files():
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT)
    assert links
    for link in links:
        assert (PAGE.parent / link).exists(), link


def test_links_within_the_page():
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def test_every_notebook_has_its_part():
    assert [number for number, _ in by_notebook()] == list(NOTEBOOKS)
    for number, text in by_notebook():
        assert f"(../{NOTEBOOKS[number].name})" in text
        if number != "00":
            for word in ("**Show**", "**What confuses**", "**Ask**", "**Take home:**"):
                assert word in text, (number, word)


def test_sections_exist():
    places = PLACE.findall(outside_code(TEXT))
    assert len(places) > 80
    for number, section, title in places:
        assert (section, title) in headings(number), f'{number}, section {section} "{title}"'
    for number, section in PLACE_WITHOUT_TITLE.findall(TEXT):
        assert section in {place for place, _ in headings(number)}, f"{number}, section {section}"


@pytest.mark.parametrize(("title", "rows"), plans(), ids=lambda value: value[:6] if isinstance(value, str) else "")
def test_a_plans_minutes_add_up(title, rows):
    total = int(re.search(r"(\d+) minutes$", title)[1])
    clock = 0
    for row in rows:
        assert len(row) == 7, row
        assert int(row[0]) == clock, row
        clock += int(row[1])
        assert int(re.match(r"\d+", row[6])[0]) < int(row[1]), row  # the slack
        assert row[2] in ("break", "lunch") or (PLACE.match(row[2]) and row[5]), row
    assert clock == total
    assert f"{sum(int(re.match(r'[0-9]+', row[6])[0]) for row in rows)} minutes of slack" in part(title, 3)
    hours = re.search(r"^(\d) h (\d\d) with", part(title, 3), re.MULTILINE)
    assert not hours or int(hours[1]) * 60 + int(hours[2]) == total


def test_there_are_three_plans():
    assert len(plans()) == 3
    for (title, rows), words in zip(plans(), ("no break", "two breaks", "lunch and three breaks")):
        assert words in part(title, 3)
        assert sum(row[2] == "break" for row in rows) == ("no break", "", "two breaks", "lunch and three breaks").index(words), title


def test_a_plan_goes_through_the_course_in_order():
    for _, rows in plans():
        numbers = [row[2][:2] for row in rows if row[2][:1].isdigit()]
        assert numbers[:-1] == sorted(numbers[:-1])  # the last row may look back


def chunks() -> list[tuple[str, set[str]]]:
    """Texts that quote numbers, each with the notebooks that must contain them."""
    rows = [" | ".join(row[2:6]) for _, rows in plans() for row in rows if row[2][:1].isdigit()]
    where = [(text, {number for number, *_ in PLACE.findall(text)} | {n for n, _ in PLACE_WITHOUT_TITLE.findall(text)}) for text in [*rows, *answers()]]
    slow = [(line, {number for number, *_ in PLACE.findall(line)}) for line in part("How long is it on their machines?", 3).splitlines() if PLACE.search(line)]
    return [*where, *slow, *((text, {number}) for number, text in by_notebook())]


def test_numbers_stand_in_the_notebooks_named_beside_them():
    checked = 0
    for text, numbers in chunks():
        assert numbers, text
        words = PLACE.sub("", outside_code(text))
        for number in NUMBER.findall(words):
            known = re.compile(rf"(?<![\d.]){re.escape(number)}(?!\d)")
            assert any(known.search(said(n)) for n in numbers), f"{number} is not in {sorted(numbers)}: {text[:200]}"
            checked += 1
    assert checked > 120


def test_what_is_typed_is_what_the_notebook_types():
    found = 0
    for number, text in by_notebook():
        for typed in re.findall(r"(?:[Tt]ype|as A and|The first is) `([^`]+)`", text):
            assert typed in source(number, "code"), typed
            found += 1
    assert found >= 6


def test_panels_are_those_of_the_notebook():
    for number, text in by_notebook():
        for panel in re.findall(r"`bl\.widgets\.(\w+)`", text):
            assert f"bl.widgets.{panel}(" in source(number, "code"), panel
    for _, rows in plans():
        for row in rows:
            for panel in re.findall(r"the panel `(\w+)`", row[3] + row[4]):
                assert f"bl.widgets.{panel}(" in source(row[2][:2], "code"), panel


def test_names_of_bertlab_exist():
    names = set(re.findall(r"\bbl((?:\.[A-Za-z_]\w*)+)", TEXT))
    assert len(names) > 8
    for name in names:
        found = bl
        for one in name[1:].split("."):
            found = getattr(found, one)


def test_the_doctors_checks_have_these_names():
    doctor = (Path(bl.__file__).parent / "cli.py").read_text(encoding="utf-8")
    table = part("One week before: `bertlab doctor --json` from everyone", 3)
    named = [name for line in table.splitlines() if line.startswith("| `") for name in re.findall(r"`([^`]+)`", line.split("|")[1])]
    assert len(named) == 8
    for name in named:
        assert f'"{name}"' in doctor or name in ("bl.BERT", "bl.SBERT"), name


def test_the_reports_are_read(tmp_path, monkeypatch):
    """The snippet that reads `bertlab doctor --json`, in whichever encoding a shell wrote it."""
    snippet = next(code for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "reports" in code)
    memory = {"status": "OK", "name": "free memory", "detail": "3.2 GiB", "advice": ""}
    broken = {"status": "FAIL", "name": "widget manager", "detail": "JupyterLab would show no controls", "advice": "install it"}
    (tmp_path / "reports").mkdir()
    for name, encoding, checks in (("ana", "utf-8", [memory]), ("ben", "utf-8-sig", [memory, broken]), ("eva", "utf-16", [broken])):
        report = json.dumps({"ok": broken not in checks, "checks": checks})
        (tmp_path / "reports" / f"{name}.json").write_text(report, encoding=encoding)
    monkeypatch.chdir(tmp_path)
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(snippet, "README.md", "exec"), {})
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    assert lines[0] == "ana well free memory 3.2 GiB"
    assert lines[1:3] == ["ben NOT YET free memory 3.2 GiB", "widget manager: JupyterLab would show no controls -> install it"]
    assert lines[3] == "eva NOT YET free memory unknown"


def test_plain_language():
    assert not re.search("[\N{EM DASH}\N{EN DASH}]", TEXT)
    assert not re.search(r"/root|/home/|/tmp", TEXT)
