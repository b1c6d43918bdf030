"""A small Whitted-style ray tracer which draws straight into a caller's pixels.

Turner Whitted, "An Improved Illumination Model for Shaded Display" (1980): at each hit add the
local light, test for shadow, follow the mirror direction; supersample only where neighbouring
pixels disagree.  Reflectance and highlights: Christophe Schlick, "An Inexpensive BRDF Model for
Physically-based Rendering" and "A Fast Alternative to Phong's Specular Model" (both 1994).

All is float32, and only + - * / and sqrt touch a pixel; IEEE 754 rounds those alike everywhere, so
equal shots give equal bytes on any worker.  Without BLAS there are no hidden threads.  Vectors are
(3, n), a contiguous row per axis or colour channel; lengths in scene units, y up, colours linear.
"""

import argparse
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from workers.scenery import PATHS, Camera, Scene, scene
from workers.tiles import Tile

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.intp]


def _vector(*values: float) -> Floats:
    return np.array(values, dtype=np.float32)[:, None]


BAND = 32  # rows per pass: the temporaries of one band stay in the cache
BOUNCES = 2
FAR, FOG = np.float32(1e4), 1 / 40.0**2  # where the sky is; how fast the air hides things
TINY = np.float32(1e-4)  # flatter rays meet the floor in the fog; nearer hits are where a ray left
FAINT = 1 / 512  # a reflection that cannot move a pixel by one step is not worth a ray
CONTRAST = 0.06  # of full scale, between neighbours: beyond it a pixel gets more samples
# Four samples on a rotated grid: no two share a row or a column of the pixel.
ACROSS, DOWN = _vector(0.125, 0.375, -0.125, -0.375), _vector(0.375, -0.125, -0.375, 0.125)
EXPOSURE = np.float32(0.66)


@dataclass(frozen=True, slots=True)
class Shot:
    """One job: picture number `frame` of a loop which is `frames` pictures long."""

    frame: int
    frames: int
    scene: Scene = field(default_factory=Scene, repr=False)


class Stage(NamedTuple):
    """The camera, the spheres and the light, as they stand in one picture of n - 1 spheres."""

    size: tuple[int, int]  # height and width in pixels, of the whole picture
    camera: Floats  # (4, 3): right, up and forward, of unit length, and the place of the eye
    centre: Floats  # (3, n): the spheres, then zeros for the floor
    radius: Floats  # (n,): infinite for the floor
    albedo: Floats  # (3, n): the floor has its tiles instead
    mirror: Floats  # (n,): reflectance seen head-on
    sun: Floats  # (3, 1) and so on
    sunlight: Floats
    glow: Floats
    horizon: Floats
    zenith: Floats
    above: Floats
    below: Floats
    light_tile: Floats
    dark_tile: Floats

    @property
    def floor(self) -> int:
        """Number of the floor among things; spheres have those before it, the sky the next."""
        return self.radius.size - 1


class Rays(NamedTuple):
    """A bundle of n rays, at most one per pixel."""

    origin: Floats  # (3, n)
    direction: Floats  # (3, n), unit length
    weight: Floats  # (n,): share of the pixel's light which this ray brings
    width: Floats  # (n,): diameter of the cone of view at the origin
    spread: Floats  # (n,): growth of that diameter per unit of distance
    pixel: Ints  # (n,): column of the picture which the light goes to

    def pick(self, chosen: Ints) -> "Rays":
        """Return the m rays numbered in `chosen` (m,)."""
        return Rays._make(np.take(part, chosen, axis=-1) for part in self)


def shots(
    frames: int,
    *,
    spheres: int = 8,
    seed: int | None = None,
    camera: str | Camera = "orbit",
) -> list[Shot]:
    """List the jobs which make one loop of `frames` pictures; settings as of `scene`."""
    seen = scene(spheres=spheres, seed=seed, camera=camera)
    return [Shot(frame, frames, seen) for frame in range(frames)]


