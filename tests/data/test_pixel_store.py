"""Decoded pictures that are kept: the same pixels as from the files, whatever happens to the
store.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from image_sets import MakePairs, save, texture

from tests.support import ROOT, load_script, small_options, write_options
from tests.video.videos import marked, save_scene, write_lossless
from traiNNer.data import (
    DynamicDataLoaderWrapper,
    ImageFolderDataset,
    PairedImageDataset,
    PairedVideoDataset,
    Sample,
    SampleRequest,
    SingleGtDataset,
)
from traiNNer.data.protocols import StorableSet
from traiNNer.data.sample import Batch
from traiNNer.data.scan import ScannedImage
from traiNNer.engine.pixel_cache import plan_cache
from traiNNer.ops.color import to_float, to_uint8
from traiNNer.options.dataset_sections import TrainDatasetOptions
from traiNNer.utils.errors import DataError, OptionsError
from traiNNer.utils.images import Pixels, read_image
from traiNNer.utils.pixel_store import PixelStore

# Behind the header of an entry.
PIXELS_AT = 128


def paired(folders: tuple[Path, Path], store: PixelStore | None = None) -> PairedImageDataset:
    """Pictures are kept at once, so that tests know when they are there."""
    dataset = PairedImageDataset(2, *map(str, folders))
    if store is not None:
        store.stop_waiting()
        dataset.use_store(store)
    return dataset


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.pixels"))


def batches(
    dataset: PairedImageDataset, workers: int, sizes: tuple[tuple[int, int], ...]
) -> list[Batch]:
    """Five batches at each (lq_size, batch size)."""
    loader = DynamicDataLoaderWrapper(
        dataset, batch_size=sizes[0][1], lq_size=sizes[0][0], seed=3, num_workers=workers
    )
    taken: list[Batch] = []
    for lq_size, batch_size in sizes:
        loader.set_lq_size(lq_size)
        loader.set_batch_size(batch_size)
        taken += [next(loader) for _ in range(5)]
    loader.close()
    return taken


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        for a, b in zip(first.pair, second.pair, strict=True):
            # Whole batches become float where one picture of 16 bits is among those of a unit.
            assert torch.equal(to_float(a), to_float(b))
        assert first.lq_paths == second.lq_paths


# Smaller ones: larger ones begin later where processes read ahead.
SIZES = ((16, 4), (12, 6), (8, 3))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_samples_with_and_without(
    make_pairs: MakePairs, tmp_path: Path, workers: int
) -> None:
    folders = make_pairs(7)
    deep = texture(48, 40, seed=9).astype("uint16") * 257 + 3
    cv2.imwrite(str(folders[1] / "deep.png"), deep)
    cv2.imwrite(str(folders[0] / "deep.png"), deep.repeat(2, 0).repeat(2, 1))
    plain = batches(paired(folders), 0, SIZES)
    store = PixelStore(tmp_path / "store")
    while_filling = batches(paired(folders, store), workers, SIZES)
    assert_same(plain, while_filling)
    dataset = paired(folders, store)
    assert store.count(dataset.stored_pictures()) == 16
    # From the store alone: what is in the files now would be noticed.
    for path in (*folders[0].iterdir(), *folders[1].iterdir()):
        path.write_bytes(b"x" * path.stat().st_size)
    assert_same(plain, batches(dataset, workers, SIZES))


def digests(loader: DynamicDataLoaderWrapper) -> list[bytes]:
    """Of 5,000 samples in the order of the stream, at falling sizes: larger ones begin later where
    processes read ahead.
    """
    taken: list[bytes] = []
    for lq_size, batch_size, until in ((20, 7, 1_000), (16, 40, 3_000), (9, 16, 5_000)):
        loader.set_lq_size(lq_size)
        loader.set_batch_size(batch_size)
        while len(taken) < until:
            batch = loader.next_batch(at_most=until - len(taken))
            lq, gt = (to_uint8(to_float(tensor)).numpy() for tensor in batch.pair)
            for sample in zip(lq, gt, batch.lq_paths, strict=True):
                digest = hashlib.blake2b(sample[0].tobytes(), digest_size=8)
                digest.update(sample[1].tobytes() + sample[2].encode())
                taken.append(digest.digest())
    loader.close()
    return taken


def test_five_thousand_samples_in_every_mode(make_pairs: MakePairs, tmp_path: Path) -> None:
    folders = make_pairs(9)

    def stream(
        store: PixelStore | None, workers: int, *, idle: bool = False, thread: bool = False
    ) -> list[bytes]:
        dataset = PairedImageDataset(2, *map(str, folders))
        if store is not None:
            if not idle:
                store.stop_waiting()
            dataset.use_store(store)
        loader = DynamicDataLoaderWrapper(
            dataset,
            batch_size=7,
            lq_size=20,
            seed=11,
            num_workers=workers,
            is_decoded=(lambda: True) if thread else None,
        )
        return digests(loader)

    expected = stream(None, 0)
    assert len(set(expected)) > 4_500
    full = PixelStore(tmp_path / "full")
    assert stream(full, 0) == expected
    assert stream(full, 0) == expected
    assert stream(full, 2) == expected
    assert stream(full, 0, thread=True) == expected
    assert stream(PixelStore(tmp_path / "by_four"), 4) == expected
    assert stream(PixelStore(tmp_path / "idle"), 2, idle=True) == expected


def test_pictures_are_kept_in_idle_time(make_pairs: MakePairs, tmp_path: Path) -> None:
    folders = make_pairs(4)
    plain = batches(paired(folders), 0, SIZES)
    store = PixelStore(tmp_path / "store")
    dataset = PairedImageDataset(2, *map(str, folders))
    dataset.use_store(store)
    loader = DynamicDataLoaderWrapper(dataset, batch_size=4, lq_size=16, seed=3, num_workers=2)
    taken = [next(loader) for _ in range(5)]
    assert_same(plain[:5], taken)
    pictures = list(dataset.stored_pictures())
    deadline = time.monotonic() + 30
    while store.count(pictures) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert store.count(pictures) == 8
    loader.close()
    for path in (*folders[0].iterdir(), *folders[1].iterdir()):
        path.write_bytes(b"x" * path.stat().st_size)
    assert_same(plain, batches(dataset, 2, SIZES))


def test_a_thread_reads_once_all_is_kept(
    make_pairs: MakePairs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The stream goes on in the middle: no sample is lost or read as another one."""
    folders = make_pairs(5)
    store = PixelStore(tmp_path / "store")
    dataset = paired(folders, store)
    pictures = list(dataset.stored_pictures())

    def stream(*, decoded: Callable[[], bool] | None, at: int = 0) -> DynamicDataLoaderWrapper:
        return DynamicDataLoaderWrapper(
            dataset if decoded else paired(folders),
            batch_size=4,
            lq_size=16,
            seed=3,
            num_workers=1,
            samples_consumed=at,
            is_decoded=decoded,
        )

    def taken(loader: DynamicDataLoaderWrapper) -> list[Batch]:
        batches = [next(loader) for _ in range(6)]
        loader.set_batch_size(6)
        loader.set_lq_size(12)
        return batches + [next(loader) for _ in range(6)]

    plain = stream(decoded=None)
    loader = stream(decoded=lambda: store.count(pictures) == len(pictures))
    with caplog.at_level(logging.INFO):
        assert_same(taken(plain), taken(loader))
    assert "from now on a thread reads" in caplog.text
    assert loader.worker_pids == ()
    assert loader.samples_consumed == 60
    # What the thread had read ahead is not lost with it.
    for one in (plain, loader):
        one.load_state_dict(one.state_dict())
        one.set_lq_size(8)
    assert_same([next(plain) for _ in range(5)], [next(loader) for _ in range(5)])
    (folders[0] / "001.png").unlink()
    for path in entries(store.folder):
        path.unlink()
    with pytest.raises(DataError, match=r"001\.png"):
        deque(islice(loader, 5), maxlen=0)
    loader.close()
    plain.close()


