"""CvT: variants, checkpoint keys and published weights."""

from hexavit.models.cvt.variants import cvt_vit_pytorch

__all__ = ["cvt_vit_pytorch"]