def render(job: Shot | Tile[Shot], frame: npt.NDArray[np.uint8]) -> None:
    """Render `job` into `frame`, a C-contiguous (height, width, 3) uint8 array.

    Of a Tile it is those rows of the picture, with the bytes that the whole one has there.
    """
    _check(frame)
    tile = job if isinstance(job, Tile) else Tile(job, 0, frame.shape[0], frame.shape[0])
    shot, top, height = tile.shot, tile.top, tile.height
    stage = _stage(shot.scene, shot.frame % shot.frames / shot.frames, (height, frame.shape[1]))
    for row in range(0, frame.shape[0], BAND):
        _draw(stage, frame[row : row + BAND], top + row)


def _check(frame: npt.NDArray[Any]) -> None:
    """Raise ValueError unless `frame` can be drawn into without a copy."""
    flags = frame.flags
    sound = frame.shape[2:] == (3,) and frame.size and frame.dtype == np.uint8
    if not (sound and flags.c_contiguous and flags.writeable):
        msg = (
            "frame must be a writable C-contiguous (height, width, 3) uint8 array without a zero "
            f"side, got shape={frame.shape} dtype={frame.dtype} c_contiguous={flags.c_contiguous} "
            f"writeable={flags.writeable}; pass np.empty((height, width, 3), np.uint8) or a slot"
        )
        raise ValueError(msg)


def _stage(scene: Scene, phase: float, size: tuple[int, int]) -> Stage:
    """Set the scene for `phase` in [0, 1); all moves are whole turns, so the loop has no seam."""
    turn, sun, sky, floor = math.tau * phase, scene.sun, scene.sky, scene.floor
    rows = [*(ball.at(turn) for ball in scene.balls), (0, 0, 0, math.inf)]
    table = np.array(rows, dtype=np.float32).T
    camera = _camera(*scene.camera.at(turn), scene.camera.target)
    albedo = np.array([*(ball.colour for ball in scene.balls), (0, 0, 0)], dtype=np.float32).T
    mirror = _vector(*(ball.mirror for ball in scene.balls), floor.mirror)[:, 0]
    light = (sun.towards, sun.light, sun.glow, sky.horizon, sky.zenith, sky.above, sky.below)
    tones = [_vector(*colour) for colour in (*light, floor.light, floor.dark)]
    return Stage(size, camera, table[:3], table[3], albedo, mirror, *tones)


def _camera(x: float, y: float, z: float, target: float) -> Floats:
    """Return right, up, forward and place (4, 3) of a camera there, turned to the axis."""
    far, flat, drop = math.hypot(x, y - target, z), math.hypot(x, z), target - y
    right, forward = (z / flat, 0, -x / flat), (-x / far, drop / far, -z / far)
    up = (x * drop / (far * flat), flat / far, z * drop / (far * flat))
    return np.array([right, up, forward, (x, y, z)], dtype=np.float32)


def _draw(stage: Stage, band: npt.NDArray[np.uint8], top: int) -> None:
    """Render into `band`, the rows of the frame from `top` on."""
    # A row more on either side lets edges be found across bands, so that no seam shows.
    y, x = np.indices((band.shape[0] + 2, band.shape[1]), dtype=np.float32)
    y += top - 1
    picture = np.sqrt(_look(stage, x.ravel(), y.ravel())).reshape(3, *x.shape)
    edges = _edges(picture)
    edges[[0, -1]] = False  # those rows belong to other bands
    light = _look(stage, (x[edges] + ACROSS).ravel(), (y[edges] + DOWN).ravel())
    picture[:, edges] = np.sqrt(light.reshape(3, 4, -1).sum(axis=1) / 4)
    np.clip(picture + 0.5 / 255, 0, 1, out=picture)  # the cast cuts off; half a step makes it round
    np.multiply(picture[:, 1:-1].transpose(1, 2, 0), 255, out=band, casting="unsafe")


def _edges(picture: Floats) -> npt.NDArray[np.bool_]:
    """Mark the pixels of `picture` (3, rows, width) which are unlike a neighbour, (rows, width)."""
    found = np.zeros(picture.shape[1:], dtype=np.bool_)
    for axis in (1, 2):  # rolling also compares opposite borders, which costs some samples at most
        jumps = np.abs(picture - np.roll(picture, 1, axis)).max(axis=0) > CONTRAST
        found |= jumps | np.roll(jumps, -1, axis - 1)
    return found


