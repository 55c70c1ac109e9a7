"""Unit tests reach nobody."""

import socket

import pytest


def test_opening_a_socket_fails() -> None:
    """The guard itself: a test that forgets a mock transport is told so."""
    with pytest.raises(AssertionError, match="opens no socket"):
        socket.create_connection(("127.0.0.1", 9), timeout=0.1)


def test_a_pair_of_sockets_of_the_process_may_be_made() -> None:
    """An event loop wakes itself by one."""
    one, other = socket.socketpair()
    with one, other:
        one.send(b"x")
        assert other.recv(1) == b"x"
