"""What testcontainers does with a daemon, without its reaper, which is an image of Docker Hub."""

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.waiting_utils import wait_for_logs

testcontainers_config.ryuk_disabled = True


def test_a_container_serves_a_test():
    serve = "echo ready; while :; do echo served | nc -l -p 8080; done"
    with Network() as network:
        container = DockerContainer("busybox").with_command(["sh", "-c", serve]).with_exposed_ports(8080)
        with container.with_network(network).with_network_aliases("web") as web:
            wait_for_logs(web, "ready")
            assert int(web.get_exposed_port(8080)) > 0
            assert web.exec(["echo", "hi"]) == (0, b"hi\n")