def _look(stage: Stage, x: Floats, y: Floats) -> Floats:
    """Return the light (3, n), in [0, 1], seen at `x` and `y` (n,), in pixels."""
    height, width = stage.size
    pixel, (right, up, forward, eye) = 0.64 / min(stage.size), stage.camera[:, :, None]
    direction = right * ((x + (0.5 - width / 2)) * pixel) + forward
    direction += up * ((height / 2 - 0.5 - y) * pixel)
    direction /= np.sqrt(_dot(direction, direction))
    origin, cone = np.broadcast_to(eye, direction.shape), np.full_like(x, pixel)
    rays = Rays(origin, direction, np.ones_like(x), np.zeros_like(x), cone, np.arange(x.size))
    light: Floats = np.zeros_like(direction)
    for _ in range(BOUNCES + 1):
        rays = _bounce(stage, rays, light)
    # The tree of rays ends here; the open sky is the best guess at what lies beyond.
    _add(light, rays.pixel, _sky(stage, rays.direction) * rays.weight)
    # Krzysztof Narkowicz's fit of the ACES film curve (2016) rolls highlights off.
    light *= EXPOSURE
    light *= (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    return np.clip(light, 0, 1, out=light)


def _bounce(stage: Stage, rays: Rays, light: Floats) -> Rays:
    """Add to `light` (3, pixels) what `rays` meet first; return the rays reflected there."""
    distance, thing = _nearest(stage, rays)
    clear = 1.0 / (1 + distance * distance * FOG)
    _add(light, rays.pixel, _sky(stage, rays.direction) * (rays.weight * (1 - clear)))
    rays, solid = rays._replace(weight=rays.weight * clear), np.flatnonzero(thing <= stage.floor)
    distance, thing = distance[solid], thing[solid]
    rays, normal, share = _meet(stage, rays.pick(solid), distance, thing)
    _add(light, rays.pixel, _local(stage, rays, thing, normal, share) * rays.weight)
    rays = rays._replace(weight=rays.weight * share)
    return rays.pick(np.flatnonzero(rays.weight > FAINT))


def _add(light: Floats, pixel: Ints, more: Floats) -> None:
    """Add `more` (3, n) to the columns `pixel` (n,) of `light`; by rows, which is much faster."""
    for channel, part in zip(light, more, strict=True):
        channel[pixel] += part


def _nearest(stage: Stage, rays: Rays) -> tuple[Floats, Ints]:
    """Return the distance (n,) to the first thing each ray meets, and its number (n,)."""
    fall = -rays.direction[1]
    distance = np.where(fall > TINY, rays.origin[1] / np.maximum(fall, TINY), FAR)
    thing = np.where(fall > TINY, np.intp(stage.floor), np.intp(stage.floor + 1))
    for ball in range(stage.floor):
        offset = stage.centre[:, ball, None] - rays.origin
        along = _dot(offset, rays.direction)
        inside = along * along - (_dot(offset, offset) - stage.radius[ball] * stage.radius[ball])
        # No ray starts inside a sphere, so one whose centre lies behind is never met.
        near = np.flatnonzero((inside > 0) & (along > 0))
        reach = along[near] - np.sqrt(inside[near])
        closer = (reach < distance[near]) & (reach > TINY)
        distance[near[closer]], thing[near[closer]] = reach[closer], ball
    return distance, thing


def _meet(stage: Stage, rays: Rays, distance: Floats, thing: Ints) -> tuple[Rays, Floats, Floats]:
    """Return the reflections of `rays` at `thing` (n,), the normals (3, n), the share (n,)."""
    point, curve = rays.origin + rays.direction * distance, 1.0 / stage.radius[thing]
    normal = (point - np.take(stage.centre, thing, axis=1)) * curve
    normal[1] += thing == stage.floor
    facing = np.clip(_dot(rays.direction, normal), -1, 0)
    mirrored = rays.direction - normal * (2 * facing)
    # The cone of view (Amanatides, "Ray Tracing with Cones", 1984) opens at a curved mirror.
    width = rays.width + rays.spread * distance
    spread = rays.spread + width * (2 * curve)
    upright, slant = stage.mirror[thing], 1 + facing
    share = upright + np.square(np.square(slant)) * slant * (1 - upright)
    return Rays(point, mirrored, rays.weight, width, spread, rays.pixel), normal, share


def _local(stage: Stage, rays: Rays, thing: Ints, normal: Floats, share: Floats) -> Floats:
    """Return the light (3, n) of the surfaces themselves: Lambert's, and a highlight."""
    lit, view = _surroundings(stage, rays.origin, normal)
    around = stage.below + (stage.above - stage.below) * (0.5 + 0.5 * normal[1])
    sun = stage.sunlight * (np.maximum(_dot(stage.sun, normal), 0) * lit)
    light: Floats = _albedo(stage, rays, thing) * ((around * view + sun) * (1 - share))
    light += stage.sunlight * (
        _lobe(_dot(stage.sun, rays.direction), 60) * lit * (thing != stage.floor)
    )
    return light


def _albedo(stage: Stage, rays: Rays, thing: Ints) -> Floats:
    """Return the colour (3, n) of the surfaces; the floor's unit tiles blur to grey far away."""
    colour, floor = np.take(stage.albedo, thing, axis=1), np.flatnonzero(thing == stage.floor)
    # A ray that meets the floor at a slant sees it stretched, hence the division.
    blur = rays.width[floor] / np.maximum(rays.direction[1, floor], 0.02) + TINY
    half = rays.origin[::2, floor] * 0.5
    edge = 1 - 4 * np.abs(half - np.floor(half) - 0.5)  # +-1 mid-tile, 0 at an edge
    x, z = np.clip(edge / blur, -1, 1)
    colour[:, floor] = stage.dark_tile + (stage.light_tile - stage.dark_tile) * (0.5 + 0.5 * x * z)
    return colour


def _surroundings(stage: Stage, point: Floats, normal: Floats) -> tuple[Floats, Floats]:
    """Return the share of the sun, 0 or 1, and of the sky (n,) in view from `point` (3, n)."""
    lit, hidden = np.ones_like(point[0]), np.zeros_like(point[0])
    for ball in range(stage.floor):
        square_radius = stage.radius[ball] * stage.radius[ball]
        offset = stage.centre[:, ball, None] - point
        square, ahead = _dot(offset, offset), _dot(offset, stage.sun)
        # A sphere whose centre is behind casts no shadow, which spares its own lit side.
        lit *= (ahead < 0) | (square - ahead * ahead > square_radius)
        facing = np.maximum(_dot(offset, normal), 0)
        hidden += facing * square_radius / (square * np.sqrt(square))  # Quilez's sphere occlusion
    return lit, 1 - np.minimum(hidden, 1)


def _sky(stage: Stage, direction: Floats) -> Floats:
    """Return the light (3, n) of the sky in `direction` (3, n); below the horizon, of the fog."""
    low, sun = np.square(1 - np.clip(direction[1], 0, 0.99)), _dot(stage.sun, direction)
    light: Floats = stage.zenith + (stage.horizon - stage.zenith) * np.square(np.square(low))
    light += stage.glow * (0.5 * _lobe(sun, 10) + 4 * _lobe(sun, 900))
    return light


def _lobe(cosine: Floats, sharpness: float) -> Floats:
    """Return a highlight (n,), 1 at the centre: the square of Schlick's stand-in for a power."""
    near = np.clip(cosine, 0, 1)
    return np.square(near / (sharpness - near * (sharpness - 1)))


def _dot(a: Floats, b: Floats) -> Floats:
    """Return the dot products (n,) of vectors (3, n)."""
    product: Floats = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


def main() -> None:
    """Write one picture to a file."""
    from workers.stills import save  # noqa: PLC0415 - only this command needs Pillow

    parser = argparse.ArgumentParser(prog="python -m workers.whitted", description=main.__doc__)
    parser.add_argument("--frame", type=int, default=0, help="which picture of the loop")
    parser.add_argument("--frames", type=int, default=240, help="length of the loop")
    parser.add_argument("--size", default="480x270", help="width x height in pixels")
    parser.add_argument("--spheres", type=int, default=8, help="around the mirror")
    parser.add_argument("--seed", type=int, help="scatter them by chance instead of in a ring")
    parser.add_argument("--camera", choices=PATHS, default="orbit")
    parser.add_argument("out", help="the file to write, such as out.png")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    seen = scene(spheres=options.spheres, seed=options.seed, camera=options.camera)
    render(Shot(options.frame, options.frames, seen), pixels)
    save(options.out, pixels)


if __name__ == "__main__":
    main()
