"""Optimizers of torch and of pytorch-optimizer, and torch's learning-rate schedulers, by name."""

from traiNNer.optim.optimizers import build_optimizer, group_by_rate
from traiNNer.optim.schedulers import build_scheduler, rebuild_scheduler

__all__ = ["build_optimizer", "build_scheduler", "group_by_rate", "rebuild_scheduler"]
