"""A network from a run into the zoo, and a study that starts from it, on digits in a zoo of its own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from advbench import SubnetworkDetector, estimators, study
from advbench.checkpoint import fingerprint, load_tensors, save_tensors
from advbench.cli import main
from advbench.errors import UsageError
from advbench.evaluation import detection
from advbench.evaluation.options import Options
from advbench.models import find as network
from advbench.models import zoo
from advbench.study import cards, pretrained, stages
from advbench.study.cards import add, lies
from advbench.study.config import configure

FGSM, BIM, DYNAMIC = "detector-fgsm-2-ad2-seed0", "detector-bim-1-ad2-seed0", "detector-dynamic"
SIZES = (
    *(
        "epochs=4",
        "train_images=400",
        "detector_images=16",
        "detector_epochs=1",
        "dynamic_epochs=1",
        "eps_bim_l2=[]",
        "eps_fgsm=2/255",
    ),
    *("validation_images=16", "sigmas=0", "sigma_images=8", "check_iterations=1", "min_successes=1", "test_images=8"),
)
MEASURED = ("test_images=20", "clean_images=100", "validation_images=20", "sigmas=0,1", "sigma_images=10")
ON_DIGITS = replace(study.find("detector-cifar"), dataset="digits")


@pytest.fixture(autouse=True, scope="module")
def fewer_images():
    """A card is measured on as many images as its sample has."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ATTACKED", "SAMPLE"):
            patch.setattr(cards, name, 60)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a finished run whose code has a commit."""
    run = study.start(
        ON_DIGITS,
        settings=(*SIZES, "weights=train"),
        out=tmp_path_factory.mktemp("runs") / "run",
        device="cpu",
        workers=1,
    )
    state_commit(run.directory, "0123abc")
    return run.directory


def state_commit(run, commit):
    path = run / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "commit": commit}))


@pytest.fixture(scope="module")
def filled(trained, tmp_path_factory):
    """A zoo with the classifier and two of its detectors."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / zoo.INDEX).write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "FOLDER", folder)
        for stage in ("classifier", FGSM, DYNAMIC):
            add(trained, stage, commit="0123abc4567")  # a longer form of the one that the run knows
    return folder


@pytest.fixture
def own_zoo(filled, tmp_path, monkeypatch):
    """A copy of that zoo, in place of the package's."""
    monkeypatch.setattr(zoo, "FOLDER", shutil.copytree(filled, tmp_path / "zoo"))
    return zoo.FOLDER


def test_a_card_holds_what_the_run_says(own_zoo, trained):
    card = zoo.card("resnet32-digits")
    assert (card.kind, card.recipe, card.preset, card.stage, card.dataset, card.seed, card.commit, card.precision) == (
        *("classifier", "detector-cifar", "quick", "classifier", "digits", 0, "0123abc", "float32"),
    )
    assert card.config["epochs"] == 4 and card.settings == [*SIZES, "weights=train"]
    history = pd.read_csv(trained / "models" / "classifier.csv")
    assert [each["loss"] for each in card.history] == pytest.approx(history.loss.tolist())
    assert card.hours == pytest.approx(history.seconds.sum() / 3600, abs=0.0006)
    assert zoo.card(f"resnet32-digits-{DYNAMIC}").attack["sigma"] == 0.5
    assert zoo.card(f"resnet32-digits-{FGSM}").attack == {
        **{"name": "fgsm", "eps": pytest.approx(2 / 255), "eps_step": None, "max_iter": None}
    }


def test_the_zoo_holds_the_network_of_the_run(own_zoo, trained):
    x = np.random.default_rng(0).random((4, 3, 16, 16), np.float32)
    classifier, original = estimators.load("resnet32-digits"), estimators.load(trained)
    np.testing.assert_array_equal(classifier.predict(x), original.predict(x))
    for given in ((), (classifier,)):
        detector = SubnetworkDetector.load(f"zoo:resnet32-digits-{FGSM}", *given)
        expected = SubnetworkDetector.load(trained / "models" / f"{FGSM}.safetensors", original)
        for weight in expected.subnetwork.parameters():
            weight.data = weight.data.half().float() if weight.ndim > 1 else weight.data  # as it is stored
        np.testing.assert_array_equal(detector.scores(x), expected.scores(x))
    with pytest.raises(UsageError, match="is not a classifier: its card says detector"):
        estimators.load(f"resnet32-digits-{FGSM}")


def test_commands_show_cards(own_zoo):
    def output(*arguments):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    figure = zoo.card("resnet32-digits").main_figure
    assert figure in output("list", "models") and figure in output("show", "zoo:resnet32-digits")
    assert "detector of zoo:resnet32-digits\n" in output("show", f"zoo:resnet32-digits-{FGSM}")


def test_an_evaluation_takes_names(own_zoo):
    found = network.find("zoo:resnet32-digits")
    assert found.shape == (3, 16, 16) and fingerprint(found.module) == zoo.card("resnet32-digits").fingerprint
    options = Options(model="zoo:resnet32-digits", data="digits", detector=Path(f"zoo:resnet32-digits-{FGSM}"))
    detector = detection.load(options, estimators.load("resnet32-digits"), 40)
    assert detector.target.position == 2


