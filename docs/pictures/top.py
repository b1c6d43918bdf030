"""Makes top.svg.

A pool named films, in which frames are rendered, checked, shared with two previews and encoded.
A renderer dies over a frame, and somebody in a notebook holds one and will not let go.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import shmpool
from shmpool import Pool, Queue, QueueOptions
from shmpool.cli import main
from workers import whitted

SIZE = (135, 240, 3)
SHOTS = whitted.shots(240)


def render(pool: Pool, todo: Queue, done: Queue) -> None:
    """Frames, until it is killed over one of them."""
    for lease in todo:
        shot = lease.array()[0]
        lease.release()
        frame = pool.acquire(int(np.prod(SIZE)))
        whitted.render(SHOTS[shot], frame.array(SIZE, np.uint8))
        done.put(frame)


def encode(done: Queue, shown: Any) -> None:
    """Each frame is shared with the previews, and let go of before they have done so."""
    for lease in done:
        ticket = lease.share()
        for _ in range(2):
            shown.put(int(ticket))
        time.sleep(0.14)
        lease.release()


def preview(pool: Pool, shown: Any) -> None:
    """Keeps the last frames before its eyes. Some it asks for too late."""
    kept = deque[shmpool.Borrow]()
    while True:
        with suppress(shmpool.StaleTicketError):
            kept.append(pool.borrow(shown.get()))
        if len(kept) > 3:
            kept.popleft().release()
            time.sleep(0.3)


def notebook(pool: Pool, ready: Any) -> None:
    """Forgot what it has."""
    kept = [pool.acquire(nbytes) for nbytes in (60_000, 200_000)]
    ready.set()
    signal.pause()
    del kept


def die(todo: Queue) -> None:
    """Take a job, and be killed."""
    lease = todo.get()
    os.kill(os.getpid(), signal.SIGKILL)
    del lease


def feed(pool: Pool, todo: Queue) -> None:
    """Jobs, for as long as there is a pool."""
    shot = 0
    try:
        while True:
            lease = pool.acquire(64)
            lease.array(1, np.int64)[0] = shot % len(SHOTS)
            todo.put(lease)
            shot += 1
    except shmpool.ShmpoolError:
        pass


def picture(file: Path) -> None:
    """Everything, for some seconds."""
    spawn = mp.get_context("spawn")
    queues = {
        "todo": QueueOptions(maxsize=12, on_death="quarantine"), "rendered": QueueOptions(),
        "rejected": QueueOptions(),
    }  # fmt: skip
    classes = [("64 KiB", 40), ("256 KiB", 40, 64)]
    with Pool.create(classes=classes, queues=queues, name="films", member_name="director") as pool:
        todo, done, rejected = (pool.queue(name) for name in queues)
        shown, ready = spawn.Queue(), spawn.Event()
        crew = {
            "notebook": (notebook, pool, ready), "doomed": (die, todo),
            **{f"render-{n}": (render, pool, todo, done) for n in (1, 2, 3)},
            "encode": (encode, done, shown),
            **{f"preview-{n}": (preview, pool, shown) for n in (1, 2)},
        }  # fmt: skip
        processes = [
            spawn.Process(target=function, args=arguments, name=name, daemon=True)
            for name, (function, *arguments) in crew.items()
        ]
        threading.Thread(target=feed, args=(pool, todo), daemon=True).start()
        for process in processes:
            process.start()
        ready.wait()
        for _ in range(3):
            rejected.put(pool.acquire(100_000))
        time.sleep(8)
        main(["top", "films", "--interval", "2", "--svg", str(file), "--size", "106x38"])
        main(["top", "films", "--interval", "2", "--once", "--size", "106x38"])
        for process in processes:
            process.kill()
            process.join()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    picture(Path(__file__).with_name("top.svg"))
