"""Published weights fetched and checked; models written as folders, read back, and shared on the Hugging Face hub."""

from hexavit.hub.folders import from_pretrained, save_pretrained
from hexavit.hub.pretrained import create_model, load_published
from hexavit.hub.sharing import push_to_hub

__all__ = ["create_model", "from_pretrained", "load_published", "push_to_hub", "save_pretrained"]
