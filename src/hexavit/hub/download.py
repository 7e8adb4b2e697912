"""Files of the Hugging Face hub and of other addresses: fetched into a cache and verified by checksum."""

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
    """The hub cannot be reached, and the file is not in the cache."""


def fetch_first(repo_id: str, files: Sequence[str], revision: str | None = None) -> Path:
    """Fetch the first of several files that a repository has. Cached files are used without a request to the hub.

    For weights that do not change once published; `fetch` gives the newest version of a file.

    Args:
        repo_id: OWNER/NAME.
        files: file names in the order of preference.
        revision: branch, tag or commit; None for the default branch.

    Raises:
        UnreachableError: no file is cached, and the hub cannot be reached.
        CheckpointError: the repository has none of the files, or may not be read.
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
    """Fetch the current version of a file, or take it from the cache if the hub cannot be reached.

    An interrupted download is resumed by the next call. huggingface_hub reads `HF_HUB_OFFLINE`, `HF_HOME` and
    `HF_ENDPOINT`.

    Returns:
        The path in the cache; None if the repository has no such file.

    Raises:
        UnreachableError: the file is not cached, and the hub cannot be reached.
        CheckpointError: the repository does not exist, or may not be read.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub import errors as hub

    try:
        # One request: the download itself would try five times before it reports that there is no network.
        get_hf_file_metadata(hf_hub_url(repo_id, file, revision=revision))
        return Path(hf_hub_download(repo_id, file, revision=revision, library_name="hexavit"))
    except hub.EntryNotFoundError:
        return None
    except hub.GatedRepoError as error:
        raise CheckpointError(f"{repo_id} requires you to accept its terms, on its page on the hub") from error
    except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError) as error:
        at = f" at {revision}" if revision else ""
        raise CheckpointError(f"the hub shows no repository {repo_id}{at}: it may be private, or misspelt") from error
    except hub.HFValidationError as error:
        raise CheckpointError(f"{repo_id!r} is not the name of a repository, which is OWNER/NAME") from error
    except Exception as error:  # of the HTTP library in use
        cached = try_to_load_from_cache(repo_id, file, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"it cannot be fetched ({_short(error)})"
        raise UnreachableError(f"{repo_id}'s {file} is not in the cache, and {why}") from error


def fetch_link(link: str) -> Path:
    """Fetch a file that is not on the hub into PyTorch's cache of checkpoints (`torch.hub.get_dir()`).

    Raises:
        UnreachableError: the file is not cached, and cannot be fetched.
    """
    from huggingface_hub import constants

    path = Path(torch.hub.get_dir()) / "checkpoints" / link_name(link)
    if path.is_file():
        return path
    if constants.HF_HUB_OFFLINE:
        raise UnreachableError(f"{path.name} is not in {path.parent}, and HF_HUB_OFFLINE is set")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(link, str(path), progress=False)  # atomic
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnreachableError(f"{path.name} is not in {path.parent}, and cannot be fetched from {link}") from error
    with path.open("rb") as file:
        head = file.read(64).lstrip()
    if not head or head.startswith(b"<"):  # a page, not a weight file
        path.unlink()
        what = "a web page" if head else "an empty file"
        raise UnreachableError(f"{path.name} is not in {path.parent}, and {link} returned {what} instead")
    return path


def link_name(link: str) -> str:
    """The file name of a link: its fragment (after #) if it has one, else the last part of its path.

    Raises:
        CheckpointError: the link has no file name.
    """
    parts = urlsplit(link)
    name = Path(parts.fragment or parts.path).name
    if name in ("", ".."):
        raise CheckpointError(f"{link} does not end with a file name: append one after a #")
    return name


def verify(path: Path, known: str | None) -> str:
    """Compare the SHA-256 of a fetched file with the expected one.

    Args:
        path: the file.
        known: the published checksum; None for the one under which the hub stores the file, if it is known.

    Returns:
        A phrase for the report: the checksum, and what it was compared with.

    Raises:
        CheckpointError: the checksums differ.
    """
    found = sha256_of(path)
    of_hub = _hub_checksum(path)
    expected = known or of_hub
    if expected is not None and found != expected:
        raise CheckpointError(
            f"{path} has the sha256 {found} where {expected} is expected: the file is damaged or was replaced; delete "
            f"{path.resolve()} to fetch it again"
        )
    if known is not None:
        return f"sha256 {found}, as published"
    if of_hub is not None:
        return f"sha256 {found}, as the hub states; hexavit has no checksum of its own"
    return f"sha256 {found}, not compared, as no checksum is known"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


def _hub_checksum(path: Path) -> str | None:
    """The checksum of a large file in the hub's cache: the name of the file that the symbolic link points to."""
    name = Path(os.readlink(path)).name if path.is_symlink() else ""
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
