# SPDX-License-Identifier: Apache-2.0
"""EC2 in a process of its own, two instances in it, and the metadata service of the first."""

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import requests

REGION, ZONE = "eu-central-1", "eu-central-1b"
KEYS = {"aws_access_key_id": "AKIACSTEST", "aws_secret_access_key": "cstest/Secret+1"}
#: Bytes of a stand-in for each GiB that EC2 counts.
UNIT = 8 * 1024**2


class Cloud:
    """An EC2 that answers on loopback."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("ec2_server.py"), directory, str(UNIT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"},
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.client = boto3.client("ec2", region_name=REGION, endpoint_url=self.url, **KEYS)
        made = self.client.run_instances(
            ImageId="ami-12c6146b", MinCount=2, MaxCount=2, Placement={"AvailabilityZone": ZONE}
        )
        self.instance, self.other = (each["InstanceId"] for each in made["Instances"])
        #: What the instances have of themselves.
        self.disks, self.snapshots = self._disks(), self._snapshots()

    def find(self, disk_id: str, name: str) -> str:
        """Return the device that stands in for an attached disk, or ""."""
        with contextlib.suppress(FileNotFoundError):
            return os.readlink(self.directory / "devices" / disk_id)
        return ""

    def settings(self) -> dict[str, str]:
        """Return what a driver on the first instance is told, if no metadata service is there."""
        return {
            **KEYS,
            "endpoint_url": self.url,
            "instance_id": self.instance,
            "region": REGION,
            "availability_zone": ZONE,
        }

    def be_slow(self, seconds: float) -> None:
        """Let whatever is made take its time."""
        (self.directory / "slow").write_text(str(seconds))

    @contextlib.contextmanager
    def hung(self, instance: str) -> Iterator[None]:
        """Let an instance's system answer nothing for a while, so that it lets go of no disk."""
        (self.directory / "hung").write_text(instance)
        yield
        (self.directory / "hung").unlink()

    def guard(self) -> None:
        """Let nobody in any more, whatever his key."""
        requests.post(f"{self.url}/moto-api/reset-auth", data="0", timeout=30)

    def left(self) -> tuple[set[str], set[str]]:
        """Return the disks and the snapshots that there are."""
        return self._disks() - self.disks, self._snapshots() - self.snapshots

    def stop(self) -> None:
        assert self._process.stdin is not None
        for device in (self.directory / "devices").iterdir():
            subprocess.run(["losetup", "--detach", os.readlink(device)], check=False)
        self._process.stdin.close()
        self._process.wait(60)

    def _disks(self) -> set[str]:
        return {each["VolumeId"] for each in self.client.describe_volumes()["Volumes"]}

    def _snapshots(self) -> set[str]:
        return {each["SnapshotId"] for each in self.client.describe_snapshots()["Snapshots"]}


@contextlib.contextmanager
def cloud(directory: Path) -> Iterator[Cloud]:
    """Have an EC2 for a while."""
    made = Cloud(directory)
    try:
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def metadata(instance: str, *, version: int = 2) -> Iterator[str]:
    """Have an instance's metadata service, and yield its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            known = self.path == "/latest/api/token" and version == 2
            timed = "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
            self.answer(200 if known and timed else 405, "cstest-token")

        def do_GET(self) -> None:
            proven = self.headers.get("X-aws-ec2-metadata-token") == "cstest-token"
            if version == 2 and not proven:
                self.answer(401, "")
            elif self.path == "/latest/dynamic/instance-identity/document":
                self.answer(200, json.dumps(document))
            else:
                self.answer(404, "")

        def answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            pass

    document = {"instanceId": instance, "region": REGION, "availabilityZone": ZONE}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
