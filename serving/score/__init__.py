"""`quarterturn score`: a folder of images through the graphs without a server, as rows of a file."""
