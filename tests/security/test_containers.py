"""What the compose file and the Dockerfile promise: nothing open to the network, no default secret, no root."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
STAGES = re.split(r"^FROM ", (ROOT / "docker" / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
STANDING = {name for name, service in SERVICES.items() if "jobs" not in service.get("profiles", [])}
SECRETS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert not {"privileged", "network_mode", "pid", "cap_add", "devices"} & set(service)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    environment = service.get("environment", {})
    assert all(environment[secret] is None for secret in SECRETS & set(environment)), "comes from outside or not at all"


def test_standing_services_say_how_they_are() -> None:
    assert {"spark-master", "spark-worker-1", "spark-worker-2", "ray-head", "ray-worker-1", "ray-worker-2"} < STANDING
    for name in STANDING:
        assert SERVICES[name]["healthcheck"]["test"] == ["CMD", "healthy"]
        assert SERVICES[name]["environment"]["HEALTH_URLS"]
        assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_runs_as_nobody_special(name: str) -> None:
    (build,) = (s["build"] for s in SERVICES.values() if s["image"] == SERVICES[name]["image"] and "build" in s)
    target = build["target"]
    assert SERVICES[name]["image"] == f"m2m-{target}"
    (stage,) = (stage for stage in STAGES if stage.split()[2] == target)
    assert re.findall(r"^USER (\w+)", stage, re.MULTILINE)[-1] == "m2m"


def test_ray_has_shared_memory_and_its_store_fits() -> None:
    for name in ("ray-head", "ray-worker-1", "ray-worker-2"):
        assert SERVICES[name]["shm_size"] == "${RAY_SHM_SIZE:-1g}"


def test_python_packages_are_installed_with_constraints() -> None:
    installs = [line for stage in STAGES for line in re.findall(r"pip (?:install|wheel) .*", stage)]
    assert installs
    for line in installs:
        assert "-c /requirements/constraints.txt" in line or "--no-deps" in line


def test_every_file_that_an_image_copies_is_sent_to_its_build() -> None:
    copied = re.findall(r"^COPY --chmod=755 (\S+)", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert len(copied) >= 3
    assert {f"!{name}" for name in copied} <= set(sent)
