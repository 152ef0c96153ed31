"""Write every room's Dockerfile from the one recipe: `python -m scripts.dockerfiles`."""

from dataclasses import dataclass
from pathlib import Path

import typer

RECIPE = Path("infra/room.Dockerfile")
IGNORE = "tests\nDockerfile\n.dockerignore\n**/__pycache__\n*.egg-info\n"


@dataclass(frozen=True)
class Room:
    """What differs between the images of rooms."""

    folder: str
    prefix: str
    port: int
    health: str = "health/ready"
    libraries: tuple[str, ...] = ()
    """Debian packages that a Python library of the room needs at run time."""

    @property
    def package(self) -> str:
        """The import name."""
        return self.folder.replace("-", "_")


ROOMS = (
    # The gateway is ready when all rooms are; its container is healthy when it serves.
    Room("api-gateway", "GATEWAY_", 8000, "health"),
    Room("user-service", "USER_", 8001),
    Room("portfolio-service", "PORTFOLIO_", 8002),
    Room("smallcase-service", "SMALLCASE_", 8003),
    Room("trade-executor", "EXECUTOR_", 8004),
    Room("notification-service", "NOTIFICATION_", 8005),
    # PDFs are set by Pango.
    Room(
        "analytics-service",
        "ANALYTICS_",
        8006,
        libraries=("libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0", "fonts-dejavu-core"),
    ),
    Room("market-data-service", "MARKET_DATA_", 8007),
    Room("kite-simulator", "KITE_SIM_", 9010, "simulator/health"),
)


def dockerfile(recipe: str, room: Room) -> str:
    """The recipe with one room's facts."""
    facts = {"ROOM": room.folder, "PACKAGE": room.package, "PREFIX": room.prefix, "PORT": str(room.port)}
    for name, value in {**facts, "HEALTH": room.health}.items():
        recipe = recipe.replace(f"@{name}@", value)
    install = (
        "RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends "
        f"{' '.join(room.libraries)} \\\n    && rm -rf /var/lib/apt/lists/*\n"
    )
    recipe = recipe.replace("@LIBRARIES@\n", install if room.libraries else "")
    head, _, body = recipe.partition("\nARG ")
    del head  # it speaks of the recipe
    return (
        f"# From infra/room.Dockerfile by `python -m scripts.dockerfiles`. In this folder, after saras-common was made:\n"
        f"#   docker build -t {room.folder}:latest .\nARG {body}"
    )


def main() -> None:
    """Write the files."""
    recipe = RECIPE.read_text()
    for room in ROOMS:
        Path(room.folder, "Dockerfile").write_text(dockerfile(recipe, room))
        Path(room.folder, ".dockerignore").write_text(IGNORE)


if __name__ == "__main__":
    typer.run(main)
