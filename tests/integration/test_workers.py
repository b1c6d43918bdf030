"""The programs in workers/: what they draw, what they write, and how they fail."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import zarr
from PIL import Image

import shmpool
from shmpool import ArraySpec, Farm, Pool
from workers import arrays, blender, crasher, film, ingest, julia, mitsuba, stills, whitted
from workers.consumer import Consumer
from workers.fan import Fan, OutputLostError
from workers.tiles import Tile, gathered, tile_spec, tiled
from workers.video import CODECS, Encoder, Film

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH = 36, 64
SPEC = ArraySpec((HEIGHT, WIDTH, 3), np.uint8)
SIZE = SPEC.nbytes
Picture = np.ndarray[Any, Any]
SHOTS = julia.shots(6)


def drawn(render: Callable[[Any, Any], object], job: Any, *, height: int = HEIGHT) -> Picture:
    """A picture drawn here, without a pool."""
    frame = np.empty((height, WIDTH, 3), np.uint8)
    render(job, frame)
    return frame


def decode(path: Path) -> list[Picture]:
    return list(map(np.copy, ingest.decoded(str(path))))


def load(path: Path) -> Picture:
    with Image.open(path) as image:
        return np.array(image)


def apart(one: Picture, other: Picture) -> float:
    """Mean difference of two pictures, in steps of 255."""
    return float(np.abs(one.astype(int) - other).mean())


def assert_shows(shown: list[Picture], rendered: list[Picture]) -> None:
    """Every frame that was decoded is most like the one that it was made of."""
    assert len(shown) == len(rendered)
    for number, picture in enumerate(shown):
        nearest = min(range(len(rendered)), key=lambda n: apart(picture, rendered[n]))
        assert nearest == number


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Eight frames, and a queue."""
    with Pool.create(8, SIZE, queues=("frames",)) as pool:
        yield pool
        while pool.statistics().free < 8:  # what an output's traceback has held comes back
            os.sched_yield()
        pool.audit()


def put_all(pool: Pool, write: Callable[[shmpool.Lease], None]) -> list[Picture]:
    """Write every shot, by way of a slot; what they are."""
    pictures = [drawn(julia.render, shot) for shot in SHOTS]
    for picture in pictures:
        lease = pool.acquire()
        lease.array(SPEC.shape, np.uint8)[...] = picture
        write(lease)
    return pictures


# Renderers.


@pytest.mark.parametrize(("frame", "crc"), [(0, 0x6076AE37), (5, 0xAEA8A6EF)])
def test_the_default_scene_is_drawn_as_ever(frame: int, crc: int) -> None:
    """Its bytes are those of the first version: + - * / and sqrt round alike everywhere."""
    assert zlib.crc32(drawn(whitted.render, whitted.shots(12)[frame])) == crc
    assert whitted.shots(12)[frame] == whitted.Shot(frame, 12)


@pytest.mark.parametrize("rows", [1, 7, 36])
@pytest.mark.parametrize("settings", [{}, {"spheres": 14, "seed": 3, "camera": "dolly"}])
def test_tiles_of_a_traced_picture_have_its_bytes(rows: int, settings: dict[str, Any]) -> None:
    """Whatever their height: no seam, and no tile that depends on another."""
    shot = whitted.shots(8, **settings)[3]
    tiles = tiled([shot], HEIGHT, rows)
    parts = [drawn(whitted.render, tile, height=tile.rows) for tile in tiles]
    assert (np.concatenate(parts) == drawn(whitted.render, shot)).all()


def test_a_big_frame_is_drawn_by_several_workers() -> None:
    """Tiles of several frames, put together in slots of another pool, in order."""
    shots = whitted.shots(3)
    farm = Farm(whitted.render, tile_spec(WIDTH), frame_size=16 * WIDTH * 3, workers=2)
    with Pool.create(2, SIZE) as frames, farm:
        found = []
        for lease in gathered(farm.map(tiled(shots, HEIGHT, 16)), frames):
            with lease:
                found.append(lease.array().copy())
    assert len(found) == 3
    for shot, frame in zip(shots, found, strict=True):
        assert (frame == drawn(whitted.render, shot)).all()


