"""Turn any pile of pictures into a lake that can be searched, queried, learned from and served."""
