"""Serves verified models over the Open Inference Protocol, with canaries."""