def test_scenes_differ_by_their_settings_and_by_nothing_else() -> None:
    """Each setting changes the picture; the same ones draw it again."""
    settings: list[dict[str, Any]] = [
        {},
        {"spheres": 3},
        {"seed": 1},
        {"seed": 2},
        {"camera": "dolly"},
        {"camera": "static"},
        {"camera": whitted.Camera(height=5.0)},
    ]
    pictures = [drawn(whitted.render, whitted.shots(8, **given)[3]) for given in settings]
    for one, other in itertools.combinations(pictures, 2):
        assert apart(one, other) > 1
    again = drawn(whitted.render, whitted.shots(8, seed=1)[3])
    assert (again == pictures[2]).all()


@pytest.mark.parametrize("camera", whitted.PATHS)
def test_a_loop_has_no_seam(camera: str) -> None:
    """The picture after the last is the first."""
    shots = whitted.shots(4, camera=camera)
    beyond = whitted.Shot(4, 4, shots[0].scene)
    assert (drawn(whitted.render, beyond) == drawn(whitted.render, shots[0])).all()


def test_settings_that_make_no_scene_are_told() -> None:
    """With what is possible."""
    with pytest.raises(ValueError, match="orbit, dolly, static"):
        whitted.shots(2, camera="handheld")
    with pytest.raises(ValueError, match="0 or more"):
        whitted.shots(2, spheres=-1)


def test_a_julia_set_is_drawn_alike_by_a_farm_and_by_hand() -> None:
    """Six different pictures, none of one colour."""
    with Farm(julia.render, SPEC, workers=2) as farm:
        found = [result.array.copy() for result in farm.map(SHOTS)]
    for shot, frame in zip(SHOTS, found, strict=True):
        assert (frame == drawn(julia.render, shot)).all()
        assert frame.std() > 10
    for one, other in itertools.combinations(found, 2):
        assert apart(one, other) > 1


def test_mitsuba_renders_the_cornell_box_into_slots() -> None:
    """Red on the left, green on the right, the lamp above; tiles have the bytes of the whole."""
    shots = mitsuba.shots(2, spp=4, variant="scalar_rgb")
    with Farm(mitsuba.render, ArraySpec((64, 64, 3), np.uint8), workers=1) as farm:
        whole = [result.array.copy() for result in farm.map(shots)]
    spec = {"frame": tile_spec(64), "frame_size": 32 * 64 * 3}
    with Farm(mitsuba.render, workers=1, **spec) as farm:
        tiles = [result.array.copy() for result in farm.map(tiled(shots, 64, 32))]
    assert (np.concatenate(tiles) == np.concatenate(whole)).all()
    red, green = (whole[0][16:48, columns].mean((0, 1)) for columns in (slice(2, 8), slice(56, 62)))
    assert red[0] > 2 * red[1]
    assert green[1] > 1.3 * green[0]
    assert whole[0][8, 29:35].min() > 250
    assert apart(*whole) > 1


SCENE = """
<scene version="3.0.0">
    <integrator type="path"/>
    <sensor type="perspective">
        <transform name="to_world"><lookat origin="0,-6,0" target="0,0,0" up="0,0,1"/></transform>
        <film type="hdrfilm"><integer name="width" value="8"/><integer name="height" value="8"/>
            <rfilter type="box"/></film>
    </sensor>
    <shape type="sphere"><emitter type="area"><rgb name="radiance" value="1,0,0"/></emitter></shape>
</scene>
"""


