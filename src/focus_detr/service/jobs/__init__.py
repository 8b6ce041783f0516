"""Jobs: pictures that are accepted now and answered later, by this process or by one after it."""

from focus_detr.service.jobs.journal import Job, Journal
from focus_detr.service.jobs.runner import Runner

__all__ = ["Job", "Journal", "Runner"]
