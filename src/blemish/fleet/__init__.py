"""The fleet: many products and millions of images on one machine or many, with Ray."""
