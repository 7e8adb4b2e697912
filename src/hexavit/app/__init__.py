"""A page in the browser: what a model sees, two models side by side, the survey, runs and studies.

`hexavit app` serves it on the loopback interface; it needs `pip install 'hexavit[app]'`.
"""

from hexavit.app.server import serve

__all__ = ["serve"]
