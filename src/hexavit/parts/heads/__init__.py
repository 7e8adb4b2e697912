"""How the last tokens become an answer."""

from hexavit.parts.heads.heads import ClassTokenHead, Head, PoolHead

__all__ = ["ClassTokenHead", "Head", "PoolHead"]
