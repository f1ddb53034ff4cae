import io
import socket
import tarfile

import docker
import pytest


def test_containers_find_each_other_by_name(client, shop):
    client.containers.run("busybox", ["sleep", "1000"], name="web", detach=True, network="shop")
    address = client.containers.get("web").attrs["NetworkSettings"]["Networks"]["shop"]["IPAddress"]
    found = client.containers.run("busybox", ["nslookup", "web"], network="shop", remove=True)
    assert address.encode() in found
    alone = client.containers.run("busybox", ["sleep", "1000"], detach=True, network_mode="none")
    alone.stop(timeout=0)
    alone.remove()
    later = client.containers.create("busybox", ["nslookup", "frontend"])
    client.networks.get("bridge").disconnect(later)
    shop.connect(later, aliases=["frontend"])
    later.start()
    assert later.wait()["StatusCode"] == 0
    assert sorted(network.name for network in client.networks.list(names=["shop"])) == ["shop"]
    with pytest.raises(docker.errors.APIError) as error:
        shop.remove()
    assert error.value.status_code == 403


def test_ports_lead_into_a_container(client, shop):
    serve = "while :; do echo served | nc -l -p 8080; done"
    container = client.containers.run(
        "busybox", ["sh", "-c", serve], detach=True, network="shop", ports={"8080/tcp": ("127.0.0.1", None)}
    )
    container.reload()
    [binding] = container.ports["8080/tcp"]
    said = b""
    while said != b"served\n":
        # It may not listen yet, or be about to listen again.
        try:
            with socket.create_connection((binding["HostIp"], int(binding["HostPort"])), timeout=5) as stream:
                said = stream.recv(16)
        except ConnectionError:
            pass


def test_volumes_keep_what_is_written(client):
    volume = client.volumes.create("kept", labels={"tier": "data"})
    assert [found.name for found in client.volumes.list(filters={"label": "tier=data"})] == ["kept"]
    mount = {"kept": {"bind": "/data", "mode": "rw"}}
    client.containers.run("busybox", "sh -c 'echo yes > /data/file'", volumes=mount, network_mode="none", remove=True)
    read = client.containers.run("busybox", "cat /data/file", volumes=mount, network_mode="none")
    assert read == b"yes\n"
    with pytest.raises(docker.errors.APIError) as error:
        volume.remove()
    assert error.value.status_code == 409


def test_files_go_in_and_come_out(box):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    assert box.put_archive("/tmp", archive.getvalue())
    assert box.exec_run("cat /tmp/file").output == b"hello"
    chunks, stat = box.get_archive("/tmp/file")
    assert stat["name"] == "file" and stat["size"] == 5
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        assert tar.extractfile("file").read() == b"hello"
    assert {"Path": "/tmp/file", "Kind": 1} in box.diff()


def test_images_are_built_committed_saved_and_loaded(client, box):
    dockerfile = b"FROM busybox\nLABEL made=here\nRUN echo built > /built\nCMD cat /built\n"
    image, log = client.images.build(fileobj=io.BytesIO(dockerfile), tag="built:1", rm=True)
    assert any("Successfully built" in line.get("stream", "") for line in log)
    assert client.containers.run("built:1", network_mode="none", remove=True) == b"built\n"
    with pytest.raises(docker.errors.BuildError):
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 7\n"))
    image.tag("other", "2")
    image.reload()
    saved = b"".join(image.save(named="other:2"))
    client.images.remove("other:2")
    [loaded] = client.images.load(saved)
    assert loaded.tags == ["built:1", "other:2"] and loaded.id == image.id
    with pytest.raises(docker.errors.ImageLoadError):
        client.images.load(b"this is no archive")
    box.exec_run("touch /made")
    made = box.commit("made", "1")
    assert client.containers.run(made, ["ls", "/made"], network_mode="none") == b"/made\n"
    for name in ["built:1", "other:2", "made:1"]:
        client.images.remove(name, force=True)


def test_the_daemon_tells_of_itself(client):
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.51"
    assert client.info()["Driver"] == "overlay2"
    assert client.df()["Images"]