def test_what_takes_long_is_left_to_processes(make_pairs: MakePairs, tmp_path: Path) -> None:
    class Slow(PairedImageDataset):
        def __getitem__(self, index: SampleRequest) -> Sample:
            time.sleep(0.003)
            return super().__getitem__(index)

    slow = Slow(2, *map(str, make_pairs(3)))
    loader = DynamicDataLoaderWrapper(
        slow, batch_size=2, lq_size=8, seed=0, num_workers=1, is_decoded=lambda: True
    )
    next(loader)
    assert len(loader.worker_pids) == 1
    loader.close()


def clips(root: Path) -> Callable[[], PairedVideoDataset]:
    """A scene of frames and one of a film."""
    save_scene(root / "lq" / "s0", 0, range(5))
    save_scene(root / "gt" / "s0", 0, range(5), 2)
    film = [marked(1, frame) for frame in range(6)]
    write_lossless(root / "lq" / "s1.mkv", film, gop=4)
    write_lossless(root / "gt" / "s1.mkv", [p.repeat(2, 0).repeat(2, 1) for p in film], gop=4)
    return lambda: PairedVideoDataset(2, str(root / "gt"), str(root / "lq"), clip_size=3)


def gt_alone(root: Path) -> Callable[[], SingleGtDataset]:
    for number in range(3):
        save(root / "gt" / f"{number}.png", texture(64, 60, seed=number))
    return lambda: SingleGtDataset(2, str(root / "gt"))


