"""Hosts: how queries are made, decoded and matched. One file each; `HOSTS` knows them by name."""

# Imported for their registration.
from focus_detr.models.hosts import deformable, detr, dino, dn_deformable, salience  # noqa: F401, I001
from focus_detr.models.hosts.base import HOSTS, Host

__all__ = ["HOSTS", "Host"]
