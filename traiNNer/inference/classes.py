"""Sets of pictures through a classifier: a table of probabilities, scores and pictures of them."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from traiNNer.data import ImageFolderDataset, SampleRequest, SingleImageDataset, collate
from traiNNer.data.protocols import EvalSet
from traiNNer.engine.class_validation import class_scores
from traiNNer.engine.logs import print_table
from traiNNer.engine.mishaps import Mishaps
from traiNNer.engine.progress import ProgressBar
from traiNNer.engine.scoring import Metric, build_metrics
from traiNNer.inference.class_pictures import save_confusion, save_reliability
from traiNNer.inference.classifier import Classifier
from traiNNer.inference.failures import Failures
from traiNNer.inference.outputs import prepare_folder
from traiNNer.options.schema import TestOptions
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.registry import METRICS
from traiNNer.utils.text import plural

log = logging.getLogger(__name__)
# Where the options name none.
_METRICS = ("accuracy", "balanced_accuracy", "f1", "auroc")
TABLE = "probabilities.csv"


def check_class_sets(
    datasets: dict[str, EvalSet], classifier: Classifier, options: TestOptions
) -> None:
    """Refuse sets of another kind or of other classes, and metrics of pictures.

    Raises:
        OptionsError: naming the section and what to set.
    """
    known = classifier.facts.classes
    for name, dataset in datasets.items():
        if isinstance(dataset, SingleImageDataset):
            continue
        if not isinstance(dataset, ImageFolderDataset):
            raise OptionsError(
                f"datasets.{name} has no classes, and the network tells classes; use type: "
                "ImageFolderDataset, or SingleImageDataset for pictures that nobody has named"
            )
        if tuple(dataset.classes) != known:
            raise OptionsError(
                f"datasets.{name} has the classes {', '.join(dataset.classes)}, and the network "
                f"tells {', '.join(known)}; give the same in classes"
            )
        if dataset.fit == "crop":
            dataset.require_lq_size(classifier.facts.lq_size)
    _build_class_metrics(options)


def _build_class_metrics(options: TestOptions) -> dict[str, Metric]:
    if "metrics" not in options.val.model_fields_set:
        return {name: METRICS[name](scale=1) for name in _METRICS}
    for label, metric in options.val.metrics.items():
        if getattr(metric.entry, "task", "") != "classification":
            raise OptionsError(
                f"val.metrics.{label} is for pictures, and the network tells classes; there are "
                f"{', '.join(_METRICS)}"
            )
    return build_metrics(options.val.metrics, 1)


def classify_set(
    name: str,
    dataset: EvalSet,
    classifier: Classifier,
    options: TestOptions,
    folder: Path,
    failures: Failures,
) -> None:
    """Tell the class of every picture, and print scores where the set names them.

    Args:
        name: of the dataset.
        dataset: pictures, with or without classes.
        classifier: tells them.
        options: of the test.
        folder: for the table and the pictures.
        failures: gets the pictures that could not be read.
    """
    log.info("%s: %s", name, dataset.summary())
    judged = dataset.for_validation()
    told: list[Tensor] = []
    labels: list[Tensor] = []
    paths: list[str] = []
    bar = ProgressBar(len(judged), 0)
    try:
        for index, path in enumerate(judged.lq_paths):
            try:
                probabilities, label = tell(judged, index, classifier)
            # Whatever does not concern this picture alone is raised again.
            except Exception as error:  # noqa: BLE001
                failures.add(path, error)
                continue
            told.append(probabilities)
            paths.append(path)
            if label is not None:
                labels.append(label)
            bar.advance()
            bar.say(Path(path).name)
    finally:
        bar.close()
    if not told:
        return
    every = torch.stack(told)
    truth = torch.stack(labels) if labels else None
    if options.val.save_img:
        prepare_folder(folder, [TABLE, "confusion_matrix.png", "reliability.png"])
        _write_table(folder / TABLE, classifier.facts.classes, paths, every, truth)
        log.info("%s: %s, written to %s", name, plural(len(paths), "picture"), folder / TABLE)
    if truth is None:
        return
    metrics = _build_class_metrics(options)
    scores = class_scores(metrics, every, truth, name, Mishaps())
    table = Table(title=name, title_justify="left")
    for label in ("pictures", *scores):
        table.add_column(label, justify="right")
    table.add_row(str(len(paths)), *(f"{score:.4f}" for score in scores.values()))
    print_table(table)
    if options.val.save_img:
        if truth.ndim == 1:
            save_confusion(folder / "confusion_matrix.png", classifier.facts.classes, every, truth)
        save_reliability(folder / "reliability.png", every, truth)


def tell(dataset: EvalSet, index: int, classifier: Classifier) -> tuple[Tensor, Tensor | None]:
    """The probabilities of a picture, and its label where it has one."""
    if isinstance(dataset, ImageFolderDataset):
        # As it is judged while training.
        request = SampleRequest(index, classifier.facts.lq_size, 0)
        batch = collate([dataset[request]]).to("cpu")
        assert batch.lq is not None
        assert batch.labels is not None
        return classifier(batch.lq)[0], batch.labels[0]
    batch = collate([dataset[SampleRequest(index, None, 0)]]).to("cpu")
    assert batch.lq is not None
    return classifier.of_whole(batch.lq[0]), None


def _write_table(
    path: Path, classes: tuple[str, ...], paths: list[str], told: Tensor, truth: Tensor | None
) -> None:
    """A line for each picture: the likeliest class, its probability, those of all classes, and what
    it is in truth.
    """
    known = [] if truth is None else ["truth"]
    rows = [["file", "class", "probability", *classes, *known]]
    for number, file in enumerate(paths):
        best = int(told[number].argmax())
        row = [file, classes[best], f"{told[number, best]:.4f}"]
        row += [f"{value:.4f}" for value in told[number].tolist()]
        if truth is not None:
            row.append("|".join(_names_of(truth[number], classes)))
        rows.append(row)
    write_csv(path, rows)


def write_csv(path: Path, rows: list[list[str]]) -> None:
    """A file of lines of cells.

    Raises:
        DiskError: if it cannot be written.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    write_atomic(path, text.getvalue().encode())


def _names_of(label: Tensor, classes: tuple[str, ...]) -> list[str]:
    if label.ndim == 0:
        return [classes[int(label)]]
    return [name for name, has in zip(classes, label.tolist(), strict=True) if has]