def classes(root: Path) -> Callable[[], ImageFolderDataset]:
    for number in range(4):
        save(root / "ab"[number % 2] / f"{number}.png", texture(40, 60, seed=number))
    return lambda: ImageFolderDataset(1, str(root))


@pytest.mark.parametrize(("make", "kept"), [(clips, 22), (gt_alone, 3), (classes, 4)])
def test_every_kind_of_dataset(
    make: Callable[[Path], Callable[[], PairedVideoDataset]], kept: int, tmp_path: Path
) -> None:
    open_dataset = make(tmp_path / "data")
    plain = open_dataset()
    store = PixelStore(tmp_path / "store")
    for _ in range(2):
        stored = open_dataset()
        assert isinstance(stored, StorableSet)
        stored.use_store(store)
        for index in range(len(plain)):
            request = SampleRequest(index, 16, index)
            one, other = plain[request], stored[request]
            assert torch.equal(one.lq, other.lq)
            assert (one.gt is None and other.gt is None) or torch.equal(one.gt, other.gt)
    assert store.count(plain.stored_pictures()) == kept == len(entries(store.folder))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[PIXELS_AT + 100] ^= 4
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_another_size(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[12:20] = content[16:20] + content[12:16]
    path.write_bytes(content)


def of_a_later_version(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8] += 1
    path.write_bytes(content)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "harm", [flip, cut_short, empty, of_another_size, of_a_later_version, a_folder]
)
def test_what_is_wrong_with_an_entry_is_noticed(
    harm: Callable[[Path], None], make_pairs: MakePairs, tmp_path: Path
) -> None:
    # Neither side is the other's, so that turned sizes are as many bytes.
    folders = make_pairs([(40, 56)])
    plain = batches(paired(folders), 0, SIZES)
    store = PixelStore(tmp_path / "store")
    batches(paired(folders, store), 0, SIZES)
    good = [path.read_bytes() for path in entries(store.folder)]
    assert len(good) == 2
    for path in entries(store.folder):
        harm(path)
    assert_same(plain, batches(paired(folders, PixelStore(store.folder)), 0, SIZES))
    if harm is not a_folder:
        assert [path.read_bytes() for path in entries(store.folder)] == good


def test_a_changed_picture_is_replaced(make_pairs: MakePairs, tmp_path: Path) -> None:
    folders = make_pairs(1)
    store = PixelStore(tmp_path / "store")
    batches(paired(folders, store), 0, SIZES)
    others = make_pairs(2, folder="others")
    for folder, other in zip(folders, others, strict=True):
        shutil.copy(other / "001.png", folder / "000.png")
    changed = batches(paired(folders), 0, SIZES)
    assert_same(changed, batches(paired(folders, store), 0, SIZES))
    assert len(entries(store.folder)) == 2


FILL = """
import sys
from pathlib import Path
from traiNNer.data import PairedImageDataset, SampleRequest
from traiNNer.utils.pixel_store import PixelStore
dataset = PairedImageDataset(2, "set/gt", "set/lq")
store = PixelStore(Path("store"))
store.stop_waiting()
dataset.use_store(store)
print("begun", flush=True)
for index in range(len(dataset)):
    dataset[SampleRequest(index, 8, index)]
"""


def test_killed_while_it_fills(make_pairs: MakePairs, tmp_path: Path) -> None:
    folders = make_pairs([(200, 300)] * 12)
    (tmp_path / "fill.py").write_text(FILL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "fill.py"]
    for number in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.005 * number)
            process.send_signal(signal.SIGKILL)
    store = PixelStore(tmp_path / "store")
    dataset = paired(folders, store)
    for pair in dataset.pairs:
        for image in (pair.lq, pair.gt):
            assert (dataset.source.read(image) == read_image(image.path)).all()
    assert store.count(dataset.stored_pictures()) == 24


NO_ROOM = """
import resource, signal, sys
from pathlib import Path
from traiNNer.data import PairedImageDataset, SampleRequest
from traiNNer.utils.pixel_store import PixelStore
# No file may become larger than 20 KB: what a full disk does, to one process.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
dataset = PairedImageDataset(2, "set/gt", "set/lq")
store = PixelStore(Path("store"))
store.stop_waiting()
dataset.use_store(store)
print(sum(int(dataset[SampleRequest(index, 8, index)].gt.sum()) for index in range(len(dataset))))
"""


