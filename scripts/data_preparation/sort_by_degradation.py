"""Sort pictures by what has damaged them, with the network that options/classify.yml trains."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from traiNNer.data import SingleImageDataset
from traiNNer.engine.command_line import make_runtime, run_plainly
from traiNNer.engine.logs import setup_logging
from traiNNer.engine.progress import ProgressBar
from traiNNer.inference.classes import tell, write_csv
from traiNNer.inference.classifier import names_classifier, open_classifier
from traiNNer.inference.failures import Failures
from traiNNer.options.schema import TestOptions
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.names import result_stems
from traiNNer.utils.problems import Problems

CHECKPOINT = Path("experiments/classify/models/net_g_best.safetensors")
# Below that probability a picture is set aside: two classes may be about as likely.
DOUBT = 0.5
UNSURE = "unsure"


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of pictures, with all of its sub-folders")
    parser.add_argument(
        "--checkpoint", type=Path, default=CHECKPOINT, help="of the classifier (%(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, help="copy the pictures into a folder for each kind below this one"
    )
    parser.add_argument(
        "--table", type=Path, default=Path("degradations.csv"), help="where to (%(default)s)"
    )
    parser.add_argument(
        "--doubt", type=float, default=DOUBT, help="what is told with a lower probability counts "
        "as unsure (%(default)s)",
    )  # fmt: skip
    return parser.parse_args(argv)


def sort_pictures(arguments: argparse.Namespace) -> int:
    """The table, the copies if they are asked for, and how many there are of each kind."""
    if not 0 <= arguments.doubt <= 1:
        raise OptionsError(f"--doubt is {arguments.doubt}; expected a number from 0 to 1")
    options = TestOptions.model_validate(
        {
            "name": "sort",
            "datasets": {"test": {"type": "SingleImageDataset", "dataroot_lq": "."}},
            "path": {"pretrain_network_g": str(arguments.checkpoint)},
        }
    )
    if not names_classifier(options):
        raise OptionsError(
            f"{arguments.checkpoint} makes pictures; give a classifier, for example the one of "
            "options/classify.yml"
        )
    classifier = open_classifier(options, make_runtime(options))
    unusable = Problems()
    dataset = SingleImageDataset(1, str(arguments.folder), unusable=unusable)
    failures = Failures()
    failures.extend(unusable.examples)
    paths = [Path(path) for path in dataset.lq_paths]
    rows: list[list[str]] = []
    kinds: list[str] = []
    told_paths: list[Path] = []
    bar = ProgressBar(len(paths), 0)
    try:
        for index, path in enumerate(paths):
            try:
                told, _ = tell(dataset, index, classifier)
            # Whatever does not concern this picture alone is raised again.
            except Exception as error:  # noqa: BLE001
                failures.add(str(path), error)
                continue
            best = int(told.argmax())
            sure = told[best].item() >= arguments.doubt
            kinds.append(classifier.facts.classes[best] if sure else UNSURE)
            told_paths.append(path)
            rows.append([str(path), kinds[-1], *(f"{value:.4f}" for value in told.tolist())])
            bar.advance()
            bar.say(path.name)
    finally:
        bar.close()
    write_csv(arguments.table, [["file", "kind", *classifier.facts.classes], *rows])
    if arguments.out is not None:
        _copy(told_paths, kinds, arguments.out)
    for kind, count in Counter(kinds).most_common():
        print(f"{count:6} {kind}")
    print(f"table: {arguments.table}")
    failures.raise_if_any()
    return 0


def _copy(paths: list[Path], kinds: list[str], out: Path) -> None:
    """Each picture into the folder of its kind; no two of a kind share a name."""
    for kind in sorted(set(kinds)):
        own = [path for path, its_kind in zip(paths, kinds, strict=True) if its_kind == kind]
        folder = out / kind
        folder.mkdir(parents=True, exist_ok=True)
        for path, stem in zip(own, result_stems([one.name for one in own], ".jpeg"), strict=True):
            shutil.copy2(path, folder / f"{stem}{path.suffix}")


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    setup_logging()
    return run_plainly(lambda: sort_pictures(arguments))


if __name__ == "__main__":
    sys.exit(main())
