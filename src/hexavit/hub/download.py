"""Files of the hub: taken from the cache, or fetched into it, and held against a checksum."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import torch

from hexavit.errors import CheckpointError


class UnreachableError(CheckpointError):
    """The hub cannot be asked, and the cache has no such file."""


def fetch_first(repo_id: str, files: Sequence[str], revision: str | None = None) -> Path:
    """The first of these files that a repository has. What is cached is taken without asking the hub.

    For weights that are published once: of a repository that goes on changing, `fetch` gives the newest.

    Raises:
        UnreachableError: none is cached, and the hub cannot be asked.
        CheckpointError: it has none, or gives none.
    """
    from huggingface_hub import try_to_load_from_cache

    for file in files:
        cached = try_to_load_from_cache(repo_id, file, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    for file in files:
        if (path := fetch(repo_id, file, revision)) is not None:
            return path
    raise CheckpointError(f"{repo_id} has none of the files {', '.join(files)} on the hub")


def fetch(repo_id: str, file: str, revision: str | None = None) -> Path | None:
    """A file as the hub has it now, or as it is cached when the hub cannot be asked; None if it has no such file.

    A broken download is resumed at the next call. `HF_HUB_OFFLINE`, `HF_HOME` and `HF_ENDPOINT` mean what they do for
    huggingface_hub.

    Raises:
        UnreachableError: it is not cached, and the hub cannot be asked.
        CheckpointError: there is no such repository, or it may not be read.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub import errors as hub

    try:
        # Asks once, where the download would try five times before it says that there is no network.
        get_hf_file_metadata(hf_hub_url(repo_id, file, revision=revision))
        return Path(hf_hub_download(repo_id, file, revision=revision, library_name="hexavit"))
    except hub.EntryNotFoundError:
        return None
    except hub.GatedRepoError as error:
        raise CheckpointError(f"{repo_id} asks its readers to agree to terms first, on its page on the hub") from error
    except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError) as error:
        at = f" at {revision}" if revision else ""
        raise CheckpointError(f"the hub shows no repository {repo_id}{at}: it may be private, or misspelt") from error
    except hub.HFValidationError as error:
        raise CheckpointError(f"{repo_id!r} is no name of a repository: it is OWNER/NAME") from error
    except Exception as error:  # the client stands on one HTTP library or another, each with errors of its own
        cached = try_to_load_from_cache(repo_id, file, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"the hub does not give it ({_short(error)})"
        raise UnreachableError(f"{repo_id}'s {file} is not in the cache, and {why}") from error


def fetch_link(link: str) -> Path:
    """A file that lies on no hub: from PyTorch's cache of checkpoints (`torch.hub.get_dir()`), or fetched into it.

    Raises:
        UnreachableError: it is not cached, and cannot be fetched.
    """
    from huggingface_hub import constants

    path = Path(torch.hub.get_dir()) / "checkpoints" / link_name(link)
    if path.is_file():
        return path
    if constants.HF_HUB_OFFLINE:
        raise UnreachableError(f"{path.name} is not in {path.parent}, and HF_HUB_OFFLINE is set")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(link, str(path), progress=False)  # whole or not at all
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnreachableError(f"{path.name} is not in {path.parent}, and {link} does not give it") from error
    with path.open("rb") as file:
        head = file.read(64).lstrip()
    if not head or head.startswith(b"<"):  # no file of weights begins so
        path.unlink()
        what = "a page" if head else "nothing"
        raise UnreachableError(f"{path.name} is not in {path.parent}, and {link} gives {what} in its place")
    return path


def link_name(link: str) -> str:
    """The name of the file behind a link: what stands behind its #, else the end of its path; never a folder's.

    Raises:
        CheckpointError: it has none.
    """
    parts = urlsplit(link)
    name = Path(parts.fragment or parts.path).name
    if name in ("", ".."):
        raise CheckpointError(f"{link} ends with no name of a file: give it one behind a #")
    return name


def verify(path: Path, known: str | None) -> str:
    """Hold a fetched file against its checksum: the known one, else the one under which the hub keeps it.

    Returns:
        A sentence on what was held against what.

    Raises:
        CheckpointError: it is another file.
    """
    found = sha256_of(path)
    told = _hub_sum(path)
    expected = known or told
    if expected is not None and found != expected:
        raise CheckpointError(
            f"{path} has the sha256 {found} where {expected} is expected: it is damaged or was exchanged; delete "
            f"{path.resolve()} to have it fetched again"
        )
    if known is not None:
        return f"sha256 {found}, as published"
    if told is not None:
        return f"sha256 {found}, as the hub says; no sum of its own is known to hexavit"
    return f"sha256 {found}, held against nothing, as no sum is known"


def sha256_of(path: Path) -> str:
    """A file's checksum, in hexadecimal.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def _hub_sum(path: Path) -> str | None:
    """The sum in the name under which the cache keeps large files; systems without links do not tell it."""
    name = Path(os.readlink(path)).name if path.is_symlink() else ""
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
