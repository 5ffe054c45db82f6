"""Finding, reading and resizing of images, shared by training and serving."""