def test_a_large_network_is_stored_in_half_precision_and_its_detectors_find_it(trained, own_zoo, monkeypatch):
    (own_zoo / zoo.INDEX).write_text("{}")
    monkeypatch.setattr(cards, "LARGEST_FILE", 1_500_000)
    file = add(trained, "classifier")
    assert file.stat().st_size < 1_500_000 and zoo.card("resnet32-digits").precision == "float16"
    add(trained, FGSM)
    detector = SubnetworkDetector.load(f"resnet32-digits-{FGSM}")
    assert next(detector.classifier.model.parameters()).dtype is torch.float32
    assert {
        tensor.dtype for tensor in load_tensors(zoo.path(f"resnet32-digits-{FGSM}"))[0].values() if tensor.ndim > 1
    } == {torch.float16}
    assert lies("resnet32-digits") == lies(f"resnet32-digits-{FGSM}") == ""
    monkeypatch.setattr(cards, "LARGEST_FILE", 100_000)
    with pytest.raises(UsageError, match="more than the 100,000 of a file in the zoo"):
        add(trained, DYNAMIC)


def refused(run, stage, message, **options):
    with pytest.raises(UsageError, match=message) as error:
        add(run, stage, **options)
    assert "\n" not in str(error.value)


def test_what_cannot_be_traced_to_a_run_is_refused(trained, own_zoo, tmp_path):
    refused(trained, "classifier", "is classifier of detector-cifar with seed 0 already", name="again")
    refused(trained, BIM, "is there already; choose another --name", name="resnet32-digits")
    refused(trained, BIM, "is no name for a network", name="../up")
    refused(trained, "clasifier", "no finished training in .* did you mean 'classifier'")
    refused(tmp_path / "nowhere", "classifier", "is not a run directory")

    run = shutil.copytree(trained, tmp_path / "run")
    file = run / "models" / f"{BIM}.safetensors"
    (own_zoo / zoo.INDEX).write_text("{}")
    refused(run, BIM, "the classifier of this detector is not in the zoo; add it first")
    add(run, "classifier")
    for commit, stated, message in (
        ("not a checkout", "", "does not know the commit .* state it with --commit"),
        ("0123abc-dirty", "", "changes that no commit has"),
        ("0123abc", "4567def", "was computed by commit 0123abc, not 4567def"),
    ):
        state_commit(run, commit)
        refused(run, BIM, message, commit=stated)
    checkpoint = run / "checkpoints" / file.name
    checkpoint.write_bytes(b"")
    refused(run, BIM, "is not finished; run the same command again")
    checkpoint.unlink()
    content = bytearray(file.read_bytes())
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(run, BIM, "is not as the training wrote it: its checksum")
    file.write_bytes(content)
    (run / "results.csv").write_text("changed")
    refused(run, BIM, "results.csv is missing or not as the run wrote it")
    (run / "stages" / f"{BIM}.json").unlink()
    refused(run, BIM, "no finished training")


@pytest.mark.parametrize("name", ["resnet32-digits", f"resnet32-digits-{FGSM}"])
def test_a_card_that_lies_is_found_out(own_zoo, name, tmp_path):
    assert lies(name) == ""
    tensors, meta = load_tensors(zoo.path(name))
    (figure,) = meta["card"]["figures"]
    boast = {**figure, "value": 1.0, "ci_low": 0.999, "ci_high": 1.0}

    def forged(tensors, **changes):
        card = {**meta["card"], "figures": [{**figure, **changes}]}
        save_tensors(tmp_path / "forged", tensors, {**meta, "card": card})
        zoo.put(name, tmp_path / "forged")  # with the checksum in the index, as a forger would
        return lies(name)

    assert f"the card of zoo:{name} says" in forged(tensors, **boast)
    assert "says" in forged(tensors, metric="robust_accuracy")
    assert "says" in forged(tensors, sample=figure["sample"] - 3 / cards.SAMPLE)
    flipped = {key: value.flip(0) if value.ndim > 1 else value for key, value in tensors.items()}
    if name == "resnet32-digits":
        assert "says" in forged(flipped)
    assert forged(tensors) == ""


