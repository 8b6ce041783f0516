"""Jobs as folders, so written that a process may end at any moment: what was accepted is on the disk whole.

<jobs>/<id>/job.json         what was asked, and the pictures' names; a folder has it from the start
            pictures/0 ...   their files
            journal.jsonl    lines of what was begun and what was found, each synced before it counts
            done             there when every picture has its answer
            lock             held by the process that works on it
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from focus_detr.errors import FocusDetrError
from focus_detr.folders import writable_folder

_ID = re.compile(r"[0-9a-f]{32}")
_HOUR = 3600.0


@dataclass(frozen=True)
class Job:
    """One job's folder."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def asked(self) -> dict[str, Any]:
        """`created` (seconds since 1970), `parameters` and the `names` of the pictures."""
        found: dict[str, Any] = json.loads((self.folder / "job.json").read_text(encoding="utf-8"))
        return found

    def picture(self, index: int) -> bytes:
        return (self.folder / "pictures" / str(index)).read_bytes()

    @property
    def done(self) -> Path:
        """The file that says that nothing is left; its time is when that was."""
        return self.folder / "done"

    def lock(self) -> FileLock:
        """For the one process that works on it."""
        return FileLock(self.folder / "lock")

    def records(self) -> Iterator[dict[str, Any]]:
        """Whole lines of the journal; one that was being written when a process ended is none."""
        try:
            content = (self.folder / "journal.jsonl").read_bytes()
        except FileNotFoundError:
            return
        for line in content.split(b"\n")[:-1]:
            yield json.loads(line)

    def answers(self) -> dict[int, dict[str, Any]]:
        """What was found, by the picture's index."""
        return {each["index"]: each["answer"] for each in self.records() if "answer" in each}

    def begun(self) -> Counter[int]:
        """How often each picture was begun."""
        return Counter(index for each in self.records() for index in each.get("begin", ()))

    def describe(self) -> dict[str, Any]:
        """As `GET /v1/jobs/<id>` says it."""
        asked, answers = self.asked, self.answers()
        done, total = len(answers), len(asked["names"])
        status = "done" if done == total else "running" if done or self.begun() else "queued"
        return {
            "id": self.id,
            "status": status,
            "created": asked["created"],
            "pictures": total,
            "done": done,
            "failed": sum("error" in each for each in answers.values()),
        }

    def append(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write lines that are on the disk when this returns; for who holds the lock."""
        file = self.folder / "journal.jsonl"
        with open(file, "ab") as stream:
            # A line cut short by the end of a process would swallow the next.
            whole = file.read_bytes().rfind(b"\n") + 1 if stream.tell() else 0
            stream.truncate(whole)
            for record in records:
                stream.write(json.dumps(record).encode() + b"\n")
            _sync(stream)


class Journal:
    """The folder of all jobs.

    Args:
        most: jobs that are kept at once, finished ones included.
        hours: that a finished job is kept.
    """

    def __init__(self, folder: Path, most: int = 1000, hours: float = 168.0) -> None:
        self.folder = Path(writable_folder(folder, "jobs"))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FocusDetrError(
                f"jobs {folder}: cannot be made ({error.strerror}); give another place"
            ) from error
        self.most, self.hours = most, hours
        # The time of day, counted on from here: a clock that is set forward must not age what is kept.
        self._clock = time.time() - time.monotonic()

    def accept(self, parameters: Mapping[str, Any], pictures: Sequence[tuple[str, bytes]]) -> Job:
        """A new job, which is on the disk when this returns.

        Raises:
            OSError: the disk is full, or does not take it for another reason; nothing of it is left.
        """
        number = uuid.uuid4().hex
        draft = self.folder / f".{number}"
        try:
            (draft / "pictures").mkdir(parents=True)
            for index, (_, content) in enumerate(pictures):
                _write(draft / "pictures" / str(index), content)
            asked = {
                "created": round(time.time(), 3),
                "parameters": dict(parameters),
                "names": [name for name, _ in pictures],
            }
            _write(draft / "job.json", json.dumps(asked).encode())
            for folder in (draft / "pictures", draft):
                _sync_folder(folder)
            job = Job(draft.rename(self.folder / number))
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        _sync_folder(self.folder)
        return job

    def find(self, number: str) -> Job | None:
        """The job of this id, if there is one."""
        job = Job(self.folder / number)
        return job if _ID.fullmatch(number) and (job.folder / "job.json").is_file() else None

    def jobs(self) -> list[Job]:
        """All of them."""
        return [Job(each) for each in self.folder.iterdir() if _ID.fullmatch(each.name)]

    def unfinished(self) -> list[Job]:
        """Those with something left, oldest first."""
        left = [job for job in self.jobs() if not job.done.exists()]
        return sorted(left, key=lambda job: job.asked["created"])

    @property
    def full(self) -> bool:
        return len(self.jobs()) >= self.most

    def remove(self, job: Job) -> None:
        """Forget a job, worked on or not. It is gone at once: what is left of its folder has another name."""
        grave = self.folder / f".{job.id}-removed"
        try:
            job.folder.rename(grave)
        except OSError:
            return  # another was faster
        shutil.rmtree(grave, ignore_errors=True)

    def tidy(self) -> None:
        """Remove jobs that were finished long ago, and what is left of drafts and removed ones."""
        for each in self.folder.glob(".*"):
            if self._age(each) > _HOUR:
                shutil.rmtree(each, ignore_errors=True)
        for job in self.jobs():
            if job.done.exists() and self._age(job.done) > self.hours * _HOUR:
                self.remove(job)

    def _age(self, file: Path) -> float:
        """Seconds since it was last written."""
        return self._clock + time.monotonic() - file.stat().st_mtime


def _write(file: Path, content: bytes) -> None:
    with open(file, "wb") as stream:
        stream.write(content)
        _sync(stream)


def _sync(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there, and need not be
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
