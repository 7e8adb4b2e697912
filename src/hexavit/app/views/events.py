"""Events whose errors end in a sentence on the page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import gradio as gr

from hexavit.app.markup import note
from hexavit.errors import HexavitError

_LOG = logging.getLogger(__name__)
PRIVATE = {"api_visibility": "private", "show_progress": "minimal"}
"""Options of every event: no entry in the page's programming interface."""
ORDERED = {**PRIVATE, "concurrency_limit": 1}
"""Of events that start again while they run: one after the other, so that the last one is shown. Add a
`concurrency_id`."""
HEAVY = {**PRIVATE, "concurrency_id": "model", "concurrency_limit": 1}
"""Of events that run a model: one at a time."""


def guarded(function: Callable[..., tuple[Any, ...]], outputs: int) -> Callable[..., tuple[Any, ...]]:
    """A function of an event that returns its error as a sentence.

    Args:
        function: returns the values of its outputs.
        outputs: their number. After an error they stay as they are.

    Returns:
        The function with one more output in front, a `message`: the sentence, hidden without an error.
    """

    @wraps(function)
    def run(*values: Any) -> tuple[Any, ...]:
        try:
            return message_update(""), *function(*values)
        except HexavitError as error:
            sentence = str(error)
        except Exception as error:
            _LOG.exception("hexavit app: an event failed")
            sentence = f"this failed with {type(error).__name__}; the terminal of hexavit app has the details"
        return message_update(sentence, "error"), *(gr.skip() for _ in range(outputs))

    return run


def html(name: str, value: str = "") -> gr.HTML:
    """A widget for HTML of `hexavit.app.markup`, with the style of this page alone."""
    return gr.HTML(value, elem_id=name, apply_default_css=False, min_width=300)


def message(name: str) -> gr.HTML:
    """A hidden widget for a sentence."""
    return gr.HTML(visible=False, elem_id=name, apply_default_css=False)


def message_update(sentence: str, kind: str = "note") -> Any:
    """Show a sentence in a `message`, or hide it."""
    return gr.update(value=note(sentence, kind), visible=bool(sentence))


@dataclass(frozen=True)
class Start:
    """What fills a view, or a part of it.

    Attributes:
        function: of `guarded`.
        inputs: its inputs.
        outputs: its outputs.
        options: of the event.
        next: what is filled after it.
    """

    function: Callable[..., tuple[Any, ...]]
    inputs: list[Any]
    outputs: list[Any]
    options: dict[str, Any] = field(default_factory=lambda: dict(PRIVATE))
    next: Start | None = None

    def on(self, event: Any) -> None:
        """Fill the view at the first occurrence of an event."""
        done = gr.State(False)

        def run(before: bool, *values: Any) -> tuple[Any, ...]:
            if before:
                return (gr.skip(),) * (1 + len(self.outputs))
            return True, *self.function(*values)

        self.then(event(run, [done, *self.inputs], [done, *self.outputs], **self.options))

    def listen(self, event: Any) -> None:
        """Fill the view at each occurrence of an event."""
        self.then(event(self.function, self.inputs, self.outputs, **self.options))

    def then(self, listener: Any) -> None:
        """Fill what is next after a listener."""
        if self.next is not None:
            following = self.next
            following.then(listener.then(following.function, following.inputs, following.outputs, **following.options))
