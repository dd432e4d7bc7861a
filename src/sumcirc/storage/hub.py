"""The Hugging Face hub: checks that a repository is available there, or else in the local cache.

By default `transformers` and `datasets` retry an unreachable hub for up to a minute per request,
even if everything is cached. Here each repository is requested once, within `PROBE_SECONDS`. If the
hub does not answer, this process (and its children) go offline: the libraries then read their
caches at once, and what is not cached is refused with a remedy.

Only this file depends on how the libraries are switched offline.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from sumcirc.errors import UserError

log = logging.getLogger(__name__)

PROBE_SECONDS = 5.0  # a connection, the TLS handshake and a small answer take well under a second

Kind = Literal["model", "dataset"]
T = TypeVar("T")

# Each library reads these once, at import; they must be changed if it is imported already.
_OFFLINE_SWITCHES = (
    ("huggingface_hub.constants", "HF_HUB_OFFLINE"),
    ("datasets.config", "HF_HUB_OFFLINE"),
    ("datasets.config", "HF_DATASETS_OFFLINE"),
    ("transformers.utils.hub", "_is_offline_mode"),
)


@dataclass(frozen=True)
class Repository:
    """A model or data set on the hub, or in the local cache of the hub.

    Attributes:
        id: OWNER/NAME.
        kind: `model` or `dataset`.
        revision: the requested branch, tag or commit; None for the default branch.
        online: whether the hub has answered; if not, at most cached files can be read.
        commit: the commit of the revision; None if it is unknown.
        files: names of the repository's files; None if they are unknown.
    """

    id: str
    kind: Kind
    revision: str | None
    online: bool
    commit: str | None
    files: frozenset[str] | None


_offline_because: str | None = None
_found: dict[tuple[str, Kind, str | None], Repository] = {}


def require_hub(
    repo_id: str, setting: str, *, kind: Kind = "model", revision: str | None = None
) -> Repository:
    """Return a hub repository after checking that it can be read.

    The hub is asked once per repository and revision. If it doesn't answer within about
    `PROBE_SECONDS`, hub requests are off for the rest of the process (`go_offline`), and the
    repository is looked up in the local cache.

    Args:
        repo_id: OWNER/NAME.
        setting: the setting that contains `repo_id`, for messages.
        kind: `model` or `dataset`.
        revision: branch, tag or commit; None for the default branch.

    Raises:
        UserError: the id is invalid, the hub has no such repository or revision, access needs a
            login, or a model is neither reachable nor cached. For a data set that is neither, no
            error is raised here, since only `datasets` can tell: the caller raises `not_cached`.
    """
    _check_id(repo_id, setting, kind)
    if not is_offline():
        key = (repo_id, kind, revision)
        try:
            if key not in _found:
                from huggingface_hub import HfApi  # noqa: F401  # not within the seconds

                _found[key] = _within(PROBE_SECONDS, lambda: _ask(repo_id, kind, revision))
            return _found[key]
        except Exception as error:
            _refuse_if_answered(error, repo_id, setting, kind, revision)
            # Any other failure, of whichever HTTP library, means that there was no usable answer.
            go_offline(f"{endpoint()} does not answer ({one_line(error) or type(error).__name__})")
    repository = _in_cache(repo_id, kind, revision)
    if kind == "model" and repository.files is None:
        raise not_cached(repository, setting)
    return repository


def check_upload(repo_id: str, setting: str) -> None:
    """Raise an error if nothing can be uploaded to the hub.

    Args:
        repo_id: OWNER/NAME.
        setting: the setting that contains `repo_id`, for messages.

    Raises:
        UserError: the id is invalid, hub requests are off, or the hub doesn't know the login.
    """
    _check_id(repo_id, setting, "model")
    if is_offline():
        raise UserError(f"{setting}={repo_id}: hub requests are off ({_offline_because})")
    from huggingface_hub import HfApi

    try:
        _within(PROBE_SECONDS, HfApi().whoami)
    except Exception as error:  # of the HTTP library or the hub
        raise UserError(
            f"{setting}={repo_id}: {endpoint()} knows no login of yours that can write"
            f" ({one_line(error)}); run hf auth login, or set HF_TOKEN"
        ) from error


def upload(folder: Path, repo_id: str, private: bool, setting: str) -> str:
    """Upload a model's folder to a hub repository, and return the repository's URL.

    The repository is made if there is none.

    Args:
        folder: the folder.
        repo_id: OWNER/NAME.
        private: whether a new repository is private.
        setting: the setting that contains `repo_id`, for messages.

    Raises:
        UserError: the hub refuses it, or the upload fails.
    """
    from huggingface_hub import HfApi

    try:
        place = HfApi().create_repo(repo_id, private=private, exist_ok=True)
        HfApi().upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload model")
    except Exception as error:  # of the HTTP library or the hub
        raise UserError(
            f"{setting}={repo_id}: the upload failed ({one_line(error)}); try it again with"
            f" hf upload {repo_id} {folder}"
        ) from error
    return str(place)


def is_offline() -> bool:
    """Return whether hub requests are off.

    They are off if an environment variable such as `HF_HUB_OFFLINE` says so, or since the hub did
    not answer.
    """
    if _offline_because is not None:
        return True
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}:
            go_offline(f"{variable}={os.environ[variable]} is set")
            return True
    return False


def go_offline(reason: str) -> None:
    """Make the hub's libraries, here and in child processes, read only the local cache.

    Args:
        reason: why the hub is not used, for messages.
    """
    global _offline_because
    _offline_because = reason
    os.environ["HF_HUB_OFFLINE"] = "1"
    for module, name in _OFFLINE_SWITCHES:
        if module in sys.modules and hasattr(sys.modules[module], name):
            setattr(sys.modules[module], name, True)
    log.warning("hub: %s; only what is in the local cache is used", reason)


def endpoint() -> str:
    """Return the URL of the hub, which the environment variable `HF_ENDPOINT` can change."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def snapshot(
    repo_id: str, kind: Kind, revision: str | None, pattern: str | None = None
) -> Path | None:
    """Return the folder of a repository in the hub's local cache, or None if it is not cached.

    A data set counts as cached only if the cache also has its list of files, which `hf download`
    stores, and all files that match `pattern`: otherwise it would be read as a smaller data set. A
    model that lacks a file is refused when it is loaded.

    Args:
        repo_id: OWNER/NAME.
        kind: `model` or `dataset`.
        revision: branch, tag or commit; None for the default branch.
        pattern: glob pattern of the files that are needed; None for all.
    """
    from huggingface_hub import get_cached_repo_tree, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

    if kind == "model":
        for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
            found = try_to_load_from_cache(repo_id, name, revision=revision)
            if isinstance(found, str):
                return Path(found).parent
        return None
    where = {"repo_type": kind, "revision": revision}
    try:
        get_cached_repo_tree(repo_id, **where)
        return Path(
            snapshot_download(repo_id, allow_patterns=pattern, local_files_only=True, **where)
        )
    except (CachedRepoTreeNotFoundError, LocalEntryNotFoundError):
        return None


