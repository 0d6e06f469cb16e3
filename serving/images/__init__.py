"""Images: from the bytes of a file to the pixels a graph takes. The one definition, for serving and training."""
