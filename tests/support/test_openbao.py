"""The real OpenBao server of the tests."""

from __future__ import annotations

from tests.support.openbao import OpenBao


def test_openbao_is_real_and_comes_back(openbao: OpenBao) -> None:
    """The role reads what its policy names, and still does, with the same credentials, after a stop and a start."""
    openbao.put("infrastructure/openai", {"api_key": "k1"})
    for _ in range(2):
        login = openbao.api(
            "POST",
            "auth/approle/login",
            {
                "role_id": openbao.role_id_file.read_text().strip(),
                "secret_id": openbao.secret_id_file.read_text().strip(),
            },
            token="",
        )
        token = login["auth"]["client_token"]
        read = openbao.api("GET", "secret/data/infrastructure/openai", token=token)
        assert read["data"]["data"] == {"api_key": "k1"}
        assert openbao.logins() == 1
        openbao.stop()
        openbao.start()
