"""optuna-dashboard on a study: what it shows, live, and that nobody can change the study with it."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import numpy as np
import pytest
from matplotlib.image import imread
from optuna.trial import FrozenTrial

from sweeps.dashboard import serving
from sweeps.dashboard.storage import READ_ONLY, StudyStorage, artifact_id
from sweeps.search import search_of
from sweeps.storage.database import database
from sweeps.storage.lock import StudyLock
from sweeps.storage.optuna_sql import Ledger
from sweeps.storage.schema import metric_columns
from sweeps.storage.tables import StudyTables
from sweeps.study.loading import load_text
from tests.cluster.waiting import WAIT_S

from .. import synthetic
from ..chromium import Browser, ink_contrast
from ..invoking import errors_of, invoke
from ..problems import STRAIN

pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed (pip install 'pinnsweep[dashboard]')")


class Shown:
    """A study of two replicates a trial: 0 and 1 complete, 2 failed, 3 running, 4 waiting."""

    def __init__(self, folder: Path) -> None:
        synthetic.make_study(folder, trials=2, failed=1, replicates=2)
        self.dir, self.tables = folder, StudyTables(folder)
        self.search = search_of(load_text((folder / "study.yaml").read_text(), base=folder))
        self.ledger = Ledger(database(folder), folder.name, create=True)
        for number in range(5):
            self.enter(number)
        for number in (0, 1):
            self.ledger.mark(number, "COMPLETE", [self.value(number)])
        self.ledger.mark(2, "FAIL")
        self.ledger.mark(3, "RUNNING")

    def enter(self, number: int) -> None:
        params = self.search.propose(number).params
        self.ledger.enter(number, self.search.stored(params), self.search.distributions(params), {"pack": 7})

    def value(self, number: int) -> float:
        return float(np.median([synthetic.error_of(number, replicate) for replicate in range(2)]))


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    shown = Shown(tmp_path / "shown")
    yield shown
    shown.ledger.close()


def trials_of(shown: Shown) -> list[FrozenTrial]:
    return StudyStorage(shown.dir).get_all_trials(1)


def pictures_of(trial: FrozenTrial) -> list[str]:
    artifacts = [json.loads(value) for key, value in trial.system_attrs.items() if key.startswith("artifacts:")]
    assert {artifact["mimetype"] for artifact in artifacts} <= {"image/png"}
    return [artifact["filename"] for artifact in artifacts]


def get(app: serving.App, path: str, method: str = "GET", host: str = "127.0.0.1", **sent: Any) -> tuple[str, bytes]:
    """Return status and body of an answer, without a server."""
    body = json.dumps(sent).encode()
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body)}
    environ |= {
        "HTTP_HOST": host,
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/json",
        "HTTP_ACCEPT_ENCODING": "",
    }
    setup_testing_defaults(environ)
    statuses: list[str] = []
    answer = app(environ, lambda status, headers, *rest: statuses.append(status))
    return statuses[0], b"".join(answer)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_seen(share: float) -> float:
    """Return a share in per cent, with the digits that fit into a card of the page."""
    return float(f"{100 * share:.6g}")


def test_numbers_have_the_digits_that_people_read(shown: Shown) -> None:
    numbers = [value for trial in trials_of(shown) for value in (*(trial.values or ()), *trial.user_attrs.values())]
    floats = [value for value in numbers if isinstance(value, float)]
    assert len(floats) > 10 and max(len(repr(value)) for value in floats) <= len("-1.23456e-10")


def test_trials_are_shown_as_the_database_has_them_with_metrics_and_pictures(shown: Shown) -> None:
    trials = trials_of(shown)
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "FAIL", "WAITING", "WAITING"]
    assert [trial.values for trial in trials[:3]] == [[as_seen(shown.value(0))], [as_seen(shown.value(1))], None]
    assert trials[1].params == shown.search.propose(1).params
    assert trials[1].distributions == shown.search.distributions(trials[1].params)
    errors = [as_seen(synthetic.error_of(1, replicate)) for replicate in range(2)]
    percent = {"rel_l2", "process_zone_error", "distance_to_local"}
    columns = {*(f"{name} in %" if name in percent else name for name in metric_columns(STRAIN.record))}
    columns |= {"evaluations", "seconds", "stop_reason"}
    assert trials[1].user_attrs["rel_l2 in %"] in errors and trials[1].user_attrs.keys() <= columns
    names = ("predicted", "reference", "error", "training", "replicates")
    assert pictures_of(trials[1]) == [f"trial-1-{place}-{name}.png" for place, name in enumerate(names, start=1)]
    assert trials[2].user_attrs["failure"] == synthetic.FAILURE
    assert [trial.user_attrs for trial in trials[3:]] == [{}, {}] and pictures_of(trials[4]) == []


def test_what_a_killed_driver_left_running_waits_and_what_a_living_one_trains_runs(shown: Shown) -> None:
    assert trials_of(shown)[3].state.name == "WAITING"
    held = StudyLock(shown.dir, driver_pid=os.getpid())
    assert trials_of(shown)[3].state.name == "RUNNING"
    held.release()


def test_a_running_study_is_seen_to_go_on(shown: Shown) -> None:
    storage = StudyStorage(shown.dir)
    before = storage.get_all_trials(1)
    synthetic.publish(shown.tables, "later", [3], replicates=2)
    shown.ledger.mark(3, "COMPLETE", [shown.value(3)])
    shown.enter(5)
    after = storage.get_all_trials(1)
    assert [trial.number for trial in after] == [0, 1, 2, 3, 4, 5] and after[:3] == before[:3]
    assert after[3].values == [as_seen(shown.value(3))] and "trial-3-3-error.png" in pictures_of(after[3])
    assert storage.get_best_trial(1).number == min((0, 1, 3), key=shown.value)


def test_the_page_gets_the_study_and_its_pictures(shown: Shown) -> None:
    app, path = serving.dashboard(shown.dir)
    assert path == "/dashboard/studies/1" and get(app, path)[0] == "200 OK"
    status, answer = get(app, "/api/studies/1")
    study = json.loads(answer)
    assert status == "200 OK" and study["name"] == "shown" and study["objective_names"] == ["rel_l2 in %"]
    assert READ_ONLY in study["note"]["body"] and len(study["trials"]) == 5
    for artifact in study["trials"][0]["artifacts"]:
        status, png = get(app, f"/artifacts/1/1/{artifact['artifact_id']}")
        pixels = imread(io.BytesIO(png), format="png")
        assert status == "200 OK" and (pixels[..., 3] == 1).all(), "nothing of a dark page shines through"
        assert (pixels[0, 0] == 1).all() and ink_contrast(np.rint(255 * pixels[..., :3]).astype(np.uint8)) > 10
        assert get(app, f"/artifacts/1/1/{artifact['artifact_id']}") == (status, png)
    assert get(app, f"/artifacts/1/1/{artifact_id(1, 0, 'error')}")[0].startswith("404"), "of another trial"
    assert get(app, "/csv/1")[1].startswith(b"Number,State,rel_l2 in %,")


def test_importance_is_that_of_effects(tmp_path: Path) -> None:
    """Twenty trials, four of which failed: they count as the worst, and optuna-dashboard would leave them out."""
    study = tmp_path / "judged"
    synthetic.make_study(study, trials=16, failed=4)
    spec = load_text((study / "study.yaml").read_text(), base=study)
    search, ledger = search_of(spec), Ledger(database(study), study.name, create=True)
    params = [{name: spec_values[name] for name in spec.space} for spec_values in map(flat_config, range(20))]
    for number, own in enumerate(params):
        ledger.enter(number, search.stored(own), search.distributions(own), {"pack": 0})
        ledger.mark(number, *(("COMPLETE", [synthetic.error_of(number)]) if number < 16 else ("FAIL",)))
    ledger.close()
    app, _ = serving.dashboard(study)
    status, answer = get(app, "/api/studies/1/param_importances")
    (shares,) = json.loads(answer)["param_importances"]
    dimensions = json.loads(invoke("effects", study, "--json").stdout)["importance"]["dimensions"]
    assert status == "200 OK" and len(dimensions) == 6
    assert {share["name"]: share["importance"] for share in shares} == {
        dimension["name"]: dimension["share"] for dimension in dimensions
    }
    assert {share["distribution"] for share in shares} >= {"CategoricalDistribution", "FloatDistribution"}
    assert get(app, "/api/studies/1/param_importances")[1] == answer
    assert "that of `effects`" in json.loads(get(app, "/api/studies/1")[1])["note"]["body"]
    (study / "trials").rename(study / "aside")
    assert json.loads(get(app, "/api/studies/1/param_importances")[1]) == {"param_importances": [[]]}


def flat_config(number: int) -> dict[str, Any]:
    config = synthetic.config(number)
    return {**config["train"], **config["problem"]}


def test_a_picture_of_what_was_not_kept_says_so(shown: Shown) -> None:
    app, _ = serving.dashboard(shown.dir)
    training = artifact_id(2, 0, "training")  # of a trial that failed before it had a curve
    status, png = get(app, f"/artifacts/1/3/{training}")
    assert status == "200 OK" and 0 < (imread(io.BytesIO(png), format="png") < 0.5).mean() < 0.05, "some words on white"


def test_a_repeated_trial_has_the_pictures_of_the_first(shown: Shown) -> None:
    rows = [synthetic.trial_row(0, replicate) | {"trial": 3, "duplicate_of": 0} for replicate in range(2)]
    shown.tables.publish("copy", trials=rows)
    shown.ledger.mark(3, "COMPLETE", [shown.value(0)])
    trials = trials_of(shown)
    own = [key for key in trials[0].system_attrs if key.startswith("artifacts:")]
    assert own and own == [key for key in trials[3].system_attrs if key.startswith("artifacts:")]


def test_a_study_that_keeps_no_fields_has_curves_alone(shown: Shown) -> None:
    file = shown.dir / "study.yaml"
    file.write_text(file.read_text() + "results: {fields: none}\n")
    assert pictures_of(trials_of(shown)[0]) == ["trial-0-4-training.png", "trial-0-5-replicates.png"]


def test_nothing_can_be_changed(shown: Shown) -> None:
    import optuna_dashboard

    before = content(shown.dir)
    app, _ = serving.dashboard(shown.dir)
    storage = StudyStorage(shown.dir)
    routes = optuna_dashboard.wsgi(storage).routes
    changing = {(route.method, route.rule.replace(":int", "")) for route in routes if route.method != "GET"}
    assert len(changing) >= 10
    for method, rule in changing:
        path = rule.replace("<study_id>", "1").replace("<trial_id>", "1")
        assert get(app, path, method, state="Fail") == ("403 Forbidden", json.dumps({"reason": READ_ONLY}).encode())
    status, answer = get(optuna_dashboard.wsgi(storage), "/api/studies/1", "DELETE")  # not even past that
    assert status.startswith("403") and json.loads(answer)["reason"] == READ_ONLY
    assert content(shown.dir) == before


def answers(app: serving.App, listens_at: str, asked: str, *names: str, path: str = "/dashboard/studies/1") -> str:
    """Return the status of an answer of a server at an address to a request for a host."""
    with serving.serve(app, listens_at, 0, names) as server:
        status, body = get(server.get_app(), path, host=asked)
    assert status.startswith("200") or "--allow-host" in json.loads(body)["reason"]
    return status[:3]


def test_only_the_hosts_that_it_serves_are_answered(shown: Shown) -> None:
    app, _ = serving.dashboard(shown.dir)
    for host in ("localhost", "LocalHost:9000", "localhost.", "127.0.0.1:8080", "[::1]:1", "[::1]"):
        assert answers(app, "127.0.0.1", host) == "200", host
    foreign = ("evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7")
    odd = ("", "localhost,evil.example", "localhost:80@evil.example", "evil.example:localhost", "[::1]evil.example")
    for host in (*foreign, *odd):
        assert answers(app, "127.0.0.1", host) == "421", host
    for path in ("/", "/api/studies", "/api/studies/1", "/csv/1", "/static/bundle.js", "/artifacts/1/1/x", "/none"):
        assert answers(app, "127.0.0.1", "evil.example", path=path) == "421", path
    assert answers(app, "127.0.0.1", "sweeps.example:80", "Sweeps.Example") == "200"
    assert answers(app, "0.0.0.0", "192.168.1.7:8080") == answers(app, "0.0.0.0", "[fe80::1]:8080") == "200"
    assert answers(app, "0.0.0.0", "evil.example") == "421", "an address is not rebound, a name is"


def test_a_study_that_cannot_be_read_any_more_is_told_and_comes_back(shown: Shown) -> None:
    app, _ = serving.dashboard(shown.dir)
    file = shown.dir / "study.db"
    aside = file.rename(shown.dir / "aside.db")
    status, answer = get(app, "/api/studies/1")
    assert status.startswith("503") and "study.db is missing" in json.loads(answer)["reason"]
    aside.rename(file)
    status, answer = get(app, "/api/studies/1")
    training = json.loads(answer)["trials"][0]["artifacts"][3]["artifact_id"]
    assert status == "200 OK"
    for curves in (shown.dir / "curves").glob("*.parquet"):
        curves.write_bytes(b"torn")
    assert get(app, f"/artifacts/1/1/{training}")[0].startswith("503")


def test_what_is_wrong_is_one_sentence(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def message_of(*words: object) -> str:
        message = errors_of(invoke("dashboard", *words))
        assert message.startswith("error: ") and message.count("\n") == 1
        return message

    assert "no study at" in message_of(tmp_path / "none", "--root", tmp_path)
    with serving.serve(serving.dashboard(shown.dir).app, "127.0.0.1", 0) as server:
        port = server.server_address[1]
        assert f"port {port} of 127.0.0.1 is taken" in message_of(shown.dir, "--port", port)
    assert "cannot listen at 192.0.2.1" in message_of(shown.dir, "--host", "192.0.2.1")
    (shown.dir / "study.db").unlink()
    assert "study.db is missing" in message_of(shown.dir)
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert "pip install 'pinnsweep[dashboard]'" in message_of(shown.dir)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_command_says_where_and_ends_with_ctrl_c(shown: Shown, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    def interrupted(server: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serving.WSGIServer, "serve_forever", interrupted)
    result = invoke("dashboard", shown.dir, "--port", 0, "--host", host)
    assert result.exit_code == 0 and result.stdout.startswith(f"shown: http://{host}:")
    assert result.stdout.endswith("/dashboard/studies/1  (Ctrl-C to stop)\n")
    assert ("no password" in result.stderr) == (host == "0.0.0.0")
    answer = json.loads(invoke("dashboard", shown.dir, "--port", 0, "--json").stdout)
    assert answer["study"] == "shown" and answer["url"].endswith("/dashboard/studies/1")


@pytest.fixture
def address(shown: Shown) -> Iterator[str]:
    app, path = serving.dashboard(shown.dir)
    with serving.serve(app, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}{path}"
        server.shutdown()
        thread.join(WAIT_S)


@pytest.mark.xdist_group("chromium")
def test_in_a_browser(shown: Shown, address: str, browser: Browser) -> None:
    with browser.open(address) as page:
        page.eventually("document.body.innerText.includes('Hyperparameter Importance')")
        page.go(f"{address}/trials?numbers=0")
        ours = "[...document.images].filter(image => image.alt.startsWith('trial-0-'))"
        page.eventually(f"{ours}.filter(image => image.complete && image.naturalWidth > 300).length === 5")
        assert page.complaints == [] and page.outside == []
        page.go(address.partition("/dashboard")[0])  # the list of studies
        page.click("[aria-label='delete study']")
        page.click("[role=dialog] button")  # yes
        page.eventually("document.body.innerText.includes('Failed to delete study')")
    assert len(trials_of(shown)) == 5