def test_mitsuba_renders_a_scene_file_in_our_size(tmp_path: Path) -> None:
    """A red sphere before nothing, as linear light where the frame is float32."""
    path = tmp_path / "scene.xml"
    path.write_text(SCENE)
    shots = mitsuba.shots(1, file=str(path), spp=4, variant="scalar_rgb")
    with Farm(mitsuba.render, ArraySpec((40, 48, 3), np.float32), workers=1) as farm:
        light = next(farm.map(shots)).array.copy()
    assert light[20, 24] == pytest.approx((1, 0, 0), abs=0.02)
    assert not light[[0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_a_tile_that_cuts_a_band_of_mitsuba_is_told() -> None:
    """Its random numbers would not be those of the whole picture."""
    shot = mitsuba.Shot(0, 1)
    with pytest.raises(ValueError, match="multiples of 32"):
        mitsuba.render(Tile(shot, 8, 16, 64), np.empty((8, 64, 3), np.uint8))


def test_the_variant_of_mitsuba_is_one_that_works_here() -> None:
    """LLVM that aborts does so in a process that is thrown away."""
    assert mitsuba.variant() in ("scalar_rgb", "llvm_ad_rgb")
    assert mitsuba.shots(1)[0].variant == mitsuba.variant()


# Films.


@pytest.mark.parametrize("codec", CODECS)
def test_a_film_of_each_kind_shows_what_was_sent(codec: str, pool: Pool, tmp_path: Path) -> None:
    """In order, at the rate that was asked for, by an encoder in its own process."""
    path = tmp_path / f"film{CODECS[codec].suffixes[0]}"
    with Encoder(pool.queue("frames"), str(path), 12, codec=codec) as encoder:
        pictures = put_all(pool, encoder.write)
    assert_shows(decode(path), pictures)
    clip = ingest.probe(str(path))
    assert (clip.width, clip.height, clip.fps, clip.frames) == (WIDTH, HEIGHT, 12, len(SHOTS))


def test_quality_and_pixel_format_are_those_that_were_asked_for(tmp_path: Path) -> None:
    """Lower is better and bigger; quantiser 0 of H.264 in full colour loses next to nothing."""
    pictures = [drawn(julia.render, shot) for shot in SHOTS]
    sizes = []
    for quality in (0, 20, 45):
        path = tmp_path / f"{quality}.mkv"
        made = Film(str(path), quality=quality, pixel_format="yuv444p")
        for number, picture in enumerate(pictures):
            made.write(number, picture)
        made.close()
        sizes.append(path.stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    with av.open(str(tmp_path / "0.mkv")) as container:
        assert container.streams.video[0].pix_fmt == "yuv444p"
    for shown, picture in zip(decode(tmp_path / "0.mkv"), pictures, strict=True):
        assert apart(shown, picture) < 2


def test_a_film_puts_frames_into_order_and_goes_on_after_a_gap(tmp_path: Path) -> None:
    """Early ones wait; one that is skipped, or never comes, is left out."""
    path = tmp_path / "film.mkv"
    pictures = [drawn(julia.render, shot) for shot in SHOTS]
    made = Film(str(path), quality=0, pixel_format="yuv444p")
    for number in (2, 0, 4):
        made.write(number, pictures[number])
    made.skip(1)
    assert made.frames == 2
    made.write(5, pictures[5])  # 3 never comes
    made.close()
    assert_shows(decode(path), [pictures[n] for n in (0, 2, 4, 5)])


def test_grey_frames_make_a_film_too(tmp_path: Path) -> None:
    """Without an axis for colours."""
    path = tmp_path / "film.mkv"
    made = Film(str(path), quality=0)
    grey = drawn(julia.render, SHOTS[1])[..., 1].copy()
    made.write(0, grey)
    made.close()
    assert apart(decode(path)[0], grey[..., None]) < 3


@pytest.mark.parametrize(
    ("path", "settings", "told"),
    [
        ("film.mp4", {"codec": "h266"}, "one of h264, h265, av1, vp9, prores"),
        ("film.mp4", {"codec": "prores"}, "prores goes into .mov or .mkv"),
        ("film", {}, "goes into .mp4"),
    ],
)
def test_a_film_that_cannot_be_is_told_before_a_process_starts(
    path: str, settings: dict[str, Any], told: str, pool: Pool
) -> None:
    """ValueError, with what can be."""
    with pytest.raises(ValueError, match=told):
        Encoder(pool.queue("frames"), path, 24, **settings)


def test_the_film_command_tells_of_a_file_that_cannot_hold_its_film(tmp_path: Path) -> None:
    """In a line, not a traceback."""
    done = module("film", "--frames", "2", "--size", "64x36", str(tmp_path / "film.gif"))
    assert done.returncode == 1
    assert "h264 goes into .mp4" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_sides_that_a_pixel_format_cannot_halve_are_told(tmp_path: Path) -> None:
    """With the format that can."""
    with pytest.raises(ValueError, match="yuv444p"):
        Film(str(tmp_path / "film.mp4")).write(0, np.zeros((5, 6, 3), np.uint8))


# Stills and array files.


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_stills_have_the_pixels_of_their_slots(suffix: str, pool: Pool, tmp_path: Path) -> None:
    """Written by a process that takes them from a queue, numbered as they come."""
    pattern = str(tmp_path / f"still-%04d.{suffix}")
    with stills.StillsWriter(pool.queue("frames"), pattern) as writer:
        pictures = put_all(pool, writer.write)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"still-{n:04}.{suffix}" for n in range(len(SHOTS))
    ]
    for number, picture in enumerate(pictures):
        assert (load(Path(pattern % number)) == picture).all()


def test_a_jpeg_loses_little_and_takes_options(tmp_path: Path) -> None:
    """The quality of the caller is over ours."""
    picture = drawn(whitted.render, whitted.shots(2)[0])
    for quality in (10, 95):
        stills.save(tmp_path / f"{quality}.jpg", picture, quality=quality, subsampling=0)
    sizes = [(tmp_path / f"{quality}.jpg").stat().st_size for quality in (10, 95)]
    assert sizes[0] < sizes[1]
    assert apart(load(tmp_path / "95.jpg"), picture) < 4


def test_a_still_appears_when_it_is_complete(tmp_path: Path) -> None:
    """One that cannot be written leaves nothing, and what was there before stays."""
    path = tmp_path / "still.png"
    picture = drawn(julia.render, SHOTS[0])
    stills.save(path, picture)
    with pytest.raises(TypeError):
        stills.save(path, np.zeros((2, 2, 7), np.uint8))
    assert list(tmp_path.iterdir()) == [path]
    assert (load(path) == picture).all()


@pytest.mark.parametrize("pattern", ["still.png", "%s-%s.png", "%d-%d.png", "%q.png"])
def test_a_pattern_without_one_place_for_a_number_is_told(pattern: str) -> None:
    """Else every still would overwrite the one before."""
    with pytest.raises(ValueError, match="one place for the number"):
        stills.Stills(pattern)


def read_array(path: Path) -> Picture:
    if path.suffix == ".zarr":
        return np.asarray(zarr.open_array(path, mode="r")[:])
    if "%" in path.name:
        return np.stack([np.load(str(path) % number) for number in range(len(SHOTS))])
    return np.load(path)


@pytest.mark.parametrize("name", ["all.npy", "each-%02d.npy", "all.zarr"])
def test_array_files_have_the_pixels_of_their_slots(name: str, pool: Pool, tmp_path: Path) -> None:
    """One file, one for each frame, and zarr."""
    path = tmp_path / name
    with arrays.ArraysWriter(pool.queue("frames"), str(path), len(SHOTS)) as writer:
        pictures = put_all(pool, writer.write)
    assert (read_array(path) == np.stack(pictures)).all()


@pytest.mark.parametrize("kind", [arrays.Npy, arrays.Zarr])
def test_frames_go_to_their_place_in_an_array_in_any_order(
    kind: type[arrays.Npy | arrays.Zarr], tmp_path: Path
) -> None:
    """One that never comes stays zero; one beyond the end is told."""
    path = tmp_path / ("all.zarr" if kind is arrays.Zarr else "all.npy")
    pictures = [drawn(julia.render, shot) for shot in SHOTS]
    array = kind(str(path), len(SHOTS))
    for number in (4, 0, 2, 5, 1):
        array.write(number, pictures[number])
    array.skip(3)
    with pytest.raises(ValueError, match="from 0 to 5"):
        array.write(6, pictures[0])
    array.close()
    pictures[3] = np.zeros_like(pictures[3])
    assert (read_array(path) == np.stack(pictures)).all()


class Nothing:
    """An output of no use."""

    def write(self, number: int, pixels: Picture) -> None:
        """Forget a frame."""

    def skip(self, number: int) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is complete."""


class Stuck(Nothing):
    """An output that says that it has a frame, and then waits to be killed."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def write(self, number: int, pixels: Picture) -> None:
        """Wait."""
        Path(self._mark).write_text(f"{number} {int(pixels.sum())}")
        signal.pause()


class Failing(Nothing):
    """An output that fails at a frame."""

    def write(self, number: int, pixels: Picture) -> None:
        """Fail at the third."""
        if number == 2:
            raise OSError(f"no room for {pixels.nbytes} bytes")


def test_a_consumer_that_fails_is_told_and_keeps_no_slot(
    pool: Pool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its exit code, its reason, its traceback; the fixture looks at the slots."""
    told = "'odd' ended with exit code 1: no output, OSError: no room for 6912 bytes"
    with (
        pytest.raises(RuntimeError, match=told) as caught,
        Consumer(pool.queue("frames"), Failing, name="odd") as consumer,
    ):
        _write_for_ever(pool, consumer.write)
    trace = str(caught.value.__cause__)
    del caught  # its frames have the lease that was not to be put
    assert 'raise OSError(f"no room' in trace
    assert capfd.readouterr().err == ""


# Several outputs of the same slots.


def test_a_film_and_stills_and_an_array_are_made_of_the_same_slots(tmp_path: Path) -> None:
    """The film in order, the others as frames come; at the end every slot is free."""
    pattern, movie, array = (str(tmp_path / n) for n in ("s-%02d.png", "film.mkv", "all.npy"))
    made = {
        "film": partial(Film, movie, quality=0, pixel_format="yuv444p"),
        "stills": partial(stills.Stills, pattern),
        "array": partial(arrays.Npy, array, len(SHOTS)),
    }
    # Few slots: the film, which waits for what is missing, must not starve the farm of them.
    with Farm(julia.render, SPEC, workers=2, slots=3) as farm:
        with Fan(farm.pool, made) as fan:
            for result in farm.map(SHOTS, ordered=False):
                fan.write(result.keep(), result.index)
            del result
        assert farm.pool.audit()["free"] == farm.pool.slots
    pictures = [drawn(julia.render, shot) for shot in SHOTS]
    assert_shows(decode(Path(movie)), pictures)
    assert (np.load(array) == np.stack(pictures)).all()
    for number, picture in enumerate(pictures):
        assert (load(Path(pattern % number)) == picture).all()


def test_frames_may_come_to_a_fan_backwards(pool: Pool, tmp_path: Path) -> None:
    """The film waits, in the slots, for the first."""
    pictures = [drawn(julia.render, shot) for shot in SHOTS]
    movie = tmp_path / "film.mkv"
    made = {"film": partial(Film, str(movie), quality=0, pixel_format="yuv444p")}
    with Fan(pool, made) as fan:
        for number in (5, 4, 3, 2, 0):
            lease = pool.acquire()
            lease.array(SPEC.shape, np.uint8)[...] = pictures[number]
            fan.write(lease, number)
        assert not lease.live
        fan.skip(1)
    assert_shows(decode(movie), [pictures[n] for n in (0, 2, 3, 4, 5)])


def test_an_output_that_dies_loses_only_its_own(
    pool: Pool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By SIGKILL with a frame in hand, and by an error: both told by name, the others complete."""
    pattern, mark = str(tmp_path / "s-%02d.png"), tmp_path / "mark"
    made = {
        "stuck": partial(Stuck, str(mark)),
        "odd": Failing,
        "stills": partial(stills.Stills, pattern),
    }
    told = pytest.raises(OutputLostError, match=r"stuck \(exit code -9\)")
    with told as caught, Fan(pool, made) as fan:
        pictures = put_all(pool, partial(_write_next, fan, itertools.count()))
        _kill_when_there(fan.pid("stuck"), mark)
    assert caught.value.lost == {"stuck": -9, "odd": 1}
    assert "no room" in capfd.readouterr().err
    for number, picture in enumerate(pictures):
        assert (load(Path(pattern % number)) == picture).all()


def _write_for_ever(pool: Pool, write: Callable[[shmpool.Lease], None]) -> None:
    """Until that raises."""
    while True:
        lease = pool.acquire()
        lease.array(SPEC.shape, np.uint8)
        write(lease)


def _kill_when_there(pid: int | None, mark: Path) -> None:
    assert pid is not None
    while not mark.exists():
        os.sched_yield()
    os.kill(pid, signal.SIGKILL)


def _write_next(fan: Fan, numbers: Iterator[int], lease: shmpool.Lease) -> None:
    fan.write(lease, next(numbers))


def test_a_fan_without_outputs_left_says_so(pool: Pool, capfd: pytest.CaptureFixture[str]) -> None:
    """Else a farm would render for nobody."""
    fan = Fan(pool, {"odd": Failing})
    with pytest.raises(OutputLostError, match="odd"):
        _write_for_ever(pool, partial(_write_next, fan, itertools.count()))
    with pytest.raises(OutputLostError, match="odd"):
        fan.close()
    assert "no room" in capfd.readouterr().err


# Films into slots.


def sobel(picture: Picture) -> Picture:
    """Edges, pixel by pixel, from the definition."""
    weights = np.array((77, 150, 29))
    grey = np.pad((picture.astype(int) * weights).sum(2) >> 8, 1, mode="edge")
    kernel = np.array([(-1, 0, 1), (-2, 0, 2), (-1, 0, 1)])
    found = np.zeros_like(picture)
    for y, x in np.ndindex(picture.shape[:2]):
        part = grey[y : y + 3, x : x + 3]
        found[y, x] = min(abs((part * kernel).sum()) + abs((part * kernel.T).sum()), 255)
    return found


def test_a_farm_decodes_looks_for_edges_and_encodes(tmp_path: Path) -> None:
    """On a film that a farm has made; two stages work on one slot."""
    source, target = str(tmp_path / "in.mp4"), str(tmp_path / "out.mkv")
    film.film(source, 8, (WIDTH, HEIGHT), 2, 12, lambda: None)
    expected = [sobel(frame) for frame in decode(Path(source))]
    with Farm(ingest.decode, SPEC, workers=1).then(ingest.edges, workers=2) as farm:
        found = [result.array.copy() for result in farm.map(ingest.cuts(source, 8))]
    assert all((one == other).all() for one, other in zip(found, expected, strict=True))
    done = module("ingest", "--workers", "2", source, target)
    assert (done.returncode, done.stderr) == (0, "")
    assert "8 frames in" in done.stdout
    assert_shows(decode(Path(target)), expected)
    assert ingest.probe(target).fps == 12


def test_any_frame_of_a_film_can_be_decoded_at_any_time(tmp_path: Path) -> None:
    """Forward, backward, again; one that is not there is told."""
    path = tmp_path / "film.mkv"
    made = Film(str(path))
    for number, shot in enumerate(SHOTS):
        made.write(number, drawn(julia.render, shot))
    made.close()
    frames = decode(path)
    for number in (0, 1, 5, 2, 2, 0):
        frame = drawn(ingest.decode, ingest.Cut(str(path), number))
        assert (frame == frames[number]).all()
    with pytest.raises(IndexError, match="no frame 6"):
        drawn(ingest.decode, ingest.Cut(str(path), 6))
    ingest._readers.clear()


# The crasher.


@pytest.fixture
def one_worker() -> Iterator[Farm]:
    """Its faults come back as results."""
    spec = ArraySpec((4, 5), np.uint8)
    with Farm(
        crasher.render, spec, workers=1, retries=0, on_error="yield", memory_limit="512 MiB"
    ) as farm:
        yield farm


@pytest.mark.parametrize(
    ("job", "error", "told"),
    [
        ("raise", LookupError, "as told"),
        ("die", shmpool.WorkerDiedError, "SIGKILL"),
        ("segfault", shmpool.WorkerDiedError, "SIGSEGV"),
        ("abort", shmpool.WorkerDiedError, "SIGABRT"),
        ("exit", shmpool.WorkerDiedError, "exit code 0"),
        ("leak", MemoryError, ""),
        ("unpicklable", (AttributeError, TypeError), "pickle"),
    ],
)
def test_a_job_that_fails_spoils_no_other(
    job: str, error: type[BaseException], told: str, one_worker: Farm
) -> None:
    """Its own error, and the frames before and after it are as they should be."""
    found = []
    for result in one_worker.map([1, job, 2]):
        if result.index != 1:
            found.append(int(result.array.sum()))
            continue
        assert isinstance(result.error, error)
        assert told in str(result.error)
    assert found == [20, 40]


@pytest.mark.parametrize("job", ["hang", "busy"])
def test_a_job_that_never_ends_is_ended(job: str) -> None:
    """By job_timeout, whether it sleeps or computes."""
    spec = ArraySpec((4, 5), np.uint8)
    with Farm(
        crasher.render, spec, workers=1, retries=0, on_error="yield", job_timeout=0.2
    ) as farm:
        errors = [type(result.error) for result in farm.map([job])]
    assert errors == [shmpool.JobTimeoutError]


def test_a_late_write_is_told_and_reaches_nobody(one_worker: Farm) -> None:
    """What an earlier job kept is cut off from the slot that is now another job's."""
    errors = [result.error for result in one_worker.map(["keep", "late", 2])]
    assert isinstance(errors[1], shmpool.UseAfterReleaseError)
    assert (errors[0], errors[2]) == (None, None)


def test_a_fault_that_passes_is_gone_at_the_second_try(tmp_path: Path) -> None:
    """Until its file exists."""
    with Farm(crasher.render, ArraySpec((4, 5), np.uint8), workers=1) as farm:
        jobs = [("die", tmp_path / "mark"), 3]
        assert [result.attempts for result in farm.map(jobs)] == [2, 1]


# Another interpreter.


BPY = '''
"""As much of Blender as workers.blender uses; each pixel tells its frame and place."""
import sys
from types import SimpleNamespace as Names

class Pixels:
    def foreach_get(self, flat):
        flat[:] = [scene.frame * 1000 + n for n in range(len(flat))]

def render(write_still):
    open(scene.render.filepath, "w").close()

scene = Names(render=Names(image_settings=Names()))
scene.frame_set = lambda number: setattr(scene, "frame", number)
context = Names(scene=scene)
images = Names(load=lambda path: Names(pixels=Pixels()), remove=lambda image: None)
data = Names(images=images)
def opened(filepath):
    if filepath != "scene.blend":
        sys.exit(3)
ops = Names(wm=Names(open_mainfile=opened), render=Names(render=render))
'''


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bpy for the other interpreter, without Blender in it."""
    (tmp_path / "bpy.py").write_text(textwrap.dedent(BPY))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))


@pytest.mark.usefixtures("stand_in")
def test_an_unrelated_program_renders_into_a_pool_that_it_joined_by_name() -> None:
    """It is no child of multiprocessing's, and gets nothing but the name."""
    found = {
        number: light.copy()
        for number, light in blender.frames(
            "scene.blend", range(3, 8), (4, 2), python=sys.executable, slots=2
        )
    }
    assert list(found) == [3, 4, 5, 6, 7]
    for number, light in found.items():
        assert light.shape == (2, 4, 4)
        assert (light.ravel() == number * 1000 + np.arange(32)).all()


@pytest.mark.usefixtures("stand_in")
def test_a_blender_that_ends_is_told() -> None:
    """Not a hang."""
    with pytest.raises(RuntimeError, match="exit code 3"):
        list(blender.frames("none.blend", range(3), (4, 2), python=sys.executable))


# By themselves.


def module(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", f"workers.{name}", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)


COMMANDS = ("arrays", "blender", "crasher", "fan", "film", "ingest", "julia", "mitsuba", "stills")
COMMANDS += ("tiles", "video", "whitted")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_worker_is_a_command_of_its_own(name: str) -> None:
    """It tells how to use it, under its own name."""
    done = module(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"python -m workers.{name}" in done.stdout


def test_commands_write_what_the_modules_draw(tmp_path: Path) -> None:
    """A picture, the film of it, its frames as an array, and these as stills again."""
    picture, movie, array, again = (
        str(tmp_path / name) for name in ("a.png", "a.mkv", "a.npy", "b-%d.png")
    )
    size = f"{WIDTH}x{HEIGHT}"
    lines = [
        ("julia", "--size", size, "--frame", "1", "--frames", "6", picture),
        ("video", "--quality", "0", "--pixel-format", "yuv444p", movie, picture),
        ("arrays", movie, array),
        ("stills", array, again),
    ]
    for line in lines:
        done = module(*line)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (load(Path(picture)) == drawn(julia.render, SHOTS[1])).all()
    assert (load(Path(again % 0)) == decode(Path(movie))[0]).all()
    assert apart(np.load(array)[0], load(Path(picture))) < 2


def test_the_fan_and_tiles_commands_write_what_is_drawn_by_hand(tmp_path: Path) -> None:
    """An array of six Julia sets, and a traced picture in tiles."""
    size = f"{WIDTH}x{HEIGHT}"
    array, picture = str(tmp_path / "all.npy"), str(tmp_path / "tiled.png")
    fan = module("fan", "--frames", "6", "--size", size, "--workers", "1", "--array", array)
    tiles = module("tiles", "--size", size, "--rows", "10", "--workers", "1", picture)
    assert (fan.stderr, tiles.stderr) == ("", "")
    assert (np.load(array) == np.stack([drawn(julia.render, shot) for shot in SHOTS])).all()
    assert (load(Path(picture)) == drawn(whitted.render, whitted.shots(1)[0])).all()
    assert module("fan").returncode == 2
