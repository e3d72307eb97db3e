"""tollhouse.toml: the reference parses, and each way to break a file is said in full. Past 400 lines: each key has its test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tollhouse.config.load import (
    Address,
    AppRoleAuth,
    Config,
    ConfigError,
    JwtAuth,
    PriceConfig,
    TlsFiles,
    TokenAuth,
    catalog,
    load_config,
    own_prices,
    passable,
    unenforced,
)
from tollhouse.config.values import AddonPlace
from tollhouse.families.asked import Dialect
from tollhouse.families.units import Charge, Estimate, Units
from tollhouse.prices.table import PriceTable
from tollhouse.providers import BUILT_IN
from tollhouse.providers.anthropic import ANTHROPIC
from tollhouse.providers.azure import AZURE
from tollhouse.providers.openai import OPENAI

DATA = Path(__file__).parents[1] / "data"
BAD = sorted((DATA / "bad").glob("*.toml"))
EMBEDDED = '[vault]\naddress = "embedded"\n'


@pytest.fixture
def write(tmp_path: Path):
    """Loads a text as tollhouse.toml of an empty directory."""

    def load(text: str) -> Config:
        file = tmp_path / "tollhouse.toml"
        file.write_text(text)
        return load_config(file)

    return load


def problems(error: pytest.ExceptionInfo[ConfigError]) -> dict[str, str]:
    return {problem.key: problem.message for problem in error.value.problems}


def test_reference() -> None:
    """The reference, a contract that others rely on, means what its comments say."""
    config = load_config(DATA / "reference.toml")
    assert config.path == DATA / "reference.toml"
    assert config.listen.proxy == Address("127.0.0.1", 8080)
    assert config.listen.base_url == Address("127.0.0.1", 8000)
    assert config.listen.transparent is None
    assert config.listen.admin == Address("127.0.0.1", 9090)
    assert config.listen.proxy_auth == "optional"
    assert config.listen.base_url_hosts == ("localhost", "127.0.0.1")
    assert config.listen.tls is None
    assert config.state.directory == DATA / "state"
    assert config.redis.url == "redis://127.0.0.1:6379/0"
    assert config.vault.address == "https://vault:8200"
    assert config.vault.auth == AppRoleAuth(
        method="approle",
        role_id_file=DATA / "role-id",
        secret_id_file=DATA / "secret-id",
        mount="approle",
    )
    assert (config.vault.mount, config.vault.kv_version, config.vault.field) == (
        "secret",
        2,
        "api_key",
    )
    assert config.vault.paths == ("projects/{project}/{provider}", "infrastructure/{provider}")
    assert (config.vault.refresh_s, config.vault.stale_for_s) == (60, 300)
    assert config.log.calls == "-"
    openai = config.providers["openai"]
    assert (openai.connect_to, openai.ca_file, openai.allow_private) == (
        Address("10.0.0.7", 443),
        DATA / "private-ca.pem",
        True,
    )
    vllm = config.providers["vllm"]
    assert (vllm.family, vllm.hosts, vllm.port, vllm.unsafe_plaintext) == (
        "openai",
        ("llm.internal",),
        8443,
        True,
    )
    assert config.routes == {"claude-*": "anthropic"}
    project = config.projects["proj_123"]
    assert project.tenant == "acme"
    assert project.limits == (
        "10 usd/day",
        "200000 tokens/minute",
        "60 requests/minute",
        "8 concurrent",
    )
    assert (project.on_shortfall, project.models) == ("reject", ("gpt-4o*", "anthropic/claude-*"))
    assert config.tenants["acme"].limits == ("100 usd/month",)
    assert config.addons.load == (AddonPlace(DATA / "redact.py", "Redact"),)
    assert (config.addons.timeout_s, config.addons.options) == (10, {})


def test_reference_with_its_comments_taken_off(write, tmp_path: Path) -> None:
    """What the reference shows as commented-out settings are settings."""
    text, count = re.subn(
        r"^# (?=\w+ = )", "", (DATA / "reference.toml").read_text(), flags=re.MULTILINE
    )
    assert count == 2
    config = write(text)
    assert config.listen.tls == TlsFiles(cert_file=tmp_path / "...", key_file=tmp_path / "...")
    assert config.listen.unsafe_plaintext_listen is True


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    """EF BB BF before the first key is read over, as an editor on Windows writes it; one further in
    is not."""
    file = tmp_path / "tollhouse.toml"
    file.write_bytes(b"\xef\xbb\xbf" + EMBEDDED.encode())
    assert load_config(file).vault.embedded
    file.write_bytes(b"\n\xef\xbb\xbf" + EMBEDDED.encode())
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_config(file)


def test_what_is_not_enforced_is_named(write) -> None:
    """What this version does not do yet is named, key by key. The reference asks for nothing of it."""
    assert unenforced(load_config(DATA / "reference.toml")) == []
    found = unenforced(
        write('[vault]\naddress = "embedded"\nversions = { "infrastructure/openai" = 3 }')
    )
    assert [problem.key for problem in found] == ["vault.versions"]
    assert all("not enforced yet by this version" in problem.message for problem in found)


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_broken_file(file: Path) -> None:
    """Each broken file has exactly the problems beside it, a line each, and no value that could be a secret is repeated."""
    with pytest.raises(ConfigError) as error:
        load_config(file)
    expected = file.with_suffix(".txt").read_text().splitlines()
    assert [str(problem) for problem in error.value.problems] == [
        f"{file}: {line}" for line in expected
    ]
    assert expected
    assert not re.search("hvs.secret|pass/word|me:secret", str(error.value))


def test_each_broken_file_has_its_text() -> None:
    """No broken file without its problem, and no problem without its file."""
    assert len(BAD) > 70
    assert [file.stem for file in BAD] == [
        file.stem for file in sorted((DATA / "bad").glob("*.txt"))
    ]


def test_all_problems_at_once(write) -> None:
    """Problems of several tables, and of several keys of one, come together."""
    with pytest.raises(ConfigError) as error:
        write(
            'lsten = 1\n[listen]\nproxy = 1\nadmin = "x"\n[projects.a]\ntenant = "acme"\nlimits = ["1"]\n'
            '[routes]\n"a" = "nobody"\n[providers.own]\n[redis]\nurl = 3\n'
        )
    assert set(problems(error)) == {
        "lsten",
        "listen.proxy",
        "listen.admin",
        "redis.url",
        "vault.auth",
        "providers.own.family",
        "providers.own.hosts",
        "routes.a",
        "projects.a.limits[0]",
    }


def test_missing_file(tmp_path: Path) -> None:
    """A file that isn't there is a problem with something to do about it."""
    with pytest.raises(ConfigError, match="tollhouse init"):
        load_config(tmp_path / "tollhouse.toml")


