"""The system says no: a full /dev/shm, another user, another pid namespace, no descriptors."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import shmpool
from shmpool import Pool

MakePool = Callable[..., Pool]
root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and other users take root")


def in_namespace(flags: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in namespaces of its own."""
    command = ["unshare", *flags.split(), "sh", "-ec", script]
    environment = os.environ | {"PY": sys.executable}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def in_small_shm(size: str, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program with a /dev/shm of so many bytes; stdout is how many names are left there."""
    script = f'mount -t tmpfs -o size={size} tmpfs /dev/shm; $PY -c "{program}" || true; '
    return in_namespace("-m", script + "ls /dev/shm | wc -l")


@root
@pytest.mark.parametrize(
    ("slots", "size"),
    [(2, "1 MiB"), (200, "4 KiB"), (1, "900 KiB")],
    ids=["payload", "many small", "just too much"],
)
def test_a_small_dev_shm_is_an_error_with_numbers(slots: int, size: str) -> None:
    """ENOSPC at create, not SIGBUS at the first touch; sizes, remedy, and nothing left behind."""
    program = f"import shmpool; shmpool.Pool.create(slots={slots}, slot_size={size!r}, members=255)"
    run = in_small_shm("800k", program)
    assert "OutOfSharedMemoryError" in run.stderr
    assert "of the 800.0 KiB in /dev/shm are free" in run.stderr
    assert "--shm-size" in run.stderr
    assert run.stdout.strip() == "0"


@root
def test_room_for_the_slots_but_not_for_the_doorbells_is_told_alike() -> None:
    """The last kilobytes of a pool are semaphores: the same error, and nothing left behind."""
    program = "import shmpool; shmpool.Pool.create(slots=1, slot_size=64)"
    run = in_small_shm("84k", program)
    assert "OutOfSharedMemoryError" in run.stderr
    assert "a doorbell" in run.stderr
    assert run.stdout.strip() == "0"


@root
def test_memory_taken_between_the_check_and_the_making_is_no_sigbus() -> None:
    """When statvfs promises too much, posix_fallocate still finds out, and all is undone."""
    program = (
        "import shmpool, shmpool._segment as s, shmpool._create as c\n"
        "c.check_room = lambda *a: None\n"
        "shmpool.Pool.create(slots=4, slot_size='1 MiB')\n"
    )
    run = in_small_shm("2m", program)
    assert "OutOfSharedMemoryError" in run.stderr
    assert run.stdout.strip() == "0"


@root
def test_another_pid_namespace_is_refused_by_name(pool: Pool) -> None:
    """Its coordinator could not see the member die."""
    program = f"import shmpool; shmpool.Pool.attach('{pool.name}')"
    run = in_namespace("--pid --fork --mount-proc", f'$PY -c "{program}"')
    assert "PidNamespaceError" in run.stderr
    assert pool.name in run.stderr
    assert len(pool.statistics().members) == 1


@root
@pytest.mark.parametrize(
    "use", ["remove_orphan('{}')", "Pool.create(name='{}', slots=1, slot_size=64)"]
)
def test_from_another_pid_namespace_a_pool_is_not_taken_for_an_orphan(
    make_pool: MakePool, use: str
) -> None:
    """The coordinator's number is nobody's there, or somebody else's: that proves no death."""
    pool = make_pool(slots=1, slot_size=64)
    program = f"import shmpool; from shmpool import *; {use.format(pool.name)}"
    run = in_namespace("--pid --fork --mount-proc", f'$PY -c "{program}"')
    told = run.stderr.splitlines()[-1]
    assert told.startswith("shmpool.errors.PoolExistsError: ")
    assert "another pid namespace" in told
    with Pool.attach(pool.name) as again:
        again.acquire().release()


@root
def test_another_user_may_not_attach(pool: Pool) -> None:
    """The segment is mode 0600; the error names the user."""
    pid = os.fork()
    if not pid:
        os.seteuid(65534)
        try:
            Pool.attach(pool.name)
        except shmpool.ForeignSegmentError as error:
            os._exit(0 if "65534" in str(error) else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def lowest_descriptor() -> int:
    number = os.dup(0)
    os.close(number)
    return number


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("shmpool-")


def use_two_pools() -> None:
    pool = Pool.create(slots=2, slot_size=4096, queues=("a",))
    with pool, Pool.attach(pool.name) as other:
        pool.queue("a").put(pool.acquire())
        other.queue("a").get().release()


def test_pools_cost_no_descriptor_and_no_mapping_once_closed() -> None:
    """A hundred pools, created, used, attached and closed, leave nothing, without the collector."""
    use_two_pools()
    gc.collect()
    before = descriptors(), mappings()
    gc.disable()
    for _ in range(100):
        use_two_pools()
    after = descriptors(), mappings()
    gc.enable()
    assert after == before


@pytest.mark.parametrize("room", range(1, 6))
def test_running_out_of_descriptors_leaves_nothing(make_pool: MakePool, room: int) -> None:
    """EMFILE at create: what was made before goes on, and of the failed one nothing is left."""
    make_pool().close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_descriptor() + room, hard))
    made: list[Pool] = []
    try:
        with pytest.raises((OSError, shmpool.ShmpoolError)):
            made.extend(make_pool(name=f"shmpool-test-emfile-{n}") for n in range(room))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for pool in made:
        pool.acquire().release()
        pool.close()
    shm = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
    assert not list(shm.glob("*emfile*"))
