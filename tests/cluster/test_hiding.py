"""What is named like a secret is hidden wherever a job is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import ClusterError, Job, JobError, LocalExecutor, SlurmProfile, VmsProfile, executor_of
from cluster.hiding import HIDDEN, visible_text, visible_words, without_secrets

SECRETS = (
    *("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "HF_TOKEN", "PGPASSWORD", "DB_PASS", "DBPASS", "MYSQL_PWD"),
    *("SMTP_PASSWD", "passphrase", "OPENAI_APIKEY", "SENTRY_DSN", "GITHUB_PAT", "AZURE_STORAGE_CONNECTION_STRING"),
    *("clientSecret", "adminPassword", "NPM_AUTH", "SLACK_WEBHOOK_URL", "GOOGLE_APPLICATION_CREDENTIALS", "db-pass"),
)
OPEN = (
    *("OMP_NUM_THREADS", "KEYS", "PWD", "OLDPWD", "TOKENIZERS_PARALLELISM", "KeyName", "BYPASS", "COMPASS_DIR"),
    *(
        "PGPASSFILE",
        "DB_PASSWORD_FILE",
        "RAY_AUTH_TOKEN_PATH",
        "RAY_AUTH_MODE",
        "PASSIVE",
        "KEYBOARD",
        "AUTHOR",
        "PATH",
    ),
)


@pytest.mark.parametrize("name", SECRETS)
def test_what_is_named_like_a_secret_is_hidden(name: str) -> None:
    assert without_secrets({name: "hunter2"}) == {name: HIDDEN}
    assert without_secrets({"a": [{name: {"b": "hunter2"}}]}) == {"a": [{name: HIDDEN}]}
    shapes = (f"export {name}=hunter2", f'{name}="hunter2 x"', f"--{name} hunter2", f"--{name}=hunter2")
    for text in (*shapes, f"--export=ALL,{name}=hunter2", f"{{'{name}': 'hunter2'}}", f'{{"{name}": "hunter2"}}'):
        assert "hunter2" not in visible_text(text) and name in visible_text(text), text
        assert visible_text(visible_text(text)) == visible_text(text)


@pytest.mark.parametrize("name", OPEN)
def test_other_settings_are_shown(name: str) -> None:
    assert without_secrets({name: "8"}) == {name: "8"} and visible_text(f"{name}=8") == f"{name}=8"


def test_logins_in_addresses_are_hidden() -> None:
    url = "postgresql://me:hunter2@db.example/studies"
    assert without_secrets({"URL": url}) == {"URL": "postgresql://me:***@db.example/studies"}
    assert "hunter2" not in visible_text(f"REDIS={url.replace('hunter2', 'hun/ter2@hunter2')} next")
    assert (
        visible_text(f"pip install git+https://{'x' * 40}@github.com/a/b")
        == "pip install git+https://***@github.com/a/b"
    )
    for text in ("postgresql://me@db.example/studies", "http://10.0.0.5:8265", "git@github.com:a/b", "a=1 b: 2"):
        assert visible_text(text) == text


def test_values_of_options_are_hidden() -> None:
    words = ["run", "--db-pass", "hunter2", "--token-file", "/t", "--api-key=hunter2", "PASS=hunter2", "--plain"]
    assert visible_words(words) == [
        "run",
        "--db-pass",
        "***",
        "--token-file",
        "/t",
        "--api-key=***",
        "PASS=***",
        "--plain",
    ]


def test_no_back_end_shows_a_secret_of_command_lines_and_setup(tmp_path: Path) -> None:
    words = ("env", "DB_PASS=hunter2", "pinnsweep", "--api-key", "hunter2", "https://me:hunter2@host/x")
    job = Job(argv=words, environment={"DB_PASS": "hunter2", "URL": "https://me:hunter2@host/x", "A": "seen"})
    setup = ("export DB_PASS=hunter2",)
    slurm = SlurmProfile(
        root="/nfs", setup=setup, options=("--export=DB_PASS=hunter2",), environment={"MY_PW": "hunter2"}
    )
    overrides = {"docker": {"run_options": ["-e DB_PASS=hunter2"]}, "adminPassword": "hunter2"}
    vms = VmsProfile(
        root="/r",
        provider="aws",
        region="x",
        head_type="m",
        worker_type="m",
        max_workers=1,
        setup=setup,
        overrides=overrides,
    )
    executors = (LocalExecutor(tmp_path), executor_of(slurm, "hpc"), executor_of(vms, "lab"))
    for executor in executors:
        text = executor.preview(job)
        assert "hunter2" not in text and "DB_PASS" in text and "seen" in text
    kept = Job(argv=("true",), environment={"DB_PASS": "hunter2"})
    assert kept.environment["DB_PASS"] == "hunter2" and "hunter2" not in repr(kept)


def test_no_error_shows_a_secret() -> None:
    assert "hunter2" not in str(ClusterError("ssh refuses DB_PASS=hunter2 of https://me:hunter2@host"))
    with pytest.raises(JobError) as refused:
        Job(argv=("true",), environment={"DB_PASS": 4711})  # type: ignore[dict-item]
    assert "DB_PASS" in str(refused.value) and "4711" not in str(refused.value)
