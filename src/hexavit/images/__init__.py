"""Image files: listing, decoding, checksums, preprocessing, prefetching and contact sheets."""
