"""The fixtures of boards."""

from __future__ import annotations

from runners.boards import board_job, bundle_of, own_sshd, session_sshd, sshd, tiny_model

__all__ = ["board_job", "bundle_of", "own_sshd", "session_sshd", "sshd", "tiny_model"]