def test_unreadable_as_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, and a directory, are problems like any other."""
    file = tmp_path / "tollhouse.toml"
    file.write_bytes(b'[log]\ncalls = "\xff"\n')
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_defaults(write, tmp_path: Path) -> None:
    """Without tables the defaults are those of the reference; only the way into Vault must be said."""
    config = write(EMBEDDED)
    assert config.listen == load_config(DATA / "reference.toml").listen
    assert config.state.directory == tmp_path / "state"
    assert config.vault.embedded
    assert not config.redis.embedded
    assert config.vault.auth is None
    assert config.limits.max_body_bytes == 33_554_432
    assert config.limits.max_header_bytes == 65_536
    assert (config.limits.request_timeout_s, config.limits.max_connections) == (30, 4096)
    assert (config.limits.drain_s, config.limits.abandoned_read_s) == (30, 2)
    assert (config.headers.project, config.headers.trace) == (
        "X-Coreason-Project-ID",
        "X-Coreason-Trace-ID",
    )
    assert catalog(config).providers == BUILT_IN
    assert unenforced(config) == []


def test_paths(write, tmp_path: Path) -> None:
    """A relative path is relative to the file, an absolute one stays."""
    config = write(
        EMBEDDED + 'ca_file = "/etc/vault.pem"\n[log]\ncalls = "log/calls.jsonl"\n'
        '[ca]\ncert_file = "../ca.pem"\nkey_file = "/run/ca-key.pem"\n'
    )
    assert config.vault.ca_file == Path("/etc/vault.pem")
    assert config.log.calls == tmp_path / "log/calls.jsonl"
    assert config.ca.cert_file == tmp_path / "../ca.pem"
    assert config.ca.key_file == Path("/run/ca-key.pem")


def test_path_of_a_relative_file(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative name of the file itself gives absolute paths too."""
    write(EMBEDDED)
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("tollhouse.toml")).state.directory == tmp_path / "state"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::1]:8080", Address("::1", 8080)),
        ("LocalHost:80", Address("localhost", 80)),
        ("off", None),
    ],
)
def test_listener(write, text: str, address: Address | None) -> None:
    """Names, IPv4, IPv6 in brackets, any free port, and off."""
    assert write(EMBEDDED + f'[listen]\nproxy = "{text}"\n').listen.proxy == address


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.1.2.3", "gateway", "[::ffff:10.1.2.3]"])
def test_plaintext_listener(write, host: str) -> None:
    """Off loopback a listener needs TLS or the unsafe switch; transparent carries no token in the clear, and admin takes none."""
    proxy = f'[listen]\nproxy = "{host}:8080"\n'
    with pytest.raises(ConfigError, match="unsafe_plaintext_listen"):
        write(EMBEDDED + proxy)
    write(EMBEDDED + proxy + "unsafe_plaintext_listen = true\n")
    write(EMBEDDED + proxy + 'tls = { cert_file = "c", key_file = "k" }\n')
    write(EMBEDDED + f'[listen]\nadmin = "{host}:9090"\ntransparent = "{host}:8443"\n')


