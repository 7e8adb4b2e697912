"""Upload of models to the Hugging Face hub."""

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
    """Upload a model to a repository on the Hugging Face hub, which is created if it does not exist.

    `from_pretrained(repo_id)` loads it.

    Args:
        model: a model of `create_model`.
        repo_id: OWNER/NAME.
        class_names: as for `save_pretrained`.
        license: as for `save_pretrained`.
        metrics: as for `save_pretrained`.
        private: whether a new repository is private; None for the default of the account.
        create_pr: open a pull request instead of a commit to the branch.
        revision: the branch; None for the default branch.
        message: the commit message.
        token: access token; None for the token of `hf auth login`.

    Returns:
        URL of the commit or of the pull request.

    Raises:
        HexavitError: the model cannot be saved, `repo_id` is not a name, or the upload failed.
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
            raise HexavitError(f"{repo_id!r} is not the name of a repository, which is OWNER/NAME") from error
        except Exception as error:  # of the HTTP library in use
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise HexavitError(f"{repo_id} could not be uploaded to the hub ({reason})") from error
    return str(done.pr_url if create_pr else done.commit_url)
