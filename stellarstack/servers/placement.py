"""Where a server's container goes: its image is there, its place on the host is told."""

from __future__ import annotations

from stellarstack.core.container_spec import Placement
from stellarstack.errors import ImageNotFound
from stellarstack.interfaces import PullProgress
from stellarstack.servers.server import Server


def placement_of(server: Server, install_path: str = "") -> Placement:
    """The facts of this host that a container's body needs. `install_path`: the folder of its install script."""
    around, docker = server.around, server.around.docker
    return Placement(
        node_id=around.node_id,
        container_name=server.container_name,
        uid=server.user[0],
        gid=server.user[1],
        root_path=str(server.root),
        network=around.bridges.name_of(server),
        aliases=around.bridges.aliases(server),
        installation=around.ownership.installation,
        install_path=install_path,
        read_only_root=docker.read_only_root,
        tmpfs_mb=docker.tmpfs_size,
        log_size_mb=docker.log_size,
        seccomp=around.seccomp,
        memory_overhead=None if docker.memory_margin == "steps" else 0.0,
    )


async def ensure_image(image: str, server: Server, *, anew: bool = False) -> None:
    """Has the image here, pulling it as `[docker] pull_policy` says. ImageNotFound, ImagePullFailed.

    `anew`: it is for an install, so that "always" asks for a newer one; a start takes what is here.
    """
    around, policy = server.around, server.around.docker.pull_policy
    await around.images.settled(image)
    here = await around.engine.has_image(image)
    if here and not (anew and policy == "always"):
        return
    if policy == "never":
        raise ImageNotFound(f'image {image} is not on this node and [docker] pull_policy is "never"')

    def progress(pulled: PullProgress) -> None:
        server.progress("pulling_image", pulled.percent)

    server.progress("pulling_image")
    await around.engine.pull(image, None, progress)
    if not here:
        await around.images.fetched(image)
