"""What CONTRIBUTING promises: the map of the package, as import-linter checks it, and modules of at most 300 lines."""

import re
from pathlib import Path

from importlinter.api import read_configuration

REPOSITORY = Path(__file__).parent.parent


def test_the_map_has_the_packages_of_the_import_rule_in_its_order():
    contracts = read_configuration(str(REPOSITORY / "pyproject.toml"))["contracts_options"]
    (layers,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["recal_bench"])
    rule = [[name.strip(" ()") for name in re.split("[:|]", layer)] for layer in layers if layer != "__main__"]
    page = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = page.partition("| package | holds |\n|---|---|\n")[2].partition("\n\n")[0]
    assert [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()] == rule


def test_no_module_is_longer_than_300_lines():
    modules = [*(REPOSITORY / "recal_bench").rglob("*.py"), *(REPOSITORY / "baselines").glob("*.py")]
    lines = {str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules}
    assert len(lines) > 100
    assert {name: count for name, count in lines.items() if count > 300} == {}
