"""`quarterturn calibrate`: a new calibration of a graph on images of one's own, without training."""
