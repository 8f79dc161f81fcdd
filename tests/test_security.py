"""The promises of .github/SECURITY.md: each names tests that exist, and bertlab's sources hold no call that could run foreign code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / ".github" / "SECURITY.md").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "bertlab").rglob("*.py"))


def test_each_promise_names_a_test_that_exists():
    rows = [line for line in PAGE.split("## What is promised")[1].split("##")[0].splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 10
    for row in rows:
        named = re.findall(r"`(tests/\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no {test}"


def dangers(tree: ast.AST) -> list[str]:
    """The calls and imports in a module that could run code which came from elsewhere."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.split(".")[0] in ("pickle", "marshal", "shelve", "dill", "joblib")]
        elif isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            if name in ("eval", "exec", "os.system", "os.popen", "yaml.load"):
                found.append(name)
            if given.get("shell") == "True" or given.get("trust_remote_code") == "True" or given.get("allow_pickle") == "True":
                found.append(ast.unparse(node))
            if name == "torch.load" and given.get("weights_only") != "True":
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_dangerous_call(source):
    assert dangers(ast.parse(source.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from pickle import loads", "eval(text)", "torch.load(f)", "torch.load(f, weights_only=False)", "run(a, shell=True)",
     "AutoModel.from_pretrained(x, trust_remote_code=True)", "np.load(f, allow_pickle=True)", "os.system('ls')"],
)  # fmt: skip
def test_each_danger_is_seen(code):
    assert dangers(ast.parse(code))
