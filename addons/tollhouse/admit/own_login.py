"""A workload's own login at its provider: what it is told by, and when it counts."""

from __future__ import annotations

from collections.abc import Callable

from tollhouse.accounts.token import carries_gate_token
from tollhouse.call import RequestHead
from tollhouse.parties import Project
from tollhouse.providers import Provider


def own_login(head: RequestHead, provider: Provider) -> str | None:
    """The token of a login of ``provider`` in ``Authorization``, of a workload that says in Proxy-Authorization who it is. None
    for anything else, a key of that provider among it."""
    if provider.login is None or not _says_who(head):
        return None
    scheme, _, token = (head.get("authorization") or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not provider.login.form.fullmatch(token):
        return None
    return None if carries_gate_token(token) else token


def let_through(
    head: RequestHead, provider: Provider, project: Project, is_platforms: Callable[[str], bool]
) -> bool:
    """Whether the call goes with the workload's login, in the place of a key of ours. ``is_platforms`` tells a JWT by which
    a workload is known here, and which has the form of some logins."""
    if project.login != "pass":
        return False
    login = own_login(head, provider)
    return login is not None and not is_platforms(login)


def _says_who(head: RequestHead) -> bool:
    return head.connect_proxy_authorization is not None or bool(head.get("proxy-authorization"))
