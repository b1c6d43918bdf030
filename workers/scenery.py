"""What there is to see, as data: balls and their orbits, sun, sky, floor, the path of the camera.

Lengths are in scene units, y is up, colours are linear.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TypeAlias

Vector: TypeAlias = tuple[float, float, float]

PATHS = ("orbit", "dolly", "static")  # of the camera


@dataclass(frozen=True, slots=True)
class Ball:
    """A sphere, and how it moves: round the middle of the floor, and up and down.

    Angles are in radians, speeds in whole turns of the loop, so that it has no seam.
    """

    radius: float
    colour: Vector = (0.0, 0.0, 0.0)
    mirror: float = 0.08  # reflectance seen head-on
    orbit: float = 0.0  # distance from the middle
    place: float = 0.0  # angle at which it starts
    turns: int = 1  # rounds in a loop, negative for the other way
    bounce: float = 0.0  # half of how far it rises from the floor
    sway: float = 0.0  # where in its rise it starts
    bounces: int = 2  # rises in a loop

    def at(self, turn: float) -> tuple[float, float, float, float]:
        """Return x, y, z and radius at `turn`, the angle that stands for the time in the loop."""
        angle = self.place + self.turns * turn
        lift = self.radius + self.bounce * (1 + math.sin(self.bounces * turn + self.sway))
        return self.orbit * math.cos(angle), lift, self.orbit * math.sin(angle), self.radius


@dataclass(frozen=True, slots=True)
class Sun:
    """Where the light comes from, and how much."""

    towards: Vector = (0.528, 0.475, 0.704)  # unit length
    light: Vector = (2.1, 1.72, 1.26)
    glow: Vector = (1.0, 0.62, 0.28)  # in the sky around it


@dataclass(frozen=True, slots=True)
class Sky:
    """The light from everywhere else."""

    horizon: Vector = (0.80, 0.87, 0.98)
    zenith: Vector = (0.03, 0.16, 0.62)
    above: Vector = (0.14, 0.22, 0.38)  # what falls on things from above
    below: Vector = (0.18, 0.14, 0.11)  # and from below


@dataclass(frozen=True, slots=True)
class Floor:
    """A chequered floor of unit tiles, for ever."""

    light: Vector = (0.78, 0.73, 0.64)
    dark: Vector = (0.02, 0.025, 0.045)
    mirror: float = 0.07


@dataclass(frozen=True, slots=True)
class Camera:
    """A path which looks at the axis of the scene; in a loop it comes back to where it began.

    path: "orbit" goes round once, rising and sinking; "dolly" goes up to the scene and back;
    "static" stays.
    """

    path: str = "orbit"
    distance: float = 8.4
    height: float = 2.7
    target: float = 1.3  # height of what it looks at
    start: float = 0.2  # angle, in radians
    reach: float = 3.2  # how far a dolly goes

    def __post_init__(self) -> None:
        """Raise ValueError for a path that is none."""
        if self.path not in PATHS:
            raise ValueError(f"camera {self.path!r}: one of {', '.join(PATHS)}")

    def at(self, turn: float) -> tuple[float, float, float]:
        """Return x, y, z of the eye at `turn`."""
        angle, away, height = self.start, self.distance, self.height
        if self.path == "orbit":
            angle, height = turn + self.start, self.height + 0.7 * math.sin(turn)
        elif self.path == "dolly":
            away -= self.reach * (0.5 - 0.5 * math.cos(turn))
        return away * math.sin(angle), height, away * math.cos(angle)


_COLOURS = (
    (0.80, 0.03, 0.03), (0.90, 0.22, 0.02), (0.88, 0.60, 0.03), (0.18, 0.58, 0.04),
    (0.02, 0.50, 0.40), (0.03, 0.18, 0.85), (0.26, 0.05, 0.70), (0.80, 0.04, 0.34),
)  # fmt: skip
_MIRROR_BALL = Ball(1.5, mirror=0.82)


def _ring(count: int) -> tuple[Ball, ...]:
    """Balls on one circle, in the colours of the rainbow."""
    places = [math.tau * i / count for i in range(count)]
    return tuple(
        Ball(
            0.46 + 0.07 * math.cos(4 * place), _COLOURS[i % len(_COLOURS)],
            orbit=2.75, place=place, bounce=0.42, sway=3 * place,
        )
        for i, place in enumerate(places)
    )  # fmt: skip


def _scattered(count: int, seed: int) -> tuple[Ball, ...]:
    """Balls on circles around the mirror, each with colour, size and speed by chance."""
    chance = random.Random(seed)
    balls = []
    for i in range(count):
        lane, place = divmod(i, 6)
        balls.append(
            Ball(
                chance.uniform(0.22, 0.44), _COLOURS[chance.randrange(len(_COLOURS))],
                mirror=chance.choice((0.04, 0.08, 0.08, 0.3)), orbit=2.3 + 0.9 * lane,
                place=math.tau * (place + chance.uniform(-0.2, 0.2)) / 6, turns=1 - 2 * (lane % 2),
                bounce=chance.uniform(0, 0.6), sway=chance.uniform(0, math.tau),
            )
        )  # fmt: skip
    return tuple(balls)


@dataclass(frozen=True)
class Scene:
    """All there is to see. By default a mirror with eight balls around it, on a sunny day."""

    balls: tuple[Ball, ...] = (_MIRROR_BALL, *_ring(8))
    sun: Sun = field(default_factory=Sun)
    sky: Sky = field(default_factory=Sky)
    floor: Floor = field(default_factory=Floor)
    camera: Camera = field(default_factory=Camera)


def scene(*, spheres: int = 8, seed: int | None = None, camera: str | Camera = "orbit") -> Scene:
    """Describe a mirror with `spheres` around it: in a ring, or as the `seed` has it."""
    if spheres < 0:
        raise ValueError(f"spheres={spheres}: 0 or more")
    around = _ring(spheres) if seed is None else _scattered(spheres, seed)
    path = Camera(camera) if isinstance(camera, str) else camera
    return Scene((_MIRROR_BALL, *around), camera=path)