def test_quick_starts_from_the_zoo_and_decides_with_it(own_zoo, tmp_path, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("a network was trained")

    monkeypatch.setattr("advbench.recipes.detector_cifar.materials.train_classifier", never)
    monkeypatch.setattr(SubnetworkDetector, "train", never)
    run = study.start(ON_DIGITS, settings=MEASURED, out=tmp_path / "run", device="cpu", workers=1)
    rows = run.results()
    assert rows.note.isna().all()
    for stage, name in zoo.of_recipe("detector-cifar", "digits", 0).items():
        assert (run.directory / "models" / f"{stage}.safetensors").read_bytes() == zoo.path(name).read_bytes()
        assert run.config["zoo"][stage] == {"name": name, "sha256": zoo.index()[name]}
    assert run.config["config"]["epochs"] == 4, "as the networks were trained"
    assert set(rows[rows.exhibit == "between adversaries"].fit_attack) == {"fgsm"}
    assert set(rows[rows.exhibit == "dynamic adversary"].detector) == {"dynamic"}, "the static one is not there"
    assert {"fgsm", "bim", "deepfool-l2", "deepfool-linf"} <= set(rows[rows.metric == "predictive_accuracy"].attack)
    decided = rows[rows.target.notna() & rows.value.notna()]
    assert "M1" in set(decided.target) and not {"M2", "M3", "M7", "M8"} & set(decided.target)
    about = json.loads((run.directory / "about.json").read_text())
    assert about["undecided"] == ""
    assert "resnet32-digits, 2 detectors of resnet32-digits; their cards" in about["pretrained"]
    (shown,) = (each for each in json.loads((run.directory / "exhibits.json").read_text()) if each["name"] == "zoo")
    assert [line[0] for line in shown["table"]["data"]] == sorted(zoo.index())
    assert stages.stage_seconds(run.directory)["classifier"] < 5
    refused(run.directory, "classifier", "was not trained there but taken from the zoo")


def networks(*settings, recipe=ON_DIGITS, preset="quick", is_own=True, seed=0):
    config = configure(recipe.preset(preset), settings)
    return pretrained.networks(recipe.name, recipe.pretrained, config, settings, is_own, "digits", seed)


def test_a_study_trains_where_the_zoo_has_nothing_for_it_and_says_so(own_zoo):
    assert set(networks()[0]) == set(networks("weights=zoo", preset="small")[0]) == {"classifier", FGSM, DYNAMIC}
    assert networks("weights=train") == networks(preset="small") == ({}, "")
    for (found, why), reason in (
        (networks(is_own=False), "the zoo has none for these data"),
        (networks(seed=1), "no classifier of digits with seed 1"),
        (networks("test_images=3", "detector_lr=0.1"), "as --set detector_lr asks"),
    ):
        assert found == {} and reason in why
    for weights, setting in (("zoo", "epochs=3"), ("zoo", "detector_lr=0.1"), ("base", "epochs=3")):
        with pytest.raises(UsageError, match=f"of the training that --set weights={weights} leaves out"):
            networks(f"weights={weights}", setting)


def test_a_study_may_take_the_base_from_the_zoo_and_train_the_rest(own_zoo, tmp_path):
    assert set(networks("weights=base", "detector_lr=0.1")[0]) == {"classifier"}
    of_detectors = ("detector_images=40", "detector_epochs=1", "dynamic_epochs=1", "depths=0,2", "depth_seeds=1")
    settings = (*MEASURED, "weights=base", "eps_bim=1/255", "eps_bim_l2=[]", *of_detectors)
    run = study.start(ON_DIGITS, settings=settings, out=tmp_path / "run", device="cpu", workers=1)
    name = zoo.of_recipe("detector-cifar", "digits", 0)["classifier"]
    assert (run.directory / "models" / "classifier.safetensors").read_bytes() == zoo.path(name).read_bytes()
    assert run.config["zoo"] == {"classifier": {"name": name, "sha256": zoo.index()[name]}}
    assert run.config["config"]["epochs"] == 4, "as the classifier was trained"
    assert run.config["config"]["detector_images"] == 40, "as the user has it"
    rows = run.results()
    assert set(rows[rows.exhibit == "depth"].position) == {0, 2}
    assert set(rows[rows.exhibit == "dynamic adversary"].detector) == {"static", "dynamic"}
    trained = {path.stem for path in (run.directory / "models").glob("detector-*.safetensors")}
    assert {DYNAMIC, FGSM, FGSM.replace("ad2", "ad0")} <= trained
    assert json.loads((run.directory / "about.json").read_text())["pretrained"].startswith(
        "Trained before, not by this run: resnet32-digits;"
    )


def test_the_zoo_has_what_a_study_of_the_networks_of_another_one_stands_on():
    for recipe in study.every():
        if recipe.pretrained is not None and recipe.pretrained.recipe:
            found = zoo.of_recipe(recipe.pretrained.recipe, recipe.dataset, 0)
            assert set(recipe.pretrained.base) <= set(found), recipe.name


def test_a_study_counts_on_one_training_of_each_network_in_the_zoo():
    for recipe in study.every():
        config = recipe.preset("paper")
        if recipe.pretrained is not None and "seeds" in type(config).model_fields:
            found = zoo.of_recipe(recipe.name, recipe.dataset, 0)
            assert config.seeds > 1 == recipe.pretrained.config(config, "paper", found).seeds


def test_fields_of_training_are_fields_of_the_config():
    for recipe in study.every():
        if recipe.pretrained is not None:
            known = set(recipe.preset("quick").model_dump())
            assert {name.partition(".")[0] for name in (*recipe.pretrained.training, *recipe.pretrained.quick)} <= known
            assert recipe.preset("quick").weights == "zoo" and recipe.preset("small").weights == "train"
