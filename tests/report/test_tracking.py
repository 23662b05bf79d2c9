"""What a tracker was given is read back with the tracker's own library."""

import pandas as pd
import pytest
from click.testing import CliRunner

from advbench.cli import main
from advbench.report import tracking


@pytest.fixture
def trained_run(finished_run):
    models = finished_run / "models"
    models.mkdir()
    epochs = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.25], "validation_accuracy": [None, 0.75]})
    epochs.to_csv(models / "net.csv", index=False)
    return finished_run


def report(run, tracker):
    return CliRunner().invoke(main, ["report", str(run), "--track", tracker])


def test_tensorboard_reads_every_epoch_and_every_result_once(trained_run):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    for _ in range(2):
        result = report(trained_run, "tensorboard")
        assert result.exit_code == 0, result.output
    events = loader.EventAccumulator(str(trained_run / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("net/loss")] == [(1, 0.5), (2, 0.25)]
    assert [(e.step, e.value) for e in events.Scalars("net/validation_accuracy")] == [(2, 0.75)]
    finals = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"] if tag.startswith("results/")}
    assert sorted(finals.values()) == pytest.approx([0.3, 0.5, 0.9])
    assert any(tag.startswith("results/accuracy") for tag in finals)


def test_mlflow_reads_every_epoch_every_result_and_the_configuration(trained_run, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # its database stores need more than the client
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    result = report(trained_run, "mlflow")
    assert result.exit_code == 0, result.output
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("r").experiment_id])
    history = client.get_metric_history(run.info.run_id, "net/loss")
    assert sorted((point.step, point.value) for point in history) == [(1, 0.5), (2, 0.25)]
    assert run.data.params["n"] == "3" and run.data.params["seed"] == "0"
    assert sorted(v for k, v in run.data.metrics.items() if k.startswith("results/")) == pytest.approx([0.3, 0.5, 0.9])


def test_a_tracker_that_is_not_there_is_refused_before_anything_runs(trained_run, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    result = report(trained_run, "mlflow")
    assert result.exit_code == 2 and "python -m pip install 'mlflow-skinny>=2.14'" in result.output
    result = CliRunner().invoke(main, ["recipe", "training-mnist", "--track", "wandb"])
    assert result.exit_code == 2 and "choose one of tensorboard, mlflow" in result.output


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"loss\n1\n", b"epoch,loss\nx,1\n", b"epoch,loss\n,1\n", b"epoch,loss\ninf,1\n", b"epoch,loss\n-1,1\n"),
        *(b"epoch,loss\n1e300,1\n", b"epoch,loss\n1,=cmd()\n", bytes(range(256)), b"epoch,loss\n" + 100_001 * b"1,2\n"),
    ],
)
def test_epochs_of_someone_else_that_are_none_are_one_line(trained_run, content):
    (trained_run / "models" / "net.csv").write_bytes(content)
    done = report(trained_run, "tensorboard")
    assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1, done.output
    assert "net.csv cannot be read as the epochs of a training" in done.stderr
    assert not list(trained_run.glob("tensorboard/events*"))
