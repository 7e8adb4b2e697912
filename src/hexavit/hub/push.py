"""Models brought to the Hugging Face hub."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from hexavit.errors import HexavitError
from hexavit.hub.saved_folder import save_pretrained


def push_to_hub(
    model: nn.Module,
    repo_id: str,
    *,
    class_names: Sequence[str] | None = None,
    license: str | None = None,
    metrics: Mapping[str, float] | None = None,
    private: bool | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    message: str = "Add a hexavit model",
    token: str | None = None,
) -> str:
    """Write a model to a repository on the hub, made if need be; `from_pretrained(repo_id)` reads it back.

    Args:
        model: what `create_model` gives.
        repo_id: OWNER/NAME.
        class_names: see `save_pretrained`, as for `license` and `metrics`.
        license: of the weights.
        metrics: figures to show on the card.
        private: whether a new repository is; None for your account's custom.
        create_pr: propose the change instead of making it.
        revision: the branch to write to.
        message: of the commit.
        token: by default the one that you are logged in with.

    Returns:
        The address of the commit, or of the proposal.

    Raises:
        HexavitError: a model that cannot be saved, a name that is none, or a hub that refuses or cannot be reached.
    """
    from huggingface_hub import HfApi, errors

    api = HfApi(token=token, library_name="hexavit")
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, class_names=class_names, license=license, metrics=metrics)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            done: Any = api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message=message, create_pr=create_pr, revision=revision
            )
        except errors.HFValidationError as error:
            raise HexavitError(f"{repo_id!r} is no name of a repository: it is OWNER/NAME") from error
        except Exception as error:  # the client stands on one HTTP library or another, each with errors of its own
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise HexavitError(f"{repo_id} could not be written on the hub ({reason})") from error
    return str(done.pr_url if create_pr else done.commit_url)
