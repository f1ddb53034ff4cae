"""A client of the daemon at DOCKER_HOST, which has the image busybox:latest."""

import docker
import pytest


@pytest.fixture
def client():
    client = docker.from_env()
    yield client
    for container in client.containers.list(all=True):
        container.remove(force=True, v=True)
    client.networks.prune()
    client.volumes.prune(filters={"all": True})
    client.close()


@pytest.fixture
def shop(client):
    """A network; what the default one leaves on the machine outlives the test."""
    return client.networks.create("shop")


@pytest.fixture
def box(client):
    """A container that waits."""
    return client.containers.run("busybox", ["sleep", "1000"], detach=True, network_mode="none")
