"""Trained models that teach others: their logits for a student's images, and label maps of whole data sets."""

from hexavit.teachers.label_maps import LabelMaps
from hexavit.teachers.making import make_label_maps
from hexavit.teachers.sources import load_any_model
from hexavit.teachers.teacher import Teacher, load_teacher

__all__ = ["LabelMaps", "Teacher", "load_any_model", "load_teacher", "make_label_maps"]
