"""Peers: what others wrote for the architectures of the zoo, for `ssir bench` to compare with."""

from ssir.registry import Registry


def register(registry: Registry) -> None:
    from ssir.plugins.peers.models import PEERS

    for name, peer in PEERS.items():
        registry.add("peer", name, peer)
