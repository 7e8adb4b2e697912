"""Image files: listing, decoding, preprocessing and prefetching."""
