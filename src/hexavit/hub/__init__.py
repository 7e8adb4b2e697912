"""Published weights fetched and checked; models written as folders, read back, and shared on the Hugging Face hub."""

from hexavit.hub.pretrained import create_model, load_published
from hexavit.hub.push import push_to_hub
from hexavit.hub.saved_folder import from_pretrained, save_pretrained

__all__ = ["create_model", "from_pretrained", "load_published", "push_to_hub", "save_pretrained"]
