"""The fixtures of boards."""

from __future__ import annotations

from runners.boards import session_sshd, sshd

__all__ = ["session_sshd", "sshd"]
