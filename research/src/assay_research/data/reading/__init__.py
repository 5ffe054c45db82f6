"""Read annotations, folders, images and splits: what several data formats share."""
