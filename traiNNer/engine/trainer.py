"""The loop."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from traiNNer.data import Batch, DynamicDataLoaderWrapper
from traiNNer.engine.checkpoints import Checkpoints
from traiNNer.engine.interrupts import EXIT_INTERRUPTED, Interrupts
from traiNNer.engine.memory_fit import MemoryFit
from traiNNer.engine.plan import best_metric
from traiNNer.engine.progress import ProgressBar, Stopwatch, duration
from traiNNer.engine.tracker import Tracker
from traiNNer.engine.validation import ValidationResult, Validator
from traiNNer.models import BaseModel

log = logging.getLogger(__name__)


@dataclass
class Trainer:
    """Runs a model over a loader to the last iteration.

    Attributes:
        model: the recipe.
        loader: endless batches.
        checkpoints: where the run is saved.
        tracker: curves.
        validator: None when validation is off.
        interrupts: Ctrl-C and SIGTERM.
        fit: fits the sizes to the memory; None leaves them as they are.
    """

    model: BaseModel
    loader: DynamicDataLoaderWrapper
    checkpoints: Checkpoints
    tracker: Tracker
    validator: Validator | None
    interrupts: Interrupts
    fit: MemoryFit | None = None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def run(self) -> int:
        """Train from where the model is to the end; 0, or 130 when interrupted (after saving)."""
        options = self.model.options
        model = self.model
        total = options.train.total_iter
        if self.fit is not None:
            self.fit.start(self.tracker)
        bar = ProgressBar(total, model.iteration)
        try:
            while model.iteration < total:
                step = self._read()
                if self.fit is not None:
                    self.fit.before_step()
                model.train_step(step)
                if self.fit is not None:
                    self.fit.after_step(step)
                self.stopwatch.count(sum(map(len, step)), sum(batch.pixels for batch in step))
                bar.advance()
                if self._due(options.logger.print_freq):
                    self._report(bar)
                if self.interrupts.requested:
                    return self._interrupted()
                if self.validator is not None and self._due(options.val.val_freq):
                    self._validate(self.validator)
                    if self.interrupts.requested:
                        return self._interrupted()
                if self._due(options.logger.save_checkpoint_freq):
                    self._save()
        finally:
            bar.close()
            self.loader.close()
        return 0

    def _due(self, frequency: int) -> bool:
        iteration = self.model.iteration
        return iteration % frequency == 0 or iteration == self.model.options.train.total_iter

    def _read(self) -> list[Batch]:
        """The batches of an iteration: accum_iter of them, or as many as make effective_batch_size
        samples.
        """
        options = self.model.options
        loader = self.loader
        with self.stopwatch.waiting():
            left = options.train.effective_batch_size
            if left is None:
                return [next(loader) for _ in range(options.datasets.train.accum_iter)]
            step: list[Batch] = []
            while left:
                step.append(loader.next_batch(at_most=left))
                left -= len(step[-1])
            return step

    def _report(self, bar: ProgressBar) -> None:
        """One line in the log, one point on every curve. Here the host waits for the device."""
        model = self.model
        total = self.model.options.train.total_iter
        losses = model.losses.read()
        model.guard.flush()
        speed = self.stopwatch.read()
        rates = model.learning_rates
        batch = model.received[0]
        lq_size = model.received[-1]
        remaining = duration((total - model.iteration) / max(speed.iterations_per_s, 1e-9))
        memory = {} if self.fit is None else self.fit.scalars()
        used = "" if self.fit is None else f"  VRAM {self.fit.used_pct:.1f} %"
        bar.say(f"{speed.iterations_per_s:.2f} it/s, {remaining} left")
        accumulated = (
            "" if batch == model.samples_in_step else f" ({model.samples_in_step} accumulated)"
        )
        log.info(
            "%d/%d  %s  lr %s  lq_size %d  batch %d%s%s  %.2f it/s  %.1f samples/s  %d samples  "
            "data wait %.0f %%  left %s",  # noqa: E501
            model.iteration, total, "  ".join(f"{label} {value:.5f}" for label, value in losses.items()),
            ", ".join(f"{rate:.2e}" for rate in rates.values()), lq_size, batch, accumulated, used,
            speed.iterations_per_s, speed.samples_per_s, self.loader.samples_consumed, speed.data_wait_pct, remaining,
        )  # fmt: skip
        self.tracker.scalars(
            {f"losses/{label}": value for label, value in losses.items()}
            | {f"lr/{name}": rate for name, rate in rates.items()}
            | {
                "dynamic/lq_size": lq_size,
                "dynamic/batch_size": batch,
                "speed/iterations_per_s": speed.iterations_per_s,
                "speed/samples_per_s": speed.samples_per_s,
                "speed/lq_mpixels_per_s": speed.lq_mpixels_per_s,
                "speed/data_wait_pct": speed.data_wait_pct,
                "dynamic/samples_per_iteration": model.samples_in_step,
                "progress/samples": self.loader.samples_consumed,
                "progress/epoch": self.loader.samples_consumed / self.loader.samples_per_epoch,
                "progress/nonfinite_steps": model.guard.total,
                "dynamic/oom_total": model.out_of_memory_total,
            }
            | memory,
            model.iteration,
        )

    def _validate(self, validator: Validator) -> None:
        with self.stopwatch.outside():
            results = validator.run(
                self.model.upscale, self.model.iteration, lambda: self.interrupts.requested
            )
            if self.fit is not None:
                # what whole images took is no part of the next step's peak
                self.fit.memory.release()
            if results:
                self._keep_best(results[0], validator)

    def _keep_best(self, result: ValidationResult, validator: Validator) -> None:
        """The first val set decides."""
        label = best_metric(self.model.options)
        if label is not None and label in result.means:
            better = validator.metrics[label].better
            self.checkpoints.save_if_best(self.model, label, result.means[label], better)

    def _save(self) -> None:
        model = self.model
        model.guard.flush()
        unfinished = (
            model.iteration < model.options.train.total_iter and not self.interrupts.requested
        )
        if model.guard.in_a_row and unfinished:
            log.warning(
                "not saved at %d: the last %d steps were not finite, and the checkpoint before "
                "stays the last",
                model.iteration, model.guard.in_a_row,
            )  # fmt: skip
            return
        with self.stopwatch.outside():
            self.checkpoints.save(self.model, self.loader)

    def _interrupted(self) -> int:
        self._save()
        log.info(
            "interrupted at iteration %d; --auto_resume goes on from here", self.model.iteration
        )
        return EXIT_INTERRUPTED