def test_same_port_on_any_address(write) -> None:
    """0.0.0.0 has the port of every address; two free ports are not the same."""
    with pytest.raises(ConfigError) as error:
        write(EMBEDDED + '[listen]\ntransparent = "0.0.0.0:9090"\n')
    assert list(problems(error)) == ["listen.admin"]
    write(EMBEDDED + '[listen]\nproxy = "127.0.0.1:0"\nbase_url = "127.0.0.1:0"\n')


def test_redis_password_is_not_shown(write) -> None:
    """Neither the repr nor the place for people holds the password."""
    config = write(
        EMBEDDED + '[redis]\nurl = "rediss://me:hunter2@db:6380/1?client_name=hunter2"\n'
    )
    assert "hunter2" in config.redis.url
    assert "hunter2" not in repr(config)
    assert config.redis.place == "rediss://db:6380/1"


@pytest.mark.parametrize(
    "url",
    [
        "rediss://h:1/0",
        "rediss://h:1?db=1&ssl_ca_certs=/ca.pem&ssl_check_hostname=false&ssl_cert_reqs=required",
        "redis://h",
        "redis://h/",
        "redis://h/15?socket_timeout=0.5&max_connections=8&socket_keepalive=true&health_check_interval=0",
        "unix:///run/r.sock?db=1",
        "redis+cluster://h:1",
        "redis+cluster://u:p@h:1,[::1]:2?ssl=true&ssl_ca_certs=/ca.pem",
        "redis+sentinel://h:1/m",
        "redis+sentinel://u:p@h:1,g:2/m/3?ssl=true&sentinel_password=s",
        "embedded",
    ],
)
def test_redis_url(write, url: str) -> None:
    """All schemes of the reference are read."""
    assert write(EMBEDDED + f'[redis]\nurl = "{url}"\n').redis.url == url


@pytest.mark.parametrize(
    ("listener", "names"),
    [
        ("[::1]:8000", ("gw", "::1")),
        ("127.0.0.1:8000", ("gw", "127.0.0.1")),
        ("127.0.0.9:8000", ("gw", "127.0.0.9")),
        ("localhost:8000", ("gw", "127.0.0.1", "::1")),
        ("0.0.0.0:8000", ("gw",)),
        ("10.0.0.7:8000", ("gw",)),
        ("gw.internal:8000", ("gw",)),
        ("off", ("gw",)),
    ],
)
def test_the_names_of_the_base_url(write, listener: str, names: tuple[str, ...]) -> None:
    """Beside those of the file, the loopback addresses that it is bound to; never an address that
    others reach."""
    text = f'[listen]\nbase_url = "{listener}"\nbase_url_hosts = ["gw"]\nunsafe_plaintext_listen = true\n'
    assert write(EMBEDDED + text).listen.base_url_names == names


