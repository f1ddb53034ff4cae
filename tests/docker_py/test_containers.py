import time

import docker
import pytest


def test_a_command_runs_and_says_what_it_has_to_say(client):
    assert client.containers.run("busybox", ["echo", "hello"], network_mode="none", remove=True) == b"hello\n"
    with pytest.raises(docker.errors.ContainerError) as error:
        client.containers.run("busybox", "sh -c 'echo no >&2; exit 3'", network_mode="none")
    assert (error.value.exit_status, error.value.stderr) == (3, b"no\n")
    with pytest.raises(docker.errors.ImageNotFound):
        client.containers.create("none.invalid/missing", "true")
    with pytest.raises(docker.errors.APIError, match="executable file not found"):
        client.containers.run("busybox", ["nope"], network_mode="none")


def test_a_container_lives_through_its_states(client, box):
    def status():
        box.reload()
        return box.status

    assert status() == "running"
    box.pause()
    assert status() == "paused"
    box.unpause()
    box.rename("other")
    assert client.containers.get("other").id == box.id
    box.restart(timeout=0)
    assert status() == "running"
    box.update(mem_limit="64m", memswap_limit="64m")
    box.reload()
    assert box.attrs["HostConfig"]["Memory"] == 64 << 20
    assert len(box.top()["Processes"]) == 1
    stats = box.stats(stream=False)
    assert stats["memory_stats"]["limit"] == 64 << 20 and stats["cpu_stats"]["online_cpus"] > 0
    box.kill()
    assert box.wait()["StatusCode"] == 137
    assert status() == "exited"


# Output that comes with the answer's head must not be lost, however fast.
@pytest.mark.parametrize("attempt", range(20))
def test_an_exec_says_all(box, attempt):
    assert box.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True) == (4, (b"out\n", b"err\n"))
    assert box.exec_run(["echo", "hello"]).output == b"hello\n"


def test_an_exec_has_its_own_settings(client, box):
    result = box.exec_run("sh -c 'id -u; pwd; echo $A'", user="1000", workdir="/tmp", environment={"A": "b"})
    assert result.output == b"1000\n/tmp\nb\n"
    exec_id = client.api.exec_create(box.id, "cat", stdin=True, tty=True)["Id"]
    socket = client.api.exec_start(exec_id, tty=True, socket=True)._sock
    socket.sendall(b"hi\n")
    assert socket.recv(4) == b"hi\r\n"
    # The keys that leave it alone.
    socket.sendall(b"\x10\x11")
    rest = b""
    while piece := socket.recv(1024):
        rest += piece
    assert b"read escape sequence" in rest
    assert client.api.exec_inspect(exec_id)["Running"]


def test_an_exec_is_left_by_keys_of_ones_own(client, box):
    exec_id = client.api.exec_create(box.id, "cat", stdin=True, tty=True, detach_keys="ctrl-x")["Id"]
    socket = client.api.exec_start(exec_id, tty=True, socket=True)._sock
    socket.sendall(b"\x18")
    rest = b""
    while piece := socket.recv(1024):
        rest += piece
    assert b"read escape sequence" in rest


def test_streams_are_attached_and_logged(client):
    script = "echo one; echo two >&2; read line; echo got $line"
    container = client.containers.create("busybox", ["sh", "-c", script], stdin_open=True, network_mode="none")
    socket = client.api.attach_socket(container.id, params={"stdin": 1, "stream": 1})
    container.start()
    socket._sock.sendall(b"this\n")
    assert container.wait()["StatusCode"] == 0
    assert container.logs(stderr=False) == b"one\ngot this\n"
    assert container.attach(logs=True, stream=False, stdout=False, stderr=True) == b"two\n"
    assert list(container.logs(stream=True, follow=True, stderr=False)) == [b"one\n", b"got this\n"]
    assert container.logs(tail=1) == b"got this\n"


def test_a_terminal_is_left_by_its_keys(client):
    container = client.containers.run(
        "busybox", ["cat"], stdin_open=True, tty=True, detach=True, network_mode="none"
    )
    socket = client.api.attach_socket(
        container.id, params={"stdin": 1, "stdout": 1, "stream": 1, "detachKeys": "ctrl-x"}
    )._sock
    socket.sendall(b"\x18")
    assert socket.recv(16) == b""
    container.reload()
    assert container.status == "running"


def test_events_are_told_in_order(client):
    since = int(time.time()) - 1
    container = client.containers.create("busybox", ["true"], name="watched", network_mode="none")
    container.start()
    container.wait()
    container.remove()
    events = client.events(decode=True, since=since, until=int(time.time()) + 1, filters={"container": "watched"})
    assert [event["Action"] for event in events] == ["create", "start", "die", "destroy"]


def test_health_is_told(client):
    check = {"test": ["CMD", "true"], "interval": 100_000_000}
    container = client.containers.run(
        "busybox", ["sleep", "1000"], detach=True, network_mode="none", healthcheck=check
    )
    for event in client.events(decode=True, since=0, filters={"container": container.id, "event": "health_status"}):
        assert event["Action"] == "health_status: healthy"
        break
    container.reload()
    assert container.health == "healthy"
