"""Read annotations, folders, pictures and splits: what several data formats share."""