def test_vault_auth(write, tmp_path: Path) -> None:
    """All methods of the reference are read; token and token_file are one."""
    for method in ("token", "token_file"):
        auth = write(f'[vault]\nauth = {{ method = "{method}", token_file = "t" }}\n').vault.auth
        assert isinstance(auth, TokenAuth)
        assert auth.token_file == tmp_path / "t"
    config = write('[vault]\nauth = { method = "kubernetes", role = "tollhouse" }\n')
    assert config.vault.auth == JwtAuth(
        method="kubernetes", role="tollhouse", jwt_file=None, mount=None
    )
    config = write(
        '[vault]\nauth = { method = "jwt", role = "tollhouse", jwt_file = "j", mount = "oidc/" }\n'
    )
    assert config.vault.auth == JwtAuth(
        method="jwt", role="tollhouse", jwt_file=tmp_path / "j", mount="oidc"
    )
    config = write(
        '[vault]\nauth = { method = "approle", role_id_file = "r", secret_id_file = "s", mount = "m", wrapped = true }\n'
    )
    assert config.vault.auth == AppRoleAuth(
        method="approle",
        role_id_file=tmp_path / "r",
        secret_id_file=tmp_path / "s",
        mount="m",
        wrapped=True,
    )
    assert unenforced(config) == []


def test_vault_versions(write) -> None:
    """KV version 1 is read; in version 2 paths can be pinned."""
    token = 'auth = { method = "token", token_file = "t" }\n'
    config = write(f"[vault]\nkv_version = 1\n{token}")
    assert (config.vault.kv_version, config.vault.versions, unenforced(config)) == (1, {}, [])
    config = write(f'[vault]\nversions = {{ "infrastructure/openai" = 3 }}\n{token}')
    assert (config.vault.versions, unenforced(config)) == ({"infrastructure/openai": 3}, [])


def test_vault_over_http(write) -> None:
    """Plain http to Vault is for loopback, or said to be unsafe."""
    token = 'auth = { method = "token", token_file = "t" }\n'
    write(f'[vault]\naddress = "http://127.0.0.1:8200"\n{token}')
    write(f'[vault]\naddress = "http://vault:8200"\nunsafe_plaintext = true\n{token}')


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('versions = { "infrastructure/openai" = 3 }\n', "vault.versions"),
    ],
)
def test_unenforced(write, text: str, key: str) -> None:
    """What can be spelt and isn't done is never accepted in silence."""
    config = write(EMBEDDED + text)
    assert [(problem.file, problem.key) for problem in unenforced(config)] == [(config.path, key)]


def test_catalog_changes_a_built_in(write, tmp_path: Path) -> None:
    """An entry says what differs; all else stays the built-in provider's."""
    config = write(
        EMBEDDED
        + '[providers.openai]\nconnect_to = "127.0.0.1:8443"\nca_file = "ca.pem"\nallow_private = true\n'
        "attempts = 2\ndeadline_s = 5\nanswer_timeout_s = 7.5\ndefault_output_tokens = 100\n"
    )
    openai = catalog(config).by_host("api.openai.com")
    assert openai is not None
    assert (openai.hosts, openai.family, openai.dialect, openai.slot) == (
        OPENAI.hosts,
        OPENAI.family,
        OPENAI.dialect,
        OPENAI.slot,
    )
    assert openai.connect_to == ("127.0.0.1", 8443)
    assert openai.ca_file == str(tmp_path / "ca.pem")
    assert openai.allow_private
    assert (openai.attempts, openai.deadline_s, openai.answer_timeout_s) == (2, 5, 7.5)
    assert (openai.most_output("gpt-4o", 50), openai.most_input(128_000)) == (100, 128_000)
    assert len(catalog(config).providers) == len(BUILT_IN)


