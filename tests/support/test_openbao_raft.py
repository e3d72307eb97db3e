"""The real OpenBao servers with integrated storage: they replicate, stand by, lag behind and elect."""

from __future__ import annotations

from tests.support.openbao_raft import RaftCluster, wait_for

PATH = "infrastructure/openai"


def test_a_cluster_is_real(openbao_raft: RaftCluster) -> None:
    """One active, two standbys that answer reads; another leader after the first was killed, which comes back as standby."""
    leader = openbao_raft.leader
    assert [node.health() for node in openbao_raft.standbys] == [429, 429]
    version = openbao_raft.put(PATH, {"api_key": "sk-1"})
    leader.stop()
    assert openbao_raft.leader is not leader
    assert openbao_raft.version(openbao_raft.leader, PATH) == version
    openbao_raft.reset()
    assert leader.health() == 429


def test_a_standby_that_lags(openbao_raft: RaftCluster) -> None:
    """Cut off from the others it answers with what it has; reconnected it has what they have."""
    old = openbao_raft.put(PATH, {"api_key": "sk-1"})
    standby = openbao_raft.standbys[0]
    standby.inbound.pause()
    new = openbao_raft.put(PATH, {"api_key": "sk-2"}, everywhere=False)
    assert (
        openbao_raft.version(standby, PATH),
        openbao_raft.version(openbao_raft.leader, PATH),
    ) == (old, new)
    standby.inbound.resume()
    wait_for(lambda: openbao_raft.version(standby, PATH) == new, "it has caught up")
