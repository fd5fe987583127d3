"""The images of real game servers, made by `build-images` beside this file without a registry."""

from __future__ import annotations

import subprocess
from pathlib import Path

MINECRAFT = "stellarstack-test/minecraft:latest"
OPENTTD = "stellarstack-test/openttd:latest"
MINETEST = "stellarstack-test/minetest:latest"
BUILD_TIMEOUT = 600.0  # seconds; it takes about one minute


def ensure_game_images() -> None:
    """Builds those that are not there, or that an older recipe made. RuntimeError tells what the script said."""
    script = Path(__file__).with_name("build-images")
    done = subprocess.run([script], capture_output=True, text=True, timeout=BUILD_TIMEOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{script.name} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")


class LocalName:
    """Gives a local image another name for a while: the one by which a template asks for it.

    `close` takes the name away, or gives it back to the image that had it before.
    """

    def __init__(self, image: str, name: str) -> None:
        self._name = name
        self._before = _docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip()
        tagged = _docker("tag", image, name)
        if tagged.returncode != 0:
            raise RuntimeError(f"docker tag {image} {name}: {tagged.stderr.strip()}")

    def close(self) -> None:
        if self._before:
            _docker("tag", self._before, self._name)
        else:
            _docker("rmi", self._name)


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
