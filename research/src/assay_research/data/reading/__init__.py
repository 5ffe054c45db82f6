"""Reading of annotations, folders, images and splits, shared by several data formats."""