def test_a_full_disk_is_said_once(make_pairs: MakePairs, tmp_path: Path) -> None:
    dataset = paired(make_pairs([(60, 80)] * 3))
    (tmp_path / "fill.py").write_text(NO_ROOM)
    done = subprocess.run(
        [sys.executable, "fill.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    samples = (dataset[SampleRequest(index, 8, index)] for index in range(3))
    assert int(done.stdout) == sum(int(sample.gt.sum()) for sample in samples)
    assert done.stderr.count("pixels are not kept any further: store: File too large") == 1
    assert not list((tmp_path / "store").glob("*/*.tmp"))


def test_a_budget_keeps_some_and_removes_what_is_older(
    make_pairs: MakePairs, tmp_path: Path
) -> None:
    old = paired(make_pairs(2, folder="old"))
    store = PixelStore(tmp_path / "store")
    store.stop_waiting()
    old.use_store(store)
    batches(old, 0, SIZES)
    for path in entries(store.folder):
        os.utime(path, (1, 1))
    (entries(store.folder)[0].parent / "left.tmp").write_bytes(b"x")
    os.utime(entries(store.folder)[0].parent / "left.tmp", (1, 1))
    dataset = paired(make_pairs(6))
    pictures = list(dataset.stored_pictures())
    budget = sum(picture.nbytes + PIXELS_AT for picture in pictures) // 2
    store = PixelStore(store.folder)
    kept = store.keep_within(pictures, budget)
    assert 0 < kept < 12
    assert store.make_room(pictures, budget) >= 1
    assert not list(store.folder.glob("*/*.tmp"))
    store.stop_waiting()
    dataset.use_store(store)
    plain = batches(paired((tmp_path / "set/gt", tmp_path / "set/lq")), 0, SIZES)
    assert_same(plain, batches(dataset, 0, SIZES))
    assert store.count(pictures) == kept
    assert store.held_bytes() <= budget


def section(folders: tuple[Path, Path], **changes: object) -> TrainDatasetOptions:
    given = {"type": "PairedImageDataset", "dataroot_gt": str(folders[0])}
    given |= {"dataroot_lq": str(folders[1])}
    return TrainDatasetOptions.model_validate(given | changes)


def test_what_the_options_ask_for(
    make_pairs: MakePairs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = make_pairs(3)
    whole = plan_cache(section(folders), paired(folders))
    assert whole.summary.startswith("6 pictures decoded once and kept, 0.00 GiB in ")
    assert whole.summary.endswith("(0 there)")
    assert whole.store is not None
    assert whole.store.folder == tmp_path / "cache" / "traiNNer" / "pixels"
    assert not whole.is_complete()
    none = plan_cache(section(folders, cache="none"), paired(folders))
    assert none.store is None
    assert none.advice(True) == (
        "pictures are decoded for each crop (cache: none). What helps: cache: disk, or a higher "
        "num_worker_per_gpu, up to the number of cores"
    )
    some = plan_cache(section(folders, cache="disk", cache_gib=3e-5), paired(folders))
    assert " of 6 pictures decoded once" in some.summary
    assert not some.is_complete()
    assert some.advice(True).startswith("not all pictures fit: ")
    here = section(folders, cache_dir="here", cache="disk")
    dataset = paired(folders)
    cache = plan_cache(here, dataset)
    cache.open()
    assert not cache.look()
    assert "decoded while they are being kept, and later epochs read them" in cache.advice(True)
    # At the second look, an epoch later, what is missing is not left to later any more.
    assert not cache.look()
    batches(dataset, 0, SIZES)
    assert cache.look()
    assert cache.advice(False).endswith(
        "num_worker_per_gpu: 1 or more, or a cache_dir on a faster disk"
    )
    assert plan_cache(here, paired(folders)).summary.endswith(f"{tmp_path}/here (all there)")
    # A folder that cannot be one.
    (tmp_path / "file").write_text("")
    dataset = paired(folders)
    cache = plan_cache(section(folders, cache_dir="file/below"), dataset)
    with caplog.at_level(logging.WARNING):
        cache.open()
    assert "pictures are decoded for each crop: none can be kept in " in caplog.text
    assert cache.store is None
    batches(dataset, 0, SIZES)


def test_pictures_to_validate_on_are_kept_as_well(make_pairs: MakePairs, tmp_path: Path) -> None:
    folders = make_pairs(3)
    other = make_pairs(2, folder="other")
    plain = [sample_of(paired(other), index) for index in range(2)]
    val_set = paired(other)
    cache = plan_cache(section(folders, cache_dir="here"), paired(folders), [object(), val_set])
    assert cache.summary.startswith("6 pictures decoded once and kept, 0.00 GiB in ")
    assert cache.summary.endswith("(0 there), and 4 to validate on, 0.00 GiB")
    cache.open()
    for _ in range(2):
        for index, expected in enumerate(plain):
            sample = sample_of(val_set, index)
            assert torch.equal(sample.lq, expected.lq)
            assert sample.gt is not None
            assert expected.gt is not None
            assert torch.equal(sample.gt, expected.gt)
        assert len(entries(tmp_path / "here")) == 4
    # Whether everything is there to train on is asked for the training set alone.
    assert not cache.is_complete()
    # What fits beside the training set alone leaves the others as they are.
    small = section(folders, cache_dir="there", cache_gib=bytes_of(folders) / 2**30 + 1e-9)
    val_set = paired(other)
    cache = plan_cache(small, paired(folders), [val_set])
    assert cache.keeps_all
    assert "to validate on" not in cache.summary
    cache.open()
    sample_of(val_set, 0)
    assert not entries(tmp_path / "there")


def test_room_is_not_made_of_what_is_validated_on(make_pairs: MakePairs, tmp_path: Path) -> None:
    folders, other, third = (make_pairs(2, folder=name) for name in ("set", "other", "third"))
    store = PixelStore(tmp_path / "here")
    val_set = paired(other, store)
    sample_of(val_set, 0)
    sample_of(val_set, 1)
    own = entries(store.folder)
    for entry in own:
        os.utime(entry, (0, 0))
    batches(paired(third, store), 0, SIZES)
    assert len(entries(store.folder)) == 8
    budget = (bytes_of(folders) + bytes_of(other)) / 2**30 + 1e-9
    here = section(folders, cache_dir="here", cache_gib=budget)
    plan_cache(here, paired(folders), [paired(other)]).open()
    # The other run's go, although those of the validation were used longest ago.
    assert entries(store.folder) == own


def test_a_source_of_a_users_own_is_not_kept_for_validation(make_pairs: MakePairs) -> None:
    folders = make_pairs(1)
    val_set = PairedImageDataset(2, *map(str, folders), source=Inverted())
    assert not plan_cache(section(folders), paired(folders), [val_set]).evaluated


def bytes_of(folders: tuple[Path, Path]) -> int:
    """Of the entries of all pictures."""
    return sum(picture.nbytes + PIXELS_AT for picture in paired(folders).stored_pictures())


def sample_of(dataset: PairedImageDataset, index: int) -> Sample:
    return dataset[SampleRequest(index, None, 0)]


class Inverted:
    """Gives other pixels than the file has."""

    def read(self, image: ScannedImage) -> Pixels:
        return 255 - read_image(image.path)


def test_built_ahead(make_pairs: MakePairs, tmp_path: Path, capsys: Any) -> None:
    gt, _ = make_pairs(5)
    judged = gt.parent / "judged"
    values = small_options(gt.parent)
    for kind in ("gt", "lq"):
        shutil.copytree(gt.parent / kind, judged / kind)
        values["datasets"]["val"][f"dataroot_{kind}"] = str(judged / kind)
    options = write_options(tmp_path / "o.yml", values)
    build = load_script("scripts/data_preparation/build_store.py").main
    assert build(["-opt", str(options)]) == 0
    assert "all of them are there now" in capsys.readouterr().err
    val_set = PairedImageDataset(2, str(judged / "gt"), str(judged / "lq"))
    cache = plan_cache(section((judged / "gt", judged / "lq"), cache="disk"), val_set)
    assert cache.is_complete(), "what is validated on is there as well"
    assert build(["-opt", str(options), "--set", "datasets.train.cache=none"]) == 2
    assert "cache is none: nothing is to be kept" in capsys.readouterr().err


def test_what_the_options_cannot_ask_for(make_pairs: MakePairs) -> None:
    folders = make_pairs(1)
    with pytest.raises(OptionsError, match="keeps no decoded pictures; leave cache out"):
        plan_cache(section(folders, cache="disk"), object())
    assert plan_cache(section(folders), object()).store is None
    with pytest.raises(OptionsError, match="cache_dir ~nobody-of-this-name"):
        plan_cache(section(folders, cache_dir="~nobody-of-this-name/x"), paired(folders))


def test_an_unwritable_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file/below: Not a directory"):
        PixelStore(tmp_path / "file" / "below").make_room([], 10)