def test_catalog_takes_hosts_away(write) -> None:
    """The hosts of an entry are all its hosts."""
    config = write(EMBEDDED + '[providers.openai]\nhosts = ["api.openai.com"]\n')
    assert catalog(config).by_host("eu.api.openai.com") is None


def test_catalog_of_ones_own(write) -> None:
    """A provider of one's own has its family's endpoints, slot and stripped headers, and no key variable."""
    config = write(
        EMBEDDED
        + '[providers.vllm]\nfamily = "openai"\nhosts = ["LLM.Internal.", "*.gpu.internal"]\nport = 8443\n'
        '[providers.claude]\nfamily = "anthropic"\nhosts = ["claude.internal"]\n'
    )
    vllm = catalog(config).by_host("llm.internal")
    assert vllm is not None
    assert (vllm.name, vllm.family, vllm.port) == ("vllm", OPENAI.family, 8443)
    assert (vllm.slot, vllm.dialect) == (
        OPENAI.slot,
        Dialect(usage_in_stream="on_request", own_rules=False),
    )
    assert (vllm.key_variables, vllm.who_pays) == ((), OPENAI.who_pays)
    # OpenAI's limits are of OpenAI's models.
    assert (vllm.most_output("gpt-4o", None), OPENAI.most_output("gpt-4o", None)) == (
        128_000,
        16_384,
    )
    assert catalog(config).by_host("a.gpu.internal") == vllm
    claude = catalog(config).by_name("claude")
    assert claude is not None
    assert (claude.slot, claude.family) == (ANTHROPIC.slot, ANTHROPIC.family)


def test_several_azure_resources(write) -> None:
    """Each resource with a key of its own is an entry; no host is Azure's until the file names it."""
    config = write(
        EMBEDDED + '[providers.azure]\nhosts = ["contoso.openai.azure.com"]\n'
        '[providers.azure-eu]\nfamily = "azure"\nhosts = ["contoso-eu.openai.azure.com"]\n'
    )
    ours, eu = catalog(config).by_name("azure"), catalog(config).by_name("azure-eu")
    assert ours is not None
    assert eu is not None
    assert catalog(config).by_host("contoso.openai.azure.com") == ours
    assert catalog(config).by_host("contoso-eu.openai.azure.com") == eu
    assert catalog(config).by_host("fabrikam.openai.azure.com") is None
    assert (eu.slot, eu.family, eu.free_call) == (AZURE.slot, AZURE.family, AZURE.free_call)
    assert (eu.family.error_body, eu.price_id, eu.key_variables) == (
        OPENAI.family.error_body,
        "azure",
        (),
    )
    assert catalog(write(EMBEDDED)).by_name("azure") == AZURE
    assert AZURE.hosts == ()


def test_a_name_of_a_built_in_as_family(write) -> None:
    """Saying it of the entry of that name changes nothing."""
    config = write(
        EMBEDDED
        + '[providers.gemini]\nfamily = "gemini"\n[providers.bedrock]\nfamily = "bedrock"\n'
    )
    assert catalog(config).providers == BUILT_IN


def test_host_below_anothers_wildcard(write) -> None:
    """An exact host may lie below another provider's wildcard: its own key for one machine of many."""
    config = write(
        EMBEDDED + '[providers.gpus]\nfamily = "openai"\nhosts = ["*.gpu.internal"]\n'
        '[providers.ours]\nfamily = "openai"\nhosts = ["ours.gpu.internal"]\n'
    )
    found = catalog(config).by_host("ours.gpu.internal")
    assert found is not None
    assert found.name == "ours"


@pytest.mark.parametrize(
    "target", ["127.0.0.1:1", "[::1]:1", "192.168.0.1:1", "169.254.169.254:80", "100.64.0.1:1"]
)
def test_connect_to_inside(write, target: str) -> None:
    """An address that is not public needs allow_private beside it."""
    text = EMBEDDED + f'[providers.openai]\nconnect_to = "{target}"\n'
    with pytest.raises(ConfigError, match="allow_private"):
        write(text)
    write(text + "allow_private = true\n")


