"""Published weights, fetched and verified; models saved as folders, loaded, and shared on the Hugging Face hub."""

from hexavit import _deprecated
from hexavit.hub.pretrained import load_published
from hexavit.hub.push import push_to_hub
from hexavit.hub.saved_folder import from_pretrained, save_pretrained

__all__ = ["from_pretrained", "load_published", "push_to_hub", "save_pretrained"]

__getattr__ = _deprecated.renamed(__name__, {"create_model": "hexavit.factory.create_model"})
