"""VaultReader and real OpenBao servers with integrated storage: standbys, elections, seals, versions that go backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.credential.standin import stand_in
from tests.support.clock import Clock
from tests.support.openbao_raft import RaftCluster, RaftNode, wait_for

from tollhouse.credential.lease import StoreAway
from tollhouse.credential.vault.reader import AppRole, VaultReader

PATH = "infrastructure/openai"
Make = Callable[..., VaultReader]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(openbao_raft: RaftCluster, clock: Clock) -> Iterator[Make]:
    """Readers of one server, or of all by the balancer."""
    readers = []
    first = openbao_raft.nodes[0]

    def reader(node: RaftNode | None = None) -> VaultReader:
        address = node.address if node else openbao_raft.address
        auth = AppRole(first.role_id_file, first.secret_id_file)
        readers.append(VaultReader(address, auth, timeout_s=5.0, clock=clock, jitter=lambda: 0.0))
        return readers[-1]

    yield reader
    for made in readers:
        made.close()


def version_of(reader: VaultReader) -> str | None:
    found = reader.read(PATH)
    return found.version if found else None


def connects(reader: VaultReader) -> bool:
    """Whether it logs in; an election is no refusal."""
    try:
        reader.connect()
    except StoreAway:
        return False
    return True


def test_a_standby_does_everything(openbao_raft: RaftCluster, make: Make, clock: Clock) -> None:
    """It reads by itself and has the leader do the rest: login, renewal, the login's end."""
    leader, standby = openbao_raft.leader, openbao_raft.standbys[0]
    leader.set_role(token_ttl="60s")
    version = openbao_raft.put(PATH, {"api_key": "sk-1"})
    reader = make(standby)
    assert version_of(reader) == str(version)
    clock.now += 41
    assert reader.tend() == pytest.approx(40)
    assert (reader.trouble, leader.logins()) == ("", 1)
    reader.close()
    assert leader.logins() == 0


def test_no_leader(openbao_raft: RaftCluster, make: Make, clock: Clock) -> None:
    """A standby that is alone goes on reading, and answers a login with 500, or 307 to the leader that died: what listens
    there now gets neither token nor secret_id. That is away, not a refusal; with a leader again all is well, by the same
    token."""
    openbao_raft.leader.set_role(token_ttl="60s")
    openbao_raft.leader.stop()
    leader = openbao_raft.leader
    [standby] = [node for node in openbao_raft.nodes if node.running and node is not leader]
    reader = make(standby)
    wait_for(lambda: connects(reader), "the standby knows the new leader")
    version = openbao_raft.put(PATH, {"api_key": "sk-1"})
    assert version_of(reader) == str(version)
    leader.stop()
    with stand_in(leader.port) as impostor:
        assert version_of(reader) == str(version)
        for _ in range(3):
            with pytest.raises(StoreAway, match=r"redirect \(307\)|trouble of its own \(500\)"):
                make(standby).connect()
        clock.now += 41
        assert reader.tend() == pytest.approx(19 / 4)
        assert "could not be renewed" in reader.trouble
        assert impostor.book == []
    openbao_raft.reset()
    clock.now += 10
    assert reader.tend() is not None
    assert reader.trouble == ""
    assert version_of(reader) == str(version)


def test_an_election(openbao_raft: RaftCluster, make: Make) -> None:
    """The leader steps down: a login meanwhile is away (500, 307) or works, and is never a refusal."""
    leader = openbao_raft.leader
    version = openbao_raft.put(PATH, {"api_key": "sk-1"})
    leader.api("PUT", "sys/step-down")
    for reader in map(make, openbao_raft.nodes):
        wait_for(lambda reader=reader: connects(reader), "an election is over")  # type: ignore[misc]
        assert version_of(reader) == str(version)


def test_sealed(openbao_raft: RaftCluster, make: Make) -> None:
    """One server sealed is away, and the balancer's others serve; unsealed it takes the same token as before."""
    standby = openbao_raft.standbys[0]
    version = openbao_raft.put(PATH, {"api_key": "sk-1"})
    reader = make(standby)
    assert version_of(reader) == str(version)
    standby.seal()
    with pytest.raises(StoreAway, match="sealed"):
        version_of(reader)
    standby.unseal()
    assert version_of(reader) == str(version)
    assert openbao_raft.leader.logins() == 1


def test_versions_that_go_backwards(openbao_raft: RaftCluster, make: Make, clock: Clock) -> None:
    """After the leader's answer a standby that was cut off gives an older version: away, for a minute; caught up, fine."""
    leader, standby = openbao_raft.leader, openbao_raft.standbys[0]
    reader = make()
    openbao_raft.balancer.lead_to(leader.port)
    reader.connect()
    # A standby that does not know a token yet asks the leader: the login has to be everywhere.
    old = openbao_raft.put(PATH, {"api_key": "sk-1"})
    assert version_of(reader) == str(old)
    standby.inbound.pause()
    new = openbao_raft.put(PATH, {"api_key": "sk-2"}, everywhere=False)
    assert version_of(reader) == str(new)
    openbao_raft.balancer.lead_to(standby.port)
    with pytest.raises(
        StoreAway, match=f"version {old} of secret/{PATH}, which is older than version {new}"
    ):
        version_of(reader)
    openbao_raft.balancer.lead_to(leader.port)
    assert version_of(reader) == str(new)
    standby.inbound.resume()
    wait_for(lambda: openbao_raft.version(standby, PATH) == new, "it has caught up")
    openbao_raft.balancer.lead_to(standby.port)
    assert version_of(reader) == str(new)
    openbao_raft.leader.forget(PATH)
    again = openbao_raft.put(PATH, {"api_key": "sk-3"})
    assert again == 1
    assert version_of(reader) == "1", "made anew, it is newer"


def test_a_new_mount(openbao_raft: RaftCluster, make: Make) -> None:
    """A standby says 400 for a moment after an engine was mounted: that is away, and over by itself."""
    leader, standby = openbao_raft.leader, openbao_raft.standbys[0]
    leader.api("POST", "sys/mounts/fresh", {"type": "kv", "options": {"version": "2"}})
    try:
        leader.api(
            "PUT",
            "sys/policies/acl/fresh",
            {"policy": 'path "fresh/data/*" { capabilities = ["read"] }'},
        )
        leader.set_role(token_policies=["tollhouse", "fresh"])
        first = openbao_raft.nodes[0]
        reader = VaultReader(
            standby.address, AppRole(first.role_id_file, first.secret_id_file), mount="fresh"
        )

        said = set()

        def read() -> bool:
            try:
                return reader.read(PATH) is None
            except StoreAway as error:
                said.add(error.why)
                return False

        wait_for(read, "the engine is ready")
        assert said <= {f"Vault can't read fresh/{PATH} just now (400)."}
        reader.close()
    finally:
        leader.api("DELETE", "sys/mounts/fresh")
