"""A recipe run once for all tests of a module, which says by ARGUMENTS what to run."""

import pandas as pd
import pytest
from click.testing import CliRunner

from advbench.cli import main


@pytest.fixture(scope="module")
def run(request, tmp_path_factory):
    """The directory of a run that was not interrupted."""
    out = tmp_path_factory.mktemp("runs") / "run"
    result = CliRunner().invoke(main, [*request.module.ARGUMENTS, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def rows(run):
    return pd.read_csv(run / "results.csv")
