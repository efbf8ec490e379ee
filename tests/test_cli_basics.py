"""The command line's manners: help, hints, one-line errors, exit codes."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from recal_bench.cli import cli


def invoke(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help_with_an_example(name):
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert f"recal-bench {name}" in result.output.partition("Example:")[2]


def test_a_mistyped_command_gets_a_hint():
    result = invoke("rnu")
    assert result.exit_code == 2
    assert "did you mean run?" in result.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--router", "recall"], "did you mean recal?"),
        (["run", "--router", "recal", "--set", "stepz=3"], "did you mean steps?"),
        (["run", "--router", "recal", "--set", "steps"], "KEY=VALUE"),
        (["run", "--router", "recal", "--set", "knn:k=3"], "not among those to run"),
        (["run", "--router", "recal", "--alpha", "-1"], "alpha is -1"),
        (["run", "--router", "recal", "--outcomes", "nowhere.parquet"], "nowhere.parquet"),
        (["compare", "nowhere"], "holds no finished run"),
        (["show", "nowhere"], "holds no run.json"),
        (["route", "--run", "nowhere", "who?"], "holds no run.json"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*words)
    assert result.exit_code == 2
    assert says in result.output
    assert "Traceback" not in result.output
    assert len([line for line in result.output.splitlines() if line.startswith("Error")]) == 1


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom recal_bench.cli import main\n"
        "sys.argv = ['recal-bench', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'sklearn', 'scipy', 'matplotlib', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
