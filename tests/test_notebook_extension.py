"""%load_ext bertlab in a real IPython: the magic that keeps Run All off the network."""

import pytest
from IPython.testing.globalipapp import start_ipython


@pytest.fixture(scope="module")
def shell():
    shell = start_ipython()
    shell.run_line_magic("load_ext", "bertlab")
    return shell


def test_a_hub_cell_is_passed_over_and_says_how_to_run_it(shell, capsys):
    shell.run_cell("%%hub\nwas_run = True")
    assert "delete its first line, %%hub" in capsys.readouterr().out
    assert "was_run" not in shell.user_ns
    shell.run_cell("was_run = True")
    assert shell.user_ns["was_run"]


def test_a_second_run_all_prints_nothing_more(shell, capsys):
    for _ in range(2):
        shell.run_cell("%load_ext bertlab")
    capsys.readouterr()
    shell.run_cell("%load_ext bertlab\nimport bertlab as bl")
    assert capsys.readouterr().out == "" and shell.user_ns["bl"].__name__ == "bertlab"
