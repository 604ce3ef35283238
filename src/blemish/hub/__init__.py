"""Pretrained encoders as files: where they lie, what they say of themselves, their licences, and how they are fetched.

Without torch. Nothing here reaches for the network but `fetch`.
"""