def download(repository: Repository, pattern: str, setting: str) -> Path:
    """Download the files of a repository that match a pattern, and return the folder with them.

    Args:
        repository: a result of `require_hub` that is online.
        pattern: glob pattern of file names.
        setting: the setting that contains the id, for messages.

    Raises:
        UserError: the download fails.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repository.id,
                repo_type=repository.kind,
                revision=repository.revision,
                allow_patterns=pattern,
            )
        )
    except Exception as error:  # of the HTTP library, the hub or the disk
        raise UserError(
            f"{setting}={repository.id}: the download broke off ({one_line(error)}); try again"
        ) from error


def not_cached(repository: Repository, setting: str, part: str = "") -> UserError:
    """Return the error for a repository that is neither reachable nor in the local cache.

    Args:
        repository: a result of `require_hub`.
        setting: the setting that contains the id, for the message.
        part: text that follows the id in the message, such as the configuration of a data set.
    """
    option = " --repo-type dataset" if repository.kind == "dataset" else ""
    option += f" --revision {repository.revision}" if repository.revision else ""
    return UserError(
        f"{setting}={repository.id}{part}: not in the local cache, and the hub is not used because "
        f"{_offline_because}; {_local_remedy(repository.kind, setting)}, or fetch it first where "
        f"there is a network: hf download {repository.id}{option}"
    )


def _local_remedy(kind: Kind, setting: str) -> str:
    if kind == "dataset":
        return (
            f"give files (data=files data.train=FILE ...) or a downloaded folder ({setting}=FOLDER)"
        )
    return f"give a folder ({setting}=FOLDER)"


def _check_id(repo_id: str, setting: str, kind: Kind) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise UserError(
            f"{setting}={repo_id}: neither a folder here nor a hub id (OWNER/NAME); "
            f"{_local_remedy(kind, setting)}"
        ) from None


def _ask(repo_id: str, kind: Kind, revision: str | None) -> Repository:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint())
    info = api.repo_info(repo_id, repo_type=kind, revision=revision, timeout=PROBE_SECONDS)
    if getattr(info, "gated", False):  # its description is public, but its files are not
        api.auth_check(repo_id, repo_type=kind)
    if kind == "dataset" and revision is not None:
        # Records in the cache which commit this is, which `load_dataset` doesn't.
        api.resolve_revision(repo_id, repo_type=kind, revision=revision)
    siblings = getattr(info, "siblings", None)
    files = None if siblings is None else frozenset(file.rfilename for file in siblings)
    return Repository(repo_id, kind, revision, True, info.sha, files)


def _in_cache(repo_id: str, kind: Kind, revision: str | None) -> Repository:
    folder = snapshot(repo_id, kind, revision)
    if folder is None:
        commit = _noted_commit(repo_id, kind, revision) if revision else None
        return Repository(repo_id, kind, revision, False, commit, None)
    files = frozenset(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    return Repository(repo_id, kind, revision, False, folder.name, files)


def _noted_commit(repo_id: str, kind: Kind, revision: str) -> str | None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionResolutionError

    try:
        return (
            HfApi()
            .resolve_revision(repo_id, repo_type=kind, revision=revision, local_files_only=True)
            .resolved
        )
    except RevisionResolutionError:
        return None


def _refuse_if_answered(
    error: Exception, repo_id: str, setting: str, kind: Kind, revision: str | None
) -> None:
    """Raise UserError if the hub answered and refused."""
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = "data set" if kind == "dataset" else "model"
    page = f"{endpoint()}/{'datasets/' if kind == 'dataset' else ''}{repo_id}"
    if isinstance(error, GatedRepoError):
        answer = f"access must be granted at {page}; then log in with `hf auth login`"
    elif isinstance(error, RepositoryNotFoundError):
        answer = (
            f"no folder here, and no such {what} on {endpoint()}; check the spelling, "
            "or, if it is private, log in with `hf auth login`"
        )
    elif isinstance(error, RevisionNotFoundError):
        holder = setting.rsplit(".", 1)[0]
        raise UserError(
            f"{holder}.revision={revision}: {what} {repo_id} has no such branch, tag or commit; "
            f"see {page}/tree/main"
        ) from error
    elif isinstance(error, DisabledRepoError):
        answer = f"the hub has disabled this {what}; {_local_remedy(kind, setting)}"
    elif isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        answer = "the hub refuses the stored token; log in again with `hf auth login`"
    else:
        return
    raise UserError(f"{setting}={repo_id}: {answer}") from error


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return the result of a call, or raise TimeoutError; name look-ups ignore HTTP time limits."""
    result: list[T] = []
    failure: list[Exception] = []

    def run() -> None:
        try:
            result.append(call())
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="hub probe", daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not result:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return result[0]


def one_line(error: object, limit: int = 200) -> str:
    """Return the text of an error on one line, shortened to `limit` characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