@pytest.mark.parametrize("target", ["8.8.8.8:443", "egress.example.com:443"])
def test_connect_to_outside(write, target: str) -> None:
    """A public address is fine, and a name is judged when it is dialled."""
    write(EMBEDDED + f'[providers.openai]\nconnect_to = "{target}"\n')


def test_prices(write) -> None:
    """Prices are exact decimal strings; that of cached input need not be given."""
    config = write(EMBEDDED + '[prices."openai/my-model"]\ninput = "2.50"\noutput = "10"\n')
    price = config.prices["openai/my-model"]
    assert (price.input, price.output, price.cached) == ("2.50", "10", None)


def test_prices_of_all_units(write) -> None:
    """Each unit has its key, and what is written is what the price table is given."""
    written = {
        "input": "1",
        "output": "2",
        "cached": "0.5",
        "cache_write": "1.5",
        "reasoning": "3",
        "input_audio": "10",
        "output_audio": "20",
        "cached_audio": "4",
        "input_image": "5",
        "output_image": "6",
        "characters": "15",
        "second": "0.000000001",
        "image": "0.04",
        "page": "0.002",
        "search": "0.01",
        "request": "0.005",
    }
    table = "".join(f'{key} = "{value}"\n' for key, value in written.items())
    config = write(EMBEDDED + '[prices."openai/my-model"]\n' + table)
    assert own_prices(config) == {"openai/my-model": written}
    assert {*written, "above", "tier"} == set(PriceConfig.model_fields)
    PriceTable({}, own_prices(config))


def test_prices_by_the_size_of_the_prompt_and_by_tier(write) -> None:
    """A step holds for the whole call whose input is larger, and a tier for a call that was served
    at it: 300,000 tokens at 2 and 4 USD a million; at the tier input costs 3 USD."""
    config = write(
        EMBEDDED
        + '[prices."openai/x"]\ninput = "1"\noutput = "2"\n'
        + '[[prices."openai/x".above]]\ntokens = 200000\ninput = "2"\noutput = "4"\n'
        + '[prices."openai/x".tier.priority]\ninput = "3"\n'
    )
    table = PriceTable({}, own_prices(config))

    def cost(size: int, tier: str = "") -> int | None:
        return table.cost("openai", Charge("x", Units(input=size, output=10), tier))

    assert cost(200_000) == 200_000 * 1_000 + 10 * 2_000
    assert cost(200_001) == 200_001 * 2_000 + 10 * 4_000
    assert cost(100, "priority") == 100 * 3_000 + 10 * 2_000
    assert cost(100, "flex") == 100 * 1_000 + 10 * 2_000
    ceiling = table.ceiling(
        "openai", "x", Estimate(Units(input=200_001, output=10)), tier="priority"
    )
    assert ceiling == 200_001 * 3_000 + 10 * 4_000


def test_a_price_of_a_tool_has_no_tokens(write) -> None:
    """One use of it, by its name."""
    config = write(EMBEDDED + '[prices."openai/web_search"]\nrequest = "0.02"\n')
    table = PriceTable({}, own_prices(config))
    assert table.cost("openai", Charge("web_search", Units(requests=3))) == 60_000_000


def test_prices_go_by_the_price_list_of_their_provider(write) -> None:
    """Bedrock's models are AWS's there, Gemini's and Vertex's are Google's, a second Azure's are Azure's; others keep their
    name. Two entries for one model may say the same."""
    price = 'input = "1"\noutput = "2"\n'
    names = (
        "bedrock/Nova-*",
        "gemini/g",
        "vertex/G",
        "west/gpt-4o",
        "vllm/org/llama",
        "openai/gpt-4o",
    )
    config = write(
        EMBEDDED
        + '[providers.west]\nfamily = "azure"\nhosts = ["west.openai.azure.com"]\n'
        + '[providers.vllm]\nfamily = "openai"\nhosts = ["llm.example"]\n'
        + "".join(f'[prices."{name}"]\n{price}' for name in names)
    )
    keys = ["aws/nova-*", "google/g", "azure/gpt-4o", "vllm/org/llama", "openai/gpt-4o"]
    assert own_prices(config) == {key: {"input": "1", "output": "2"} for key in keys}


