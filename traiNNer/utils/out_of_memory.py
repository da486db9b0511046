"""What running out of memory looks like, whichever library says it."""

from __future__ import annotations

import torch

# What the libraries say, in lower case. Seen in torch 2.8 to 2.15.
_MESSAGES = (
    "out of memory",
    "defaultcpuallocator: can't allocate memory",
    "defaultcpuallocator: not enough memory",
    "cublas_status_alloc_failed",
    "cusolver_status_alloc_failed",
    "cusparse_status_alloc_failed",
    "cufft_alloc_failed",
    "cudnn_status_alloc_failed",
    "device_allocation_failed",
    "std::bad_alloc",
    "hiperroroutofmemory",
    "hip_error_out_of_memory",
    "miopenstatusallocfailed",
    "invalid buffer size",
)
# What libraries say when they could not get the memory that they wanted, and for other reasons too.
_PERHAPS = (
    "unable to find an engine to execute this computation",
    "could not create a primitive",
    "could not create a memory",
    "could not execute a primitive",
    "cublas_status_not_initialized",
    "cublas_status_internal_error",
    "cudnn_status_not_initialized",
    "cudnn_status_internal_error",
    "miopenstatusinternalerror",
    "miopenstatusunknownerror",
)
# The message is about another process, whose memory a smaller batch on the device does not help.
_OF_OTHERS = ("dataloader worker",)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether `error`, or what it was raised from, says that the device's or the process's memory
    was not enough.
    """
    # An exception can be its own cause by way of others.
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        text = str(error).lower()
        if any(words in text for words in _OF_OTHERS):
            return False
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(error, RuntimeError) and any(words in text for words in _MESSAGES):
            return True
        error = error.__cause__
    return False


def may_be_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is one that libraries raise when memory is short, and for other reasons too:
    worth one more try with less.
    """
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _PERHAPS)


def first_line(error: BaseException, most: int = 200) -> str:
    """What an error says, on one line; its type where it says nothing, as a MemoryError does."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:most]
