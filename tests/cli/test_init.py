"""`tollhouse init`: what it writes is every key at its default, and nothing is overwritten."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path

import pytest

from tollhouse.cli.init import InitError, initialise, template
from tollhouse.config.load import catalog, load_config, unenforced
from tollhouse.trust.ca import CertificateAuthority

REFERENCE = Path(__file__).parents[1] / "data" / "reference.toml"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def uncommented(text: str) -> str:
    """The template with every setting that it shows switched on."""
    return re.sub(r"^#(?=\S)", "", text, flags=re.MULTILINE)


def keys(table: dict[str, object], prefix: str = "") -> set[str]:
    """Dotted keys, the names that users choose left out."""
    found = set()
    for name, value in table.items():
        if isinstance(value, dict) and name not in (
            "auth",
            "tls",
            "proxy",
            "versions",
            "models",
            "options",
            "addresses",
            "credential",
        ):
            chosen = prefix.rstrip(".") in ("providers", "projects", "tenants", "prices")
            found |= keys(value, prefix if chosen else f"{prefix}{name}.")
        else:
            found.add(prefix if prefix == "routes." else prefix + name)
    return found


def test_makes_everything(tmp_path: Path) -> None:
    """A configuration that loads, a private state directory, a CA for all providers, and what to do next."""
    made = initialise(tmp_path / "new")
    config = load_config(tmp_path / "new" / "tollhouse.toml")
    assert made.config == config
    assert [problem.key for problem in unenforced(config)] == []
    state = tmp_path / "new" / "state"
    assert (mode(config.path), mode(state), mode(state / "ca-key.pem")) == (0o600, 0o700, 0o600)
    ca = CertificateAuthority.load(state / "ca.pem", state / "ca-key.pem")
    assert (
        ca.uncovered([host for provider in catalog(config).providers for host in provider.hosts])
        == []
    )
    assert (made.ca_file, made.fingerprint) == (state / "ca.pem", ca.fingerprint)
    for command in ("check", "run", "project set", "token create"):
        assert f"tollhouse {command}" in made.next_steps
    assert f"--config {config.path}" in made.next_steps


def test_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the current directory the next steps need no --config."""
    monkeypatch.chdir(tmp_path)
    assert "--config" not in initialise(Path()).next_steps


def test_every_key_of_the_reference() -> None:
    """Each key of the reference is in the file, set or shown."""
    reference = re.sub(r"^# (?=\w+ = )", "", REFERENCE.read_text(), flags=re.MULTILINE)
    wanted = keys(tomllib.loads(reference))
    assert wanted - keys(tomllib.loads(uncommented(template()))) == set()


def test_every_key_of_the_models(tmp_path: Path) -> None:
    """Each key that a table has is in the file, set or shown."""
    written = keys(tomllib.loads(uncommented(template())))
    config = load_config(REFERENCE)
    tables = {
        name: type(getattr(config, name))
        for name in (
            "listen",
            "redis",
            "vault",
            "log",
            "ca",
            "limits",
            "headers",
            "addons",
            "process",
            "policy",
        )
    }
    tables |= {
        "providers": type(config.providers["vllm"]),
        "projects": type(config.projects["proj_123"]),
    }
    wanted = {f"{table}.{key}" for table, model in tables.items() for key in model.model_fields}
    assert wanted - written == set()


def test_defaults(tmp_path: Path) -> None:
    """What is set says what would hold without it, but for the way into Vault, which has no default."""
    written = initialise(tmp_path).config
    (tmp_path / "bare.toml").write_text('[vault]\naddress = "embedded"\n')
    bare = load_config(tmp_path / "bare.toml")
    for table in (
        "listen",
        "state",
        "redis",
        "log",
        "ca",
        "limits",
        "headers",
        "addons",
        "providers",
        "projects",
        "prices",
    ):
        assert getattr(written, table) == getattr(bare, table), table
    same = written.vault.model_copy(update={"address": "embedded", "auth": None})
    assert same == bare.vault


def test_examples_are_sound(tmp_path: Path) -> None:
    """With every # taken away it is still a configuration, and all of it is enforced."""
    (tmp_path / "all.toml").write_text(uncommented(template()))
    config = load_config(tmp_path / "all.toml")
    assert set(config.providers) == {"azure", "openai", "vllm", "vllm-2"}
    assert unenforced(config) == []


def test_embedded(tmp_path: Path) -> None:
    """Both stores embedded, and the key is set by a command."""
    made = initialise(tmp_path, embedded=True)
    assert made.config.redis.embedded
    assert made.config.vault.embedded
    assert made.config.vault.auth is None
    assert "tollhouse key set openai" in made.next_steps


def test_overwrites_nothing(tmp_path: Path) -> None:
    """A file that is there stays as it is, and no CA is made beside it."""
    (tmp_path / "tollhouse.toml").write_text("mine")
    with pytest.raises(InitError, match="not overwritten"):
        initialise(tmp_path)
    assert (tmp_path / "tollhouse.toml").read_text() == "mine"
    assert not (tmp_path / "state").exists()


def test_keeps_a_ca(tmp_path: Path) -> None:
    """A CA that is there is kept; one that lacks hosts is said to."""
    CertificateAuthority.create(["api.openai.com"]).save(tmp_path / "state")
    before = (tmp_path / "state" / "ca.pem").read_bytes()
    (tmp_path / "state").chmod(0o755)
    made = initialise(tmp_path)
    assert (tmp_path / "state" / "ca.pem").read_bytes() == before
    assert mode(tmp_path / "state") == 0o700
    assert "does not cover api.anthropic.com" in made.next_steps


def test_a_ca_that_cannot_be_used(tmp_path: Path) -> None:
    """Half a CA is said, and no configuration is left that would go with it."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ca.pem").write_text("not a certificate")
    with pytest.raises(InitError, match=r"ca-key\.pem"):
        initialise(tmp_path)
    assert not (tmp_path / "tollhouse.toml").exists()


def test_directory_is_a_file(tmp_path: Path) -> None:
    """A directory that can't be made is said in a sentence."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InitError, match="file"):
        initialise(tmp_path / "file")
    with pytest.raises(InitError, match="can't be written"):
        initialise(tmp_path / "file" / "below")
