"""What the worker processes cost: images a second to JPEG 2000 lossless, by the codec alone and through the workers.

Both use all cores and the same images, in turns; the codec alone encodes frames that are in its memory already, the
workers read a Part 10 file and write one. Prints each round and the median of the ratios.

    .venv/bin/python bench/transcode.py [--images 200] [--side 512] [--rounds 5]
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
from openjpeg.utils import encode_buffer

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from compressed import image

from magickbox.transcoder import Transcoded
from magickbox.transcoding.pool import WorkerPool
from magickbox.transfersyntax import EXPLICIT_LITTLE, JPEG_2000_LOSSLESS
from magickbox.workers.pool import Limits

CORES = os.cpu_count() or 1
BITS = 12


def slice_of_a_body(side: int, number: int) -> np.ndarray:
    """Something that compresses as a CT does, by half: a smooth body, edges and noise."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    body = 1000.0 * (x**2 + (1.3 * y) ** 2 < 0.8) + 300.0 * np.cos(9 * x + number) * np.sin(7 * y)
    noise = np.random.default_rng(number).normal(0, 12, (side, side))
    pixels: np.ndarray = np.clip(body + noise + 400, 0, (1 << BITS) - 1).astype(np.uint16)
    return pixels


def encode(task: tuple[bytes, int, int]) -> int:
    """The codec alone, in a process of its own: ``count`` times the same frame."""
    frame, side, count = task
    return sum(len(encode_buffer(frame, side, side, 1, BITS, False)) for _ in range(count))


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """How long something takes, and how much CPU time of this process and its children: the second bears company."""
    began, spent = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - began, cpu() - spent


def cpu() -> float:
    """CPU seconds so far."""
    me = psutil.Process()
    every = [each.cpu_times() for each in (me, *me.children())]
    return sum(times.user + times.system for times in every)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), options.images, options.side, options.rounds)


def measure(folder: Path, images: int, side: int, rounds: int) -> None:
    """Both in turns, after one of each that does not count."""
    frames = [slice_of_a_body(side, number) for number in range(8)]
    files = [image(folder, frame[None], stored=BITS).path for frame in frames]
    (folder / "converted").mkdir()
    pool = WorkerPool(folder / "converted", Limits(workers=CORES))

    def through_workers(path: Path) -> None:
        result = pool.transcode(path, EXPLICIT_LITTLE, [JPEG_2000_LOSSLESS])
        assert isinstance(result, Transcoded), result
        result.path.unlink()

    per = max(1, images // len(frames))
    tasks = [(frame.tobytes(), side, per) for frame in frames]
    work = [files[n % len(files)] for n in range(per * len(files))]
    with ProcessPoolExecutor(CORES, get_context("spawn")) as processes, ThreadPoolExecutor(CORES) as threads:
        walls, cpus = [], []
        for number in range(rounds + 1):
            alone, alone_cpu = cost(lambda: list(processes.map(encode, tasks)))
            ours, ours_cpu = cost(lambda: list(threads.map(through_workers, work)))
            if number:  # the first is to warm up
                walls.append(alone / ours)
                cpus.append(alone_cpu / ours_cpu)
                print(
                    f"round {number}: codec alone {len(work) / alone:.1f}/s, {1000 * alone_cpu / len(work):.1f} ms; "
                    f"workers {len(work) / ours:.1f}/s, {1000 * ours_cpu / len(work):.1f} ms; "
                    f"CPU each; ratio {walls[-1]:.2f}, by CPU time {cpus[-1]:.2f}"
                )
    pool.close()
    print(f"{side} x {side}, {BITS} bits, {len(work)} images, {CORES} cores, median of the ratios: ", end="")
    print(f"{statistics.median(walls):.2f}, by CPU time {statistics.median(cpus):.2f}")


if __name__ == "__main__":
    main()
