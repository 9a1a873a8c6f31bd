"""Our detector beside others: the same images, the same judge, the same machine."""