def test_config_is_frozen(write) -> None:
    """Nobody changes a configuration that was judged."""
    config = write(EMBEDDED)
    with pytest.raises(AttributeError):
        config.path = Path("/")  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        config.listen.proxy = None  # type: ignore[misc]


# Endpoints that an entry opens.


def test_what_an_entry_opens(write) -> None:
    """Exactly as it is written; an entry of one's own opens them at its own hosts."""
    config = write(
        EMBEDDED
        + '[providers.openai]\nallow = ["POST /v1/new", "GET /v1/new/*"]\nunmetered = ["GET /v1/list"]\n'
        'unknown_hold_usd = "0.25"\njob_hold_usd = 5\nshare_objects = true\n'
        '[providers.vllm]\nfamily = "openai"\nhosts = ["llm.internal"]\nallow = ["POST /v1/score"]\n'
    )
    providers = catalog(config)
    openai, vllm = providers.by_name("openai"), providers.by_name("vllm")
    assert openai is not None
    assert vllm is not None
    assert [one.text for one in openai.allow] == ["POST /v1/new", "GET /v1/new/*"]
    assert [one.text for one in openai.unmetered] == ["GET /v1/list"]
    assert (openai.unknown_hold, openai.job_hold) == (250_000_000, 5_000_000_000)
    assert openai.share_objects
    cost = [
        operation and operation.cost
        for method, path in (("POST", "/v1/new"), ("GET", "/v1/list"), ("POST", "/v1/score"))
        if (operation := openai.family.operation(method, path)) or True
    ]
    assert cost == ["metered", "free", None]
    assert vllm.family.operation("POST", "/v1/score") is not None
    assert vllm.family.operation("POST", "/v1/new") is None
    assert (vllm.unknown_hold, vllm.job_hold, vllm.share_objects) == (1_000_000_000, None, False)
    anthropic = providers.by_name("anthropic")
    assert anthropic is not None
    assert anthropic.family is ANTHROPIC.family


def test_the_models_behind_deployments(write) -> None:
    """Of any entry; a name that nobody could send is a problem."""
    config = write(
        EMBEDDED + '[providers.azure]\nhosts = ["contoso.openai.azure.com"]\n'
        '[providers.azure.models]\nmy-deployment = "gpt-4o"\n"gpt-4o" = "gpt-4o-mini"\n'
        '[providers.bedrock.models]\n"arn:aws:bedrock:eu-west-1:1:application-inference-profile/a" = "amazon.nova-lite-v1:0"\n'
    )
    azure, bedrock = catalog(config).by_name("azure"), catalog(config).by_name("bedrock")
    assert azure is not None
    assert bedrock is not None
    assert azure.models == {"my-deployment": "gpt-4o", "gpt-4o": "gpt-4o-mini"}
    assert list(bedrock.models.values()) == ["amazon.nova-lite-v1:0"]
    assert OPENAI.models == {}
    for table in ('a = ""', '"" = "a"', "a = 1", f'a = "{"x" * 2049}"'):
        with pytest.raises(ConfigError, match="models"):
            write(EMBEDDED + f"[providers.openai.models]\n{table}\n")


def test_whose_companions_pass(write) -> None:
    """A choice alone is for every project. A host of two agents is open to the projects of both; an entry of one's own for it
    counts instead."""
    config = write(
        """
        [vault]
        address = "embedded"
        [companions]
        claude-code = { hosts = "all", projects = ["a", "b"] }
        codex = { hosts = "all", projects = ["c"] }
        opencode = "all"
        gemini-cli = { hosts = "off" }
        [[tunnels]]
        hosts = ["downloads.claude.ai"]
        projects = ["d"]
        """
    )
    passing = passable(config)
    expected = {
        "platform.claude.com": "ab",
        "github.com": "abc",
        "auth.openai.com": "c",
        "downloads.claude.ai": "d",
        "models.opencode.ai": "abcd",
        "registry.npmjs.org": "abcd",
        "play.googleapis.com": "",
    }
    found = {}
    for host in expected:
        entry = passing.by_host(host)
        found[host] = "".join(name for name in "abcd" if entry is not None and entry.is_for(name))
    assert found == expected
